/* SPDX-License-Identifier: ISC */
/*
 * `nsproxyctl top` of a build without ncurses: says so.
 * Runs in: ctl
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "ctl_top.h"

#include "log.h"

enum ctl_exit
top_run(const char *path)
{
	(void)path;
	log_errx("top: this nsproxyctl was built without ncurses; use: watch nsproxyctl services");
	return CTL_EXIT_FAILED;
}
