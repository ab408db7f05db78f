/* SPDX-License-Identifier: ISC */
/*
 * Guards libconfuse: reads a configuration text first, says everything that is wrong with its form, and passes on only what
 * libconfuse and we understand alike.
 * Runs in: parent
 */
#ifndef PARENT_CONF_TEXT_H
#define PARENT_CONF_TEXT_H

#include <stddef.h>
#include <stdint.h>

#include "parent_conf_draft.h"

/* Which keys of one block were seen, one bit per row of conf_keys. */
struct conf_seen {
	uint64_t keys;
};

/*
 * A copy of text (len bytes, any bytes), allocated, terminated, with the same lines, in which comments and statements with errors are
 * blanks; errors are said with name:line. `top` remembers the top level's keys over all included files. Services are added to the draft.
 */
char *conf_text_guard(struct conf_draft *draft, const char *name, const char *text, size_t len, struct conf_seen *top);

#endif
