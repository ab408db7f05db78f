/* SPDX-License-Identifier: ISC */
/*
 * A configuration being read: the plain structs as far as they are known, and beside each value where it was written.
 * Runs in: parent
 */
#ifndef PARENT_CONF_DRAFT_H
#define PARENT_CONF_DRAFT_H

#include <stdbool.h>
#include <stddef.h>

#include "parent_conf.h"

/* Where a value was written. */
struct conf_where {
	const char *file;		/* lives as long as the draft; NULL: command line */
	int line;
	const char *what;		/* the key, or the option such as "-l"; static */
};

/* A text that a later stage interprets. */
struct draft_value {
	char *text;			/* owned; NULL: not given */
	struct conf_where where;
};

struct draft_endpoint {
	struct draft_value value;
	struct addr_spec spec;
	bool good;			/* spec holds something */
};

struct draft_service {
	struct conf_service out;	/* what needs no later stage is already in here */
	struct conf_where where;
	struct draft_endpoint *listen, *connect;	/* owned */
	size_t n_listen, n_connect;
	struct conf_where *listen_where;	/* owned; beside out.listen, which may be longer than listen */
	struct draft_value source, unix_owner;
	bool has_engine, has_access, has_log_empty, has_wait;	/* else what the top level says */
	bool written;			/* completely: its rules can be checked */
};

struct conf_draft {
	struct conf conf;		/* services and their endpoints come last */
	bool check;			/* -t: whatever is wrong with a file counts as 6 */
	bool pure;			/* fuzzing: include() opens nothing */
	enum exit_code first;		/* of the first error; EXIT_OK: none yet */
	struct draft_service *services;	/* owned */
	size_t n_services;
	struct draft_value user, control_group;
	struct draft_endpoint metrics;
	struct conf_where worker_users_where;
	enum engine_id engine;		/* of services that do not say */
	bool log_empty, wait_for_netns;
	struct conf_where *netns_where;	/* beside conf.netns */
	char **files;			/* owned names that conf_where points to */
	size_t n_files;
};

/* Sets every default. */
void draft_init(struct conf_draft *draft);
/* Frees everything, conf included unless it was moved out (then it is zeroed). */
void draft_free(struct conf_draft *draft);

/*
 * Says one error, "FILE:LINE: KEY: text" or "OPTION: text", and remembers the code of the first one. EXIT_CMDLINE stands for "malformed"
 * and becomes EXIT_CONFIG for what came from a file; so does any code while a file is being checked.
 */
void draft_error(struct conf_draft *draft, const struct conf_where *where, enum exit_code code, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
/* The same without a line: something else said it already. */
void draft_failed(struct conf_draft *draft, const struct conf_where *where, enum exit_code code);
/* "FILE:LINE: " or "" into buf, for those who say errors themselves. */
const char *draft_where_text(const struct conf_where *where, char *buf, size_t size);

/* The draft's own copy of a file name, the same for equal names. */
const char *draft_file(struct conf_draft *draft, const char *name);
/* NULL when there is none. The pointer lasts until the next draft_service_add(). */
struct draft_service *draft_service_find(struct conf_draft *draft, const char *name);
struct draft_service *draft_service_add(struct conf_draft *draft, const char *name, const struct conf_where *where);
/* Replaces what was there. */
void draft_value_set(struct draft_value *value, const char *text, const struct conf_where *where);
/* Index into conf.netns of the namespace written as `name`, added when it is new; -1 with an error said when it cannot be one. */
int draft_netns(struct conf_draft *draft, const char *name, const struct conf_where *where);

/* malloc family that ends the program instead of failing: there is nothing to go on with at start. */
void *draft_grow(void *array, size_t n, size_t size);
char *draft_copy(const char *text);

#endif
