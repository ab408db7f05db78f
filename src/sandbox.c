/* SPDX-License-Identifier: ISC */
/*
 * What an unprivileged image does to itself before it serves.
 * Runs in: any
 *
 * Theory of operation: the image was started without privilege and checks that first. Then, each step assuming the one before: resource
 * limits, not dumpable, no memory that is writable and then executable, Landlock with no file rule at all, and last the system call filter,
 * so that no earlier step needs a call the serving process must not have. Best-effort layers (Landlock, MDWE) only miss in the result.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "fdutil.h"
#include "log.h"

/* What valgrind does in our place no policy allows for: in a build for tests, under it, there are no limits, no Landlock and no filter. */
#if defined(NSPROXY_TEST_HOOKS) && defined(HAVE_VALGRIND_VALGRIND_H)
#include <valgrind/valgrind.h>
#else
#define RUNNING_ON_VALGRIND 0
#endif

#ifndef PR_SET_MDWE
#define PR_SET_MDWE 65			/* Linux 6.3, include/uapi/linux/prctl.h */
#define PR_MDWE_REFUSE_EXEC_GAIN 1
#endif
#ifndef SYS_landlock_create_ruleset
#define SYS_landlock_create_ruleset 444
#define SYS_landlock_add_rule 445
#define SYS_landlock_restrict_self 446
#endif

/* include/uapi/linux/landlock.h; our own, since headers of a distribution are older than the kernels it meets. */
struct landlock_ruleset {
	uint64_t fs, net, scoped;
};
struct landlock_port {
	uint64_t access, port;
};
#define LANDLOCK_VERSION 1u
#define LANDLOCK_RULE_PORT 2
#define LANDLOCK_NET_BIND 1u
#define LANDLOCK_NET_CONNECT 2u
#define LANDLOCK_SCOPE_ABSTRACT 1u
#define LANDLOCK_SCOPE_SIGNAL 2u

void
sandbox_die_with_parent(void)
{
	pid_t parent = getppid();

	/* Set, then look again: a parent that died in between sends no signal (prctl(2)). In a pid namespace of our own it is 0 throughout. */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) == -1)
		fatal(EXIT_MACHINE, "cannot ask to die with the parent: PR_SET_PDEATHSIG");
	if (getppid() != parent)
		_exit(EXIT_MACHINE);
}

/* True when every Cap line of /proc/self/status is zero and NoNewPrivs is 1. */
static bool
status_is_unprivileged(void)
{
	char line[256];
	FILE *status = fopen("/proc/self/status", "re");
	int empty_sets = 0;
	bool nnp = false;

	if (status == NULL)
		fatal(EXIT_MACHINE, "cannot open /proc/self/status to check that no privilege is left");
	while (fgets(line, sizeof(line), status) != NULL) {
		char *colon = strchr(line, ':');

		if (colon == NULL)
			continue;
		if (strncmp(line, "Cap", 3) == 0 && strtoull(colon + 1, NULL, 16) == 0)
			empty_sets++;
		if (strncmp(line, "NoNewPrivs", 10) == 0)
			nnp = strtol(colon + 1, NULL, 10) == 1;
	}
	(void)fclose(status);
	return empty_sets == 5 && nnp;
}

void
sandbox_assert_unprivileged(bool one_id)
{
	if (!status_is_unprivileged())
		fatalx(EXIT_MACHINE, "refusing to run: a capability set is not empty or no_new_privs is off; this program is started by nsproxy only");
	if (!one_id && (getuid() == 0 || geteuid() == 0 || getgroups(0, NULL) != 0))
		fatalx(EXIT_MACHINE, "refusing to run as root or with supplementary groups; this program is started by nsproxy only");
}

static void
limit(int resource, const char *name, rlim_t value)
{
	struct rlimit r = { value, value };

	if (setrlimit(resource, &r) == -1)
		fatal(EXIT_MACHINE, "sandbox: cannot set %s to %llu", name, (unsigned long long)value);
}

static void
set_limits(const struct sandbox_policy *policy)
{
#ifndef NSPROXY_SANITIZED
	limit(RLIMIT_CORE, "RLIMIT_CORE", 0);
	limit(RLIMIT_NPROC, "RLIMIT_NPROC", 0);
	limit(RLIMIT_MEMLOCK, "RLIMIT_MEMLOCK", 0);
#endif
	if (policy->no_file_writes)
		limit(RLIMIT_FSIZE, "RLIMIT_FSIZE", 0);
	if (policy->max_files > 0)
		limit(RLIMIT_NOFILE, "RLIMIT_NOFILE", policy->max_files);
}

static uint64_t
landlock_fs_rights(int abi)
{
	uint64_t rights = (1u << 13) - 1;	/* execute to make_sym: ABI 1 */

	if (abi >= 2)
		rights |= 1u << 13;		/* refer */
	if (abi >= 3)
		rights |= 1u << 14;		/* truncate */
	if (abi >= 5)
		rights |= 1u << 15;		/* ioctl on devices */
	return rights;
}

