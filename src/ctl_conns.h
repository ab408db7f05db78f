/* SPDX-License-Identifier: ISC */
/*
 * The connections of an answer, with what two answers in a row tell of their rates, in the order that was asked for.
 * Runs in: ctl
 */
#ifndef CTL_CONNS_H
#define CTL_CONNS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ctl_client.h"

struct ctl_conn {
	const struct row_conn *row;	/* of the answer */
	const struct msg_names *names;	/* likewise; NULL: its route is unknown */
	double rates[2];		/* bytes in a second, up and down; below 0: not known */
};

struct ctl_conns {
	struct ctl_conn *list;		/* owned */
	size_t n;
	bool rates;			/* were asked for */
};

/* What `--sort` takes, ended by NULL. */
extern const char *const ctl_sort_names[];
/* Its index; -1: none. */
int ctl_sort_by_name(const char *name);
/* before: an answer from earlier on; NULL: no rates. 0, or -1: no memory. */
int ctl_conns_make(struct ctl_conns *conns, const struct ctl_answer *answer, const struct ctl_answer *before);
/* By the index of ctl_sort_names; greatest first for amounts. */
void ctl_conns_sort(struct ctl_conns *conns, int sort);
void ctl_conns_free(struct ctl_conns *conns);

#endif
