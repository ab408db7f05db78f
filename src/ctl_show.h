/* SPDX-License-Identifier: ISC */
/*
 * Answers as tables for people.
 * Runs in: ctl
 */
#ifndef CTL_SHOW_H
#define CTL_SHOW_H

#include <stdio.h>

#include "ctl_client.h"
#include "ctl_conns.h"

/* What is shown; conns: of `connections` only. */
struct ctl_view {
	const struct ctl_answer *answer;
	const struct ctl_conns *conns;
};

/* Each prints one command's answer. 0, or -1: memory was short. */
int ctl_show_status(const struct ctl_view *view, FILE *out);
int ctl_show_services(const struct ctl_view *view, FILE *out);
int ctl_show_workers(const struct ctl_view *view, FILE *out);
int ctl_show_connections(const struct ctl_view *view, FILE *out);
int ctl_show_privileges(const struct ctl_view *view, FILE *out);
int ctl_show_metrics(const struct ctl_view *view, FILE *out);
/* What an order has brought about. */
int ctl_show_done(const struct ctl_view *view, FILE *out);

#endif
