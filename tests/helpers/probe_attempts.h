/* SPDX-License-Identifier: ISC */
/*
 * What probe_worker.c tries.
 * Runs in: worker
 */
#ifndef PROBE_ATTEMPTS_H
#define PROBE_ATTEMPTS_H

#include <stdbool.h>
#include <sys/types.h>

#include "addr.h"

/* What an attempt may know. */
struct probe_context {
	pid_t parent;
	int channel;			/* to the parent */
	struct wire_addr target;	/* of the first route */
};

struct attempt {
	const char *name;
	long nr;			/* of a system call, with these arguments; unless act is set */
	long args[6];
	long (*act)(const struct probe_context *context);	/* -1 with errno: it was stopped */
	bool must_work;			/* a control: allowed, so that "everything was stopped" means something */
};

extern const struct attempt attempts[];
extern const unsigned n_attempts;

/* Makes the attempt's call. */
long probe_call(const struct attempt *attempt);

#endif
