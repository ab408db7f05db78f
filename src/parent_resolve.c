/* SPDX-License-Identifier: ISC */
/*
 * Names to addresses, asked by a short-lived child without privilege in the namespace that they belong to.
 * Runs in: parent
 *
 * Theory of operation. The parent must not parse what a name server sends. So it forks; the child enters the namespace, puts the
 * namespace's own resolver files (/etc/netns/NAME, as ip-netns(8) has them) over the usual ones in a mount namespace of its own, gives
 * up its privilege, asks, and writes one fixed-size answer to a pipe. The parent checks that answer like any message from a child.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "parent_resolve.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <netdb.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "fdutil.h"
#include "log.h"
#include "parent_caps.h"

/* Longer than glibc takes to ask two servers twice. */
#define PATIENCE_MS 30000

struct resolve_answer {
	int32_t gai_error;		/* of getaddrinfo(3) */
	int32_t error;			/* errno of a step that failed */
	uint32_t n;
	uint32_t pad;
	char step[80];			/* that failed; "": none did. Terminated; the parent checks */
	struct wire_addr addrs[RESOLVE_MOST];
};
_Static_assert(sizeof(struct resolve_answer) <= 4096, "one write to a pipe must be atomic (pipe(7))");

static int
step_fail(struct resolve_answer *answer, const char *step)
{
	answer->error = errno;
	snprintf(answer->step, sizeof(answer->step), "%s", step);
	return -1;
}

/* Only namespaces with a plain name have files of their own. */
static int
use_own_files(const char *name)
{
	static const char *const files[] = { "resolv.conf", "hosts", "nsswitch.conf" };
	bool own_mounts = false;
	size_t i;

	if (name[0] == '\0' || strchr(name, '/') != NULL || strncmp(name, "pid:", 4) == 0)
		return 0;
	for (i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		char from[320], to[64];

		snprintf(from, sizeof(from), "/etc/netns/%s/%s", name, files[i]);
		snprintf(to, sizeof(to), "/etc/%s", files[i]);
		if (access(from, F_OK) == -1)
			continue;
		if (!own_mounts && (unshare(CLONE_NEWNS) == -1 || mount("", "/", NULL, MS_REC | MS_PRIVATE, NULL) == -1))
			return -1;
		own_mounts = true;
		if (mount(from, to, NULL, MS_BIND, NULL) == -1)
			return -1;
	}
	return 0;
}

/* Child: into the namespace, out of all privilege. */
static int
child_prepare(const struct resolve_job *job, struct resolve_answer *answer)
{
	const char *step = "giving up privilege";

	if (job->ns != NULL) {
		(void)caps_raise(CAP_SYS_ADMIN);
		if (netns_enter(job->ns->fd) == -1)
			return step_fail(answer, "entering the namespace");
		if (use_own_files(job->ns->name) == -1)
			return step_fail(answer, "using the files of /etc/netns");
	}
	/* Who has no privilege to start with cannot give any up. */
	if (caps_drop_for_good(job->uid, job->gid, job->one_id, &step) == -1 && geteuid() == 0)
		return step_fail(answer, step);
	return 0;
}

static void
child_add(struct resolve_answer *answer, const struct addrinfo *info)
{
	struct addr addr;

	if (answer->n == RESOLVE_MOST || info->ai_addrlen > sizeof(addr.u))
		return;
	memset(&addr, 0, sizeof(addr));
	memcpy(&addr.u, info->ai_addr, info->ai_addrlen);
	addr.len = info->ai_addrlen;
	addr_to_wire(&addr, &answer->addrs[answer->n++]);
}

static void
child_ask(const struct addr_spec *spec, struct resolve_answer *answer)
{
	struct addrinfo hints = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM }, *list, *info;
	const char *why = "";
	struct addr addr;

	switch (addr_from_spec(spec, &addr, &why)) {
	case 0:
		addr_to_wire(&addr, &answer->addrs[answer->n++]);
		return;
	case -1:
		snprintf(answer->step, sizeof(answer->step), "%s", why);
		return;
	default:
		break;
	}
	answer->gai_error = getaddrinfo(spec->host, NULL, &hints, &list);
	answer->error = errno;
	if (answer->gai_error != 0)
		return;
	for (info = list; info != NULL; info = info->ai_next)
		child_add(answer, info);
	freeaddrinfo(list);
}

