/* SPDX-License-Identifier: ISC */
/*
 * The keys of nsproxy.conf(5): one row each, with the function that takes a value. Command line options go through the same rows.
 * Runs in: parent
 */
#ifndef PARENT_CONF_KEY_H
#define PARENT_CONF_KEY_H

#include <stdbool.h>

#include "parent_conf_draft.h"

enum { KEY_TOP = 1, KEY_SERVICE = 2 };

/* service is NULL at the top level. where->what is the key. Says what is wrong by draft_error(). */
typedef void conf_key_fn(struct conf_draft *draft, struct draft_service *service, const char *text, const struct conf_where *where);

struct conf_key {
	const char *name;
	unsigned scope;			/* KEY_* */
	bool list;
	conf_key_fn *set;
};

/* Ends with a row whose name is NULL. */
extern const struct conf_key conf_keys[];
/* NULL when there is no such key in this scope. */
const struct conf_key *conf_key_find(const char *name, unsigned scope);

/* Service names are shown in logs and travel in messages: 0, or -1 with an error said. */
int conf_key_check_service(struct conf_draft *draft, const char *name, const struct conf_where *where);

#endif
