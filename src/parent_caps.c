/* SPDX-License-Identifier: ISC */
/*
 * The parent's capabilities: which it keeps, and raising one around one use (libcap-ng).
 * Runs in: parent
 *
 * Theory of operation: until caps_confine() the effective set is what we were started with. From then on it is empty, and caps_raise() and
 * caps_lower() bracket each use. libcap-ng keeps one copy of the sets for this process; a forked child goes on from its own copy of that.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "parent_caps.h"

#include <cap-ng.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>

#include "log.h"

/* What serving needs, and for what; a reload is served like the rest, since exec gives nothing back. */
static const struct {
	int cap;
	bool rootless;			/* also in a user namespace that maps a single id */
	bool optional;			/* kept only when caps_want() asked for it, and where we have it */
	const char *what_for;
} serving[] = {
	{ CAP_SYS_ADMIN, true, false, "to enter network namespaces" },
	{ CAP_SETPCAP, true, false, "to empty the bounding set of its children" },
	{ CAP_SETUID, false, false, "to give its children another user" },
	{ CAP_SETGID, false, false, "to give its children another group" },
	{ CAP_KILL, false, false, "to end children that hang" },
	{ CAP_NET_BIND_SERVICE, true, true, "to open ports below 1024 in a public namespace that was made anew, or that a reload adds" },
	{ CAP_CHOWN, false, true, "to give unix sockets that a reload adds to their owner" },
	{ CAP_SYS_PTRACE, true, true, "to look whether /proc/PID/ns/net still is the same namespace" },
	{ CAP_DAC_OVERRIDE, false, true, "to open files and directories of other users again" },
};
#define N_SERVING (sizeof(serving) / sizeof(serving[0]))

static struct {
	bool loaded;			/* libcap-ng has read the sets of this process */
	bool confined;
	uint64_t wanted;		/* bits of optional ones */
} caps;

static void
load(void)
{
	if (!caps.loaded && capng_get_caps_process() != 0)
		fatal(EXIT_NAMESPACE, "cannot read the capabilities of this process (is /proc mounted?)");
	caps.loaded = true;
}

bool
caps_one_id(void)
{
	unsigned long long inside, outside, count;
	FILE *map = fopen("/proc/self/uid_map", "re");
	int n;

	if (map == NULL)
		return false;
	n = fscanf(map, "%llu %llu %llu", &inside, &outside, &count);
	if (n == 3 && count == 1)
		n = fscanf(map, "%llu", &inside) == 1 ? 0 : 3;
	(void)fclose(map);
	return n == 3 && count == 1;
}

/* "CAP_SYS_ADMIN" */
static const char *
name_of(int cap, char buf[40])
{
	const char *name = capng_capability_to_name((unsigned)cap);

	(void)snprintf(buf, 40, "CAP_%s", name != NULL ? name : "?");
	for (char *c = buf; *c != '\0'; c++)
		*c = (char)toupper((unsigned char)*c);
	return buf;
}

bool
caps_check(bool one_id)
{
	char name[40], missing[512] = "";
	size_t used = 0;

	load();
	for (size_t i = 0; i < N_SERVING && used < sizeof(missing); i++) {
		if ((one_id && !serving[i].rootless) || serving[i].optional || capng_have_capability(CAPNG_PERMITTED, (unsigned)serving[i].cap))
			continue;
		used += (size_t)snprintf(missing + used, sizeof(missing) - used, "%s%s (%s)", used > 0 ? ", " : "",
		    name_of(serving[i].cap, name), serving[i].what_for);
	}
	if (used > 0)
		log_errx("capabilities are missing that nsproxy needs: %s; start it as root", missing);
	return used == 0;
}

void
caps_want(int cap)
{
	caps.wanted |= 1ull << cap;
}

/* To be read before the sets are cleared. */
static bool
is_kept(size_t i, bool one_id)
{
	if (one_id && !serving[i].rootless)
		return false;
	return !serving[i].optional ||
	    ((caps.wanted & 1ull << serving[i].cap) && capng_have_capability(CAPNG_PERMITTED, (unsigned)serving[i].cap));
}

void
caps_confine(bool one_id)
{
	bool kept[N_SERVING];

	if (!caps_check(one_id))
		exit(EXIT_NAMESPACE);
	for (size_t i = 0; i < N_SERVING; i++)
		kept[i] = is_kept(i, one_id);
	/* The bounding set is cut first and needs CAP_SETPCAP effective; capng_apply() keeps to that order. */
	capng_clear(CAPNG_SELECT_BOTH);
	for (size_t i = 0; i < N_SERVING; i++) {
		if (kept[i])
			(void)capng_update(CAPNG_ADD, CAPNG_PERMITTED | CAPNG_BOUNDING_SET, (unsigned)serving[i].cap);
	}
	if (capng_apply(CAPNG_SELECT_BOUNDS) != 0)
		fatal(EXIT_NAMESPACE, "cannot cut the bounding set down to what serving needs");
	if (capng_apply(CAPNG_SELECT_CAPS) != 0)
		fatal(EXIT_NAMESPACE, "cannot give up the capabilities that serving does not need");
	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) == -1)
		fatal(EXIT_NAMESPACE, "cannot clear the ambient capabilities");
	caps.confined = true;
}

