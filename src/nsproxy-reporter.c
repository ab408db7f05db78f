/* SPDX-License-Identifier: ISC */
/*
 * nsproxy-reporter: writes the log and the access log of nsproxy, which starts it. Nothing here but the stages.
 * Runs in: reporter
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "reporter.h"

int
main(void)
{
	static struct reporter reporter;

	reporter_init(&reporter);
	reporter_prepare(&reporter);
	reporter_confine(&reporter);
	reporter_run(&reporter);
	reporter_free(&reporter);
	return 0;
}
