/* SPDX-License-Identifier: ISC */
/*
 * The parent's own confinement.
 * Runs in: parent
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "parent_confine.h"

#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#include "parent_caps.h"
#include "parent_digest.h"
#include "sandbox.h"

#define ALLOW(call) { #call, -1, { { -1, 0, 0 }, { -1, 0, 0 }, { -1, 0, 0 } } },
#define CHECK(call, arg, mask, value) { #call, -1, { { (arg), (mask), (value) }, { -1, 0, 0 }, { -1, 0, 0 } } },
static const struct sandbox_rule rules[] = {
#include "parent_syscalls.def"
	{ NULL, 0, { { 0, 0, 0 }, { 0, 0, 0 } } },
};
#undef ALLOW
#undef CHECK

uint64_t
confine_filter(void)
{
	uint64_t digest = DIGEST_FIRST;

	for (const struct sandbox_rule *rule = rules; rule->name != NULL; rule++) {
		digest = digest_add(digest, rule->name, strlen(rule->name) + 1);
		for (unsigned i = 0; i < SANDBOX_CHECKS; i++) {
			digest = digest_add(digest, &rule->checks[i].arg, sizeof(rule->checks[i].arg));
			digest = digest_add(digest, &rule->checks[i].mask, sizeof(rule->checks[i].mask));
			digest = digest_add(digest, &rule->checks[i].value, sizeof(rule->checks[i].value));
		}
	}
	return digest;
}

/* What sandbox_filter() would have said. */
static void
describe(struct sandbox_result *result)
{
	const char *last = "";

	result->layers = 1u << LAYER_SECCOMP;
	for (const struct sandbox_rule *rule = rules; rule->name != NULL; rule++) {
		if (strcmp(rule->name, last) != 0) {
			result->syscalls++;
			result->syscalls_checked += rule->checks[0].arg >= 0;
		}
		last = rule->name;
	}
}

enum exit_code
confine(bool one_id, uint64_t in_force, struct sandbox_result *result)
{
	struct sandbox_policy policy = { .rules = rules, .kill = false };

	memset(result, 0, sizeof(*result));
	caps_confine(one_id);
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == -1) {
		log_err("cannot set no_new_privs");
		return EXIT_MACHINE;
	}
	if (in_force == confine_filter()) {
		describe(result);
		return EXIT_OK;
	}
	if (sandbox_filter(&policy, result) == -1) {
		log_err("cannot load the system call filter of the parent");
		return EXIT_MACHINE;
	}
	log_debug("start", "confined: %u system calls allowed, %u of them with checked arguments", result->syscalls, result->syscalls_checked);
	return EXIT_OK;
}
