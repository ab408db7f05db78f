/* SPDX-License-Identifier: ISC */
/*
 * Answers as JSON. Keys are never renamed or removed; new ones may come.
 * Runs in: ctl
 */
#ifndef CTL_JSON_H
#define CTL_JSON_H

#include <stdio.h>

#include "ctl_show.h"

/* As the functions of ctl_show.h. */
int ctl_json_status(const struct ctl_view *view, FILE *out);
int ctl_json_services(const struct ctl_view *view, FILE *out);
int ctl_json_workers(const struct ctl_view *view, FILE *out);
int ctl_json_connections(const struct ctl_view *view, FILE *out);
int ctl_json_privileges(const struct ctl_view *view, FILE *out);
int ctl_json_metrics(const struct ctl_view *view, FILE *out);
int ctl_json_done(const struct ctl_view *view, FILE *out);
/* What went wrong, for whoever reads standard output only. */
int ctl_json_error(const char *str, FILE *out);

#endif
