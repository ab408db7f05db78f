/* SPDX-License-Identifier: ISC */
/*
 * Names to addresses, in the network namespace that they belong to.
 * Runs in: parent
 */
#ifndef PARENT_RESOLVE_H
#define PARENT_RESOLVE_H

#include <stddef.h>
#include <sys/types.h>

#include "addr.h"
#include "parent_netns.h"

#define RESOLVE_MOST 16

struct resolve_job {
	const struct netns *ns;		/* NULL: the one we are in */
	const struct addr_spec *spec;
	uid_t uid;			/* what the child that asks becomes */
	gid_t gid;
	bool one_id;
};

/*
 * Literal addresses are answered here; everything else by a short-lived child without privilege. Fills at most RESOLVE_MOST addresses with
 * spec's first port, in the resolver's order, and returns how many; -1 with `why` filled in.
 */
int resolve(const struct resolve_job *job, struct addr addrs[RESOLVE_MOST], char *why, size_t why_size);

#endif