bool
caps_raise(int cap)
{
	load();
	if (!capng_have_capability(CAPNG_PERMITTED, (unsigned)cap)) {
		errno = EPERM;
		return false;
	}
	if (capng_have_capability(CAPNG_EFFECTIVE, (unsigned)cap))
		return true;
	(void)capng_update(CAPNG_ADD, CAPNG_EFFECTIVE, (unsigned)cap);
	if (capng_apply(CAPNG_SELECT_CAPS) == 0)
		return true;
	(void)capng_update(CAPNG_DROP, CAPNG_EFFECTIVE, (unsigned)cap);
	errno = EPERM;
	return false;
}

void
caps_lower(int cap)
{
	int saved = errno;

	if (caps.confined) {
		(void)capng_update(CAPNG_DROP, CAPNG_EFFECTIVE, (unsigned)cap);
		if (capng_apply(CAPNG_SELECT_CAPS) != 0)
			fatal(EXIT_MACHINE, "cannot lower a capability again");
	}
	errno = saved;
}

int
caps_pass_on(void)
{
	load();
	for (int cap = 0; cap <= CAP_LAST_CAP; cap++) {
		if (capng_have_capability(CAPNG_PERMITTED, (unsigned)cap))
			(void)capng_update(CAPNG_ADD, CAPNG_INHERITABLE, (unsigned)cap);
	}
	if (capng_apply(CAPNG_SELECT_CAPS) != 0)
		return -1;
	for (int cap = 0; cap <= CAP_LAST_CAP; cap++) {
		if (capng_have_capability(CAPNG_PERMITTED, (unsigned)cap) && prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, cap, 0, 0) == -1)
			return -1;
	}
	return 0;
}

void
caps_take_back(void)
{
	int saved = errno;

	(void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	for (int cap = 0; cap <= CAP_LAST_CAP; cap++)
		(void)capng_update(CAPNG_DROP, CAPNG_INHERITABLE, (unsigned)cap);
	if (capng_apply(CAPNG_SELECT_CAPS) != 0)
		fatal(EXIT_MACHINE, "cannot take the capabilities back that a new image would have had");
	errno = saved;
}

/* A namespace that maps one id: nothing to become, and uid 0 must not give capabilities back at exec (securebits). */
static int
drop_with_one_id(const char **step)
{
	*step = "empty the capability sets";
	capng_clear(CAPNG_SELECT_BOTH);
	(void)capng_update(CAPNG_ADD, CAPNG_PERMITTED | CAPNG_EFFECTIVE, CAP_SETPCAP);
	if (capng_apply(CAPNG_SELECT_CAPS) != 0)
		return -1;
	*step = "set the securebits";
	if (capng_lock() != 0)
		return -1;
	*step = "clear the ambient and bounding sets";
	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) == -1 || capng_apply(CAPNG_SELECT_BOUNDS) != 0)
		return -1;
	*step = "empty the capability sets";
	capng_clear(CAPNG_SELECT_BOTH);
	return capng_apply(CAPNG_SELECT_CAPS) == 0 ? 0 : -1;
}

int
caps_drop_for_good(unsigned uid, unsigned gid, bool one_id, const char **step)
{
	int r;

	load();
	if (one_id) {
		r = drop_with_one_id(step);
	} else {
		/* libcap-ng raises what it needs for this and leaves what we ask for: nothing (kernel order: bounding, groups, ids, sets). */
		*step = "change the user and empty the capability sets";
		capng_clear(CAPNG_SELECT_BOTH);
		r = capng_change_id((int)uid, (int)gid, CAPNG_DROP_SUPP_GRP | CAPNG_CLEAR_BOUNDING | CAPNG_CLEAR_AMBIENT);
	}
	if (r != 0)
		return -1;
	*step = "set no_new_privs";
	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
}

void
caps_read(uint64_t *permitted, uint64_t *effective, uint64_t *bounding)
{
	load();
	*permitted = *effective = *bounding = 0;
	for (unsigned cap = 0; cap <= CAP_LAST_CAP; cap++) {
		uint64_t bit = UINT64_C(1) << cap;

		*permitted |= capng_have_capability(CAPNG_PERMITTED, cap) ? bit : 0;
		*effective |= capng_have_capability(CAPNG_EFFECTIVE, cap) ? bit : 0;
		*bounding |= capng_have_capability(CAPNG_BOUNDING_SET, cap) ? bit : 0;
	}
}

void
caps_print(bool one_id)
{
	char name[40];

	for (size_t i = 0; i < N_SERVING; i++) {
		if (!one_id || serving[i].rootless)
			printf("    %s %s%s\n", name_of(serving[i].cap, name), serving[i].what_for,
			    serving[i].optional ? " (only where that may be needed)" : "");
	}
}