static int
landlock_allow_port(int ruleset, uint64_t access, uint16_t port)
{
	struct landlock_port rule = { access, port };

	return (int)syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PORT, &rule, 0u);
}

static int
landlock_add_ports(int ruleset, const struct sandbox_policy *policy)
{
	for (size_t i = 0; i < policy->n_ports; i++) {
		if (landlock_allow_port(ruleset, LANDLOCK_NET_CONNECT, policy->ports[i]) == -1)
			return -1;
	}
	/* Binding to a source address with port 0 needs a rule for port 0 (landlock(7)). */
	return policy->bind ? landlock_allow_port(ruleset, LANDLOCK_NET_BIND, 0) : 0;
}

/* The layers of Landlock that the policy asks for, as bits. */
static uint32_t
landlock_wanted(const struct sandbox_policy *policy)
{
	return policy->landlock ? 1u << LAYER_LANDLOCK_FS | 1u << LAYER_LANDLOCK_SCOPE | (policy->landlock_net ? 1u << LAYER_LANDLOCK_NET : 0) : 0;
}

/* Those that are wanted and not in force: error is why. */
static void
say_why(struct sandbox_result *result, uint32_t wanted, int error)
{
	for (unsigned layer = 0; layer < LAYERS; layer++) {
		if ((wanted & ~result->layers) & 1u << layer)
			result->why[layer] = (uint8_t)error;
	}
}

/* errno tells what failed; whatever it did before that is in force. */
static int
restrict_files_and_ports(const struct sandbox_policy *policy, struct sandbox_result *result)
{
	int abi = (int)syscall(SYS_landlock_create_ruleset, NULL, (size_t)0, LANDLOCK_VERSION);
	struct landlock_ruleset attr = { 0, 0, 0 };
	FD_AUTO int ruleset = -1;

	if (abi < 1)
		return -1;
	result->landlock_abi = (uint32_t)abi;
	attr.fs = landlock_fs_rights(abi);
	if (abi >= 4 && policy->landlock_net)
		attr.net = LANDLOCK_NET_BIND | LANDLOCK_NET_CONNECT;
	if (abi >= 6)
		attr.scoped = LANDLOCK_SCOPE_SIGNAL | (policy->scope_abstract ? LANDLOCK_SCOPE_ABSTRACT : 0);
	ruleset = (int)syscall(SYS_landlock_create_ruleset, &attr, sizeof(attr), 0u);
	if (ruleset == -1)
		return -1;
	if (attr.net != 0 && landlock_add_ports(ruleset, policy) == -1)
		fatal(EXIT_MACHINE, "sandbox: cannot add a Landlock rule for a target port");
	if (syscall(SYS_landlock_restrict_self, ruleset, 0u) == -1)
		return -1;
	result->layers |= 1u << LAYER_LANDLOCK_FS;
	if (attr.net != 0)
		result->layers |= 1u << LAYER_LANDLOCK_NET;
	if (attr.scoped != 0)
		result->layers |= 1u << LAYER_LANDLOCK_SCOPE;
	return 0;
}

/* Best effort: whatever this kernel's Landlock can do of it. What an older one lacks is ENOSYS, too. */
static void
enter_landlock(const struct sandbox_policy *policy, struct sandbox_result *result)
{
	int error = ENOSYS;

	if (!policy->landlock)
		return;
	if (restrict_files_and_ports(policy, result) == -1)
		error = errno;
	say_why(result, landlock_wanted(policy), error);
}

static int
add_rule(scmp_filter_ctx filter, const struct sandbox_rule *rule, int nr)
{
	struct scmp_arg_cmp cmp[SANDBOX_CHECKS];
	unsigned n = 0;

	for (unsigned i = 0; i < SANDBOX_CHECKS; i++) {
		if (rule->checks[i].arg < 0)
			continue;
		cmp[n].arg = (unsigned)rule->checks[i].arg;
		cmp[n].op = rule->checks[i].mask != 0 ? SCMP_CMP_MASKED_EQ : SCMP_CMP_EQ;
		cmp[n].datum_a = rule->checks[i].mask != 0 ? rule->checks[i].mask : rule->checks[i].value;
		cmp[n].datum_b = rule->checks[i].mask != 0 ? rule->checks[i].value : 0;
		n++;
	}
	return seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, nr, n, cmp);
}

/* Calls that this architecture lacks are skipped: they cannot be made either. */
static int
add_rules(scmp_filter_ctx filter, const struct sandbox_rule *rules, struct sandbox_result *result)
{
	const char *last = "";

	for (const struct sandbox_rule *rule = rules; rule->name != NULL; rule++) {
		int nr = rule->nr >= 0 ? rule->nr : seccomp_syscall_resolve_name(rule->name);
		int r;

		if (nr < 0)
			continue;
		r = add_rule(filter, rule, nr);
		if (r != 0) {
			errno = -r;
			log_err("sandbox: cannot allow system call %s", rule->name);
			return -1;
		}
		if (strcmp(rule->name, last) != 0) {
			result->syscalls++;
			result->syscalls_checked += rule->checks[0].arg >= 0;
		}
		last = rule->name;
	}
	return 0;
}

