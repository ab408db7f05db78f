/* SPDX-License-Identifier: ISC */
/*
 * What an unprivileged image does to itself before it serves: assert that it holds nothing, then limits, Landlock, seccomp.
 * Runs in: any
 */
#ifndef SANDBOX_H
#define SANDBOX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sandbox_layer.h"

#define SANDBOX_CHECKS 3

/* One rule: a system call, and the arguments that must be as given. Several rows of one call: any of them. */
struct sandbox_rule {
	const char *name;		/* of the system call */
	int nr;				/* -1: by name; else a number libseccomp may not know */
	struct {
		int8_t arg;		/* 0-5; -1: no check */
		uint64_t mask;		/* compared are the bits of mask; 0: all of them */
		uint64_t value;
	} checks[SANDBOX_CHECKS];
};

struct sandbox_policy {
	const struct sandbox_rule *rules;	/* ended by name == NULL */
	const struct sandbox_rule *more[4];	/* further lists (an engine's, a service's), each ended likewise; NULL: none */
	bool kill;			/* what is not listed kills the process; else EPERM and a log entry of the kernel */
	bool landlock;			/* no files at all */
	bool landlock_net;		/* TCP connect only to `ports`, no bind but to port 0 where `bind` is set */
	bool bind;
	bool scope_abstract;		/* no abstract unix sockets outside */
	const uint16_t *ports;
	size_t n_ports;
	uint64_t max_files;		/* RLIMIT_NOFILE; 0: leave */
	bool no_file_writes;		/* RLIMIT_FSIZE 0 */
};

struct sandbox_result {
	uint32_t layers;		/* bits of enum sandbox_layer that are in force */
	uint32_t landlock_abi;
	uint32_t syscalls, syscalls_checked;
	uint8_t why[16];		/* for each layer that is wanted and is not in force: errno */
};

/* Fatal unless: all five capability sets are empty, no_new_privs is on, and uid is not 0 (one_id: may be). */
void sandbox_assert_unprivileged(bool one_id);
/* Ask to die with the parent, and do so now if it is gone. */
void sandbox_die_with_parent(void);
/* The layers in the order that works. Mandatory ones that fail are fatal and named; best-effort ones are only missing in the result. */
void sandbox_enter(const struct sandbox_policy *policy, struct sandbox_result *result);
/* Only the filter, for the parent, which fails soft and goes on raising capabilities. 0 or -1 with errno. */
int sandbox_filter(const struct sandbox_policy *policy, struct sandbox_result *result);

#endif
