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
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "parent_caps.h"
#include "parent_conf_check.h"

#ifndef MICROHTTPD_VERSION
#define MICROHTTPD_VERSION ""
#endif

#ifndef SYS_landlock_create_ruleset
#define SYS_landlock_create_ruleset 444	/* Linux 5.13, the same on all architectures */
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

/* The namespaces that workers will live in, each once. */
static void
report_places(const struct conf *conf)
{
	for (size_t n = 0; n < conf->n_netns; n++) {
		bool used = false;

		for (size_t s = 0; s < conf->n_services; s++)
			used |= conf->services[s].connect.netns == n;
		if (used)
			printf("  network namespace: %s (%s)\n", conf->netns[n].name[0] != '\0' ? conf->netns[n].name : "that of nsproxy's start",
			    conf->netns[n].path);
	}
}

/* What this kernel can do of the layers that are not mandatory, and what it lacks. */
static void
report_layers(void)
{
	long abi = syscall(SYS_landlock_create_ruleset, NULL, (size_t)0, 1u);	/* LANDLOCK_CREATE_RULESET_VERSION */

	printf("  layers: no_new_privs, seccomp (kills), not dumpable, limits");
	if (abi < 1)
		printf("\n  missing here: Landlock (%s)\n", strerror(errno));
	else
		printf(", Landlock ABI %ld: no files%s%s\n", abi, abi >= 4 ? ", target ports only" : "", abi >= 6 ? ", scopes" : "");
	if (abi >= 1 && abi < 6)
		printf("  missing here: what of Landlock needs ABI %d\n", abi < 4 ? 4 : 6);
	printf("  and memory that was writable never gets executable, where the kernel is 6.3 or later\n");
}

/* rw bits as control-mode has them for one class of callers. */
static const char *
rights(mode_t bits)
{
	return bits & 2 ? "may look and change things" : bits & 4 ? "may look" : "may do nothing";
}

static void
report_control(const struct conf *conf)
{
	if (conf->control == NULL || conf->control[0] == '\0')
		printf("control socket: none\n");
	else
		printf("control socket: %s\n  root %s, gid %u %s, others %s\n", conf->control, rights(2), conf->control_gid,
		    rights(conf->control_mode >> 3), rights(conf->control_mode));
}

void
report_privileges(const struct conf *conf)
{
	printf("parent (nsproxy)\n");
	printf("  uid %u, gid %u\n", geteuid(), getegid());
	printf("  capabilities effective: none while it serves, but around the call that needs one\n  capabilities permitted, and the bounding set:\n");
	caps_print(conf->one_id);
	printf("  layers: no_new_privs, seccomp (answers an error), bounding set cut\n");
	printf("worker (nsproxy-worker), %u in each private namespace\n", conf->workers);
	report_places(conf);
	if (conf->worker_uid_first <= conf->worker_uid_last)
		printf("  uid %u-%u, one for each worker, gid %u, no other groups\n", conf->worker_uid_first, conf->worker_uid_last, conf->gid);
	else
		report_ids(conf, conf->uid, conf->gid);
	printf("  capabilities: none, bounding set empty\n");
	report_layers();
	printf("reporter (nsproxy-reporter)\n  network namespace: its own, empty\n");
	report_ids(conf, conf->uid, conf->gid);
	printf("  capabilities: none, bounding set empty\n");
	report_layers();
	report_control(conf);
	printf("How many system calls each may make, and what is in force, is told by nsproxyctl privileges once it runs.\n");
}

enum exit_code
report_flush(void)
{
	if (fflush(stdout) == 0 && !ferror(stdout))
		return EXIT_OK;
	log_err("cannot write to standard output");
	return EXIT_MACHINE;
}