#ifdef NSPROXY_SANITIZED
/* The leak check stops the process's threads through ptrace from a clone, which no sandbox lets it do: it would spin for ever. */
const char *__asan_default_options(void);
const char *
__asan_default_options(void)
{
	return "detect_leaks=0";
}

/* What AddressSanitizer and its reports need beyond the policy; never part of a shipped build. */
static const struct sandbox_rule sanitizer_rules[] = {
#define RULE(name) { name, -1, { { -1, 0, 0 }, { -1, 0, 0 }, { -1, 0, 0 } } }
	RULE("mmap"), RULE("munmap"), RULE("mprotect"), RULE("madvise"), RULE("futex"), RULE("sigaltstack"), RULE("getpid"), RULE("gettid"),
	RULE("write"), RULE("sched_yield"), RULE("rt_sigprocmask"), RULE("rt_sigaction"), RULE("readlink"), RULE("openat"), RULE("read"),
	RULE("fstat"), RULE("newfstatat"), RULE("getrandom"), RULE("lseek"), RULE("prctl"), RULE("mremap"), RULE("brk"), RULE("getrusage"),
	RULE("clone"), RULE("wait4"), RULE("ptrace"), RULE("getdents64"), RULE("getdents"), RULE("exit"), RULE("process_vm_readv"), RULE("ioctl"),
	RULE("prlimit64"), RULE("sched_getaffinity"), RULE("set_robust_list"), RULE("rseq"), RULE("tgkill"), RULE("pipe2"), RULE("readlinkat"),
	{ NULL, 0, { { 0, 0, 0 }, { 0, 0, 0 } } },
#undef RULE
};
#endif

static int
set_attributes(scmp_filter_ctx filter, const struct sandbox_policy *policy)
{
	int r = seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, policy->kill ? SCMP_ACT_KILL_PROCESS : SCMP_ACT_ERRNO(EPERM));

	if (r == 0)
		r = seccomp_attr_set(filter, SCMP_FLTATR_CTL_LOG, 1);
	if (r == 0)
		r = seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2);
#ifdef NSPROXY_TEST_HOOKS
	/* strace's injection shows the filter call number -1. */
	if (r == 0)
		r = seccomp_attr_set(filter, SCMP_FLTATR_API_TSKIP, 1);
	if (r == 0)
		r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, -1, 0);
#endif
	return r;
}

static int
fill_filter(scmp_filter_ctx filter, const struct sandbox_policy *policy, struct sandbox_result *result)
{
	int r = set_attributes(filter, policy);

	if (r != 0) {
		errno = -r;
		return -1;
	}
	if (add_rules(filter, policy->rules, result) == -1)
		return -1;
	for (size_t i = 0; i < sizeof(policy->more) / sizeof(policy->more[0]); i++) {
		if (policy->more[i] != NULL && add_rules(filter, policy->more[i], result) == -1)
			return -1;
	}
#ifdef NSPROXY_SANITIZED
	if (add_rules(filter, sanitizer_rules, &(struct sandbox_result){ 0 }) == -1)
		return -1;
#endif
	r = seccomp_load(filter);
	if (r != 0) {
		errno = -r;
		return -1;
	}
	return 0;
}

int
sandbox_filter(const struct sandbox_policy *policy, struct sandbox_result *result)
{
	scmp_filter_ctx filter;
	int r;

	if (RUNNING_ON_VALGRIND)
		return 0;
	filter = seccomp_init(policy->kill ? SCMP_ACT_KILL_PROCESS : SCMP_ACT_ERRNO(EPERM));
	if (filter == NULL) {
		errno = ENOMEM;
		return -1;
	}
	r = fill_filter(filter, policy, result);
	/* Once it is loaded, giving memory back could need a call that it kills for; the few kilobytes stay until the process ends. */
	if (r == 0)
		result->layers |= 1u << LAYER_SECCOMP;
	else
		seccomp_release(filter);
	return r;
}

void
sandbox_enter(const struct sandbox_policy *policy, struct sandbox_result *result)
{
	memset(result, 0, sizeof(*result));
	result->layers = 1u << LAYER_CAPS | 1u << LAYER_NNP;
	if (getuid() != 0)
		result->layers |= 1u << LAYER_IDS;
	else
		say_why(result, 1u << LAYER_IDS, EPERM);
	if (RUNNING_ON_VALGRIND)
		return;
	set_limits(policy);
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == -1)
		fatal(EXIT_MACHINE, "sandbox: cannot make this process undumpable");
	result->layers |= 1u << LAYER_DUMPABLE | 1u << LAYER_LIMITS;
#ifndef NSPROXY_SANITIZED
	if (prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0) == 0)
		result->layers |= 1u << LAYER_MDWE;
	else
		say_why(result, 1u << LAYER_MDWE, errno);
	enter_landlock(policy, result);
#else
	(void)enter_landlock;
#endif
	if (sandbox_filter(policy, result) == -1)
		fatal(EXIT_MACHINE, "sandbox: cannot load the system call filter");
}
