/* SPDX-License-Identifier: ISC */
/*
 * `nsproxyctl top`: a live screen.
 * Runs in: ctl
 */
#ifndef CTL_TOP_H
#define CTL_TOP_H

#include "ctl_client.h"

/* Until its user quits. The exit code; whatever is not CTL_EXIT_DONE has been said on stderr. Without ncurses in this build it only says that. */
enum ctl_exit top_run(const char *path);

#endif