static void __attribute__((noreturn))
child_run(const struct resolve_job *job, int fd, pid_t parent)
{
	struct resolve_answer answer = { .gai_error = 0 };

	if (child_prepare(job, &answer) == 0) {
		/* After the change of identity, which clears it (prctl(2)). */
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(1);
		child_ask(job->spec, &answer);
	}
	_exit(write(fd, &answer, sizeof(answer)) == (ssize_t)sizeof(answer) ? 0 : 1);
}

/* One answer, whole or not at all. */
static int
read_answer(int fd, struct resolve_answer *answer)
{
	struct pollfd wait = { .fd = fd, .events = POLLIN };
	struct timespec now;
	int64_t until, left;
	int ready;

	clock_gettime(CLOCK_MONOTONIC, &now);
	until = (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000 + PATIENCE_MS;
	do {
		clock_gettime(CLOCK_MONOTONIC, &now);
		left = until - ((int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000);
		ready = poll(&wait, 1, left > 0 ? (int)left : 0);
	} while (ready == -1 && errno == EINTR);
	if (ready == 0)
		errno = ETIMEDOUT;
	if (ready != 1)
		return -1;
	if (read(fd, answer, sizeof(*answer)) != (ssize_t)sizeof(*answer)) {
		errno = EPIPE;
		return -1;
	}
	return 0;
}

static int
ask_child(const struct resolve_job *job, struct resolve_answer *answer)
{
	int ends[2], result, saved;
	pid_t pid, self = getpid();

	if (pipe2(ends, O_CLOEXEC) == -1)
		return -1;
	pid = fork();
	if (pid == 0)
		child_run(job, ends[1], self);
	fd_close(&ends[1]);
	result = pid == -1 ? -1 : read_answer(ends[0], answer);
	saved = errno;
	fd_close(&ends[0]);
	if (pid != -1) {
		(void)kill(pid, SIGKILL);
		while (waitpid(pid, NULL, 0) == -1 && errno == EINTR)
			;
	}
	errno = saved;
	return result;
}

/* What the child said is not trusted further than a message would be. */
static int
take_answer(const struct resolve_answer *answer, const struct addr_spec *spec, struct addr addrs[RESOLVE_MOST], char *why, size_t why_size)
{
	uint32_t i, n = answer->n < RESOLVE_MOST ? answer->n : RESOLVE_MOST;

	if (answer->step[0] != '\0') {
		snprintf(why, why_size, "%.*s%s%s", (int)sizeof(answer->step), answer->step, answer->error != 0 ? ": " : "",
		    answer->error != 0 ? strerror(answer->error) : "");
		return -1;
	}
	if (answer->gai_error != 0) {
		snprintf(why, why_size, "%s", answer->gai_error == EAI_SYSTEM ? strerror(answer->error) : gai_strerror(answer->gai_error));
		return -1;
	}
	for (i = 0; i < n; i++) {
		if (addr_from_wire(&answer->addrs[i], &addrs[i]) == -1 || answer->addrs[i].family == AF_UNIX)
			break;
		addr_set_port(&addrs[i], spec->port_first);
	}
	if (i == 0 || i < n) {
		snprintf(why, why_size, "%s", n == 0 ? "it has no address" : "the resolver child answered nonsense");
		return -1;
	}
	return (int)n;
}

int
resolve(const struct resolve_job *job, struct addr addrs[RESOLVE_MOST], char *why, size_t why_size)
{
	struct resolve_answer answer;
	const char *text = "";
	/* The zone of an address is an interface of its namespace. */
	bool elsewhere = job->ns != NULL && job->spec->is_v6_literal && strchr(job->spec->host, '%') != NULL;

	switch (elsewhere ? 1 : addr_from_spec(job->spec, &addrs[0], &text)) {
	case 0:
		return 1;
	case -1:
		snprintf(why, why_size, "%s", text);
		return -1;
	default:
		break;
	}
	if (ask_child(job, &answer) == -1) {
		snprintf(why, why_size, "cannot ask: %s", strerror(errno));
		return -1;
	}
	return take_answer(&answer, job->spec, addrs, why, why_size);
}
