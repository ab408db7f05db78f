/* SPDX-License-Identifier: ISC */
/*
 * What is printed for people before anything starts: -V and `-t -v`.
 * Runs in: parent
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "parent_report.h"

#include <confuse.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "parent_conf_check.h"

#ifndef MICROHTTPD_VERSION
#define MICROHTTPD_VERSION ""
#endif

/* Would its probe say yes? A call that cannot succeed tells by its errno whether this kernel, or a filter around us, has it at all. */
static bool
usable_here(enum engine_id engine)
{
	errno = 0;
	if (engine == ENGINE_SPLICE)
		(void)splice(-1, NULL, -1, NULL, 1, 0);
	else if (engine == ENGINE_IO_URING)
		(void)syscall(SYS_io_uring_setup, 0, NULL);
	return errno != ENOSYS && errno != EPERM;
}

void
report_version(void)
{
	unsigned engine;

	printf("nsproxy %s\nengines:", PACKAGE_VERSION);
	for (engine = 0; engine < ENGINES; engine++)
		if (engine_compiled_in((enum engine_id)engine))
			printf(" %s%s", engine_name(engine), usable_here((enum engine_id)engine) ? "" : " (not usable here)");
	printf("\nlibraries: libcap-ng %s, libseccomp %s, libconfuse %s (running with %s)", CAPNG_VERSION, SECCOMP_VERSION, CONFUSE_VERSION,
	    confuse_version);
	if (metrics_compiled_in())
		printf(", libmicrohttpd %s", MICROHTTPD_VERSION);
	printf("\n");
}

static void
report_ids(const struct conf *conf, unsigned uid, unsigned gid)
{
	printf("  uid %u, gid %u%s\n", uid, gid, conf->one_id ? " (the only ids of this user namespace)" : ", no other groups");
}

void
report_privileges(const struct conf *conf)
{
	printf("parent (nsproxy)\n");
	printf("  uid %u, gid %u\n", geteuid(), getegid());
	printf("  capabilities: none effective while it serves; permitted: only what starting workers, entering namespaces and low ports need\n"
	    "  layers: no_new_privs, seccomp (answers an error), bounding set cut\n");
	printf("worker (nsproxy-worker), %u in each private namespace\n", conf->workers);
	if (conf->worker_uid_first <= conf->worker_uid_last)
		printf("  uid %u-%u, one for each worker, gid %u, no other groups\n", conf->worker_uid_first, conf->worker_uid_last, conf->gid);
	else
		report_ids(conf, conf->uid, conf->gid);
	printf("  capabilities: none, bounding set empty\n"
	    "  layers: no_new_privs, seccomp (kills), not dumpable, limits; Landlock and MDWE where the kernel has them\n");
	printf("reporter (nsproxy-reporter)\n");
	report_ids(conf, conf->uid, conf->gid);
	printf("  capabilities: none, bounding set empty\n"
	    "  layers: empty network namespace, no_new_privs, seccomp (kills), not dumpable, limits; Landlock where the kernel has it\n");
}

enum exit_code
report_flush(void)
{
	if (fflush(stdout) == 0 && !ferror(stdout))
		return EXIT_OK;
	log_err("cannot write to standard output");
	return EXIT_MACHINE;
}
