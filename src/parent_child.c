/* SPDX-License-Identifier: ISC */
/*
 * All code between fork and exec.
 * Runs in: parent
 *
 * Theory of operation: one table of steps in the order that works. Everything that needs privilege comes first (namespace, pipes beyond the
 * per-user budget), then identity and capabilities go for good, and only then the image is executed, by descriptor and with an empty
 * environment. Nothing here logs, and nothing is repaired: the first failure is written to the pipe, and the process ends.
 *
 * Descriptor numbers: the sources are moved above everything that the image will have, the low numbers are emptied, and then filled in order.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "parent_child.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "child_fds.h"
#include "fdutil.h"
#include "parent_caps.h"
#include "parent_netns.h"

/* The numbers that only the steps before exec use, right above the highest that an image has. */
#define FD_PROGRAM (WORKER_FD_PIPES + 2 * WORKER_PIPES)
#define FD_FAILURE (FD_PROGRAM + 1)
#define FD_ABOVE (FD_FAILURE + 1)

/* Moved copies of the plan's descriptors. */
struct child {
	const struct child_plan *plan;
	int program, netns, failure;
	int fds[3];
	const char *detail;
};

static int
move_up(int fd, int *to)
{
	*to = fd >= 0 ? fcntl(fd, F_DUPFD_CLOEXEC, FD_ABOVE) : fd;
	return fd >= 0 && *to == -1 ? -1 : 0;
}

static int
null_for_stdio(void)
{
	FD_AUTO int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (null == -1)
		return -1;
	for (int fd = 0; fd <= 2; fd++) {
		if (dup2(null, fd) == -1)
			return -1;
	}
	/* dup2() onto itself would have left it close-on-exec; the parent holds 0 to 2 open, so it is above them. */
	return 0;
}

static int
step_number(struct child *child)
{
	const struct child_plan *plan = child->plan;

	if (move_up(child->failure, &child->failure) == -1 || move_up(plan->program, &child->program) == -1 ||
	    move_up(plan->netns, &child->netns) == -1)
		return -1;
	for (unsigned i = 0; i < plan->n_fds; i++) {
		if (move_up(plan->fds[i], &child->fds[i]) == -1)
			return -1;
	}
	child->detail = "/dev/null";
	if (null_for_stdio() == -1)
		return -1;
	child->detail = NULL;
	for (int fd = CHILD_FD_CHANNEL; fd < FD_ABOVE; fd++)
		(void)close(fd);
	for (unsigned i = 0; i < plan->n_fds; i++) {
		if (dup2(child->fds[i], CHILD_FD_CHANNEL + (int)i) == -1)
			return -1;
	}
	return 0;
}

static int
step_netns(struct child *child)
{
	int r;

	if (child->plan->netns == CHILD_STAY)
		return 0;
	if (!caps_raise(CAP_SYS_ADMIN))
		return -1;
	r = child->plan->netns == CHILD_EMPTY ? unshare(CLONE_NEWNET) : netns_enter(child->netns);
	caps_lower(CAP_SYS_ADMIN);
	return r;
}

/* Made while CAP_SYS_ADMIN is effective: the budget of pipe pages for each user does not bite then (pipe(7)). Smaller ones serve as well. */
static int
step_pipes(struct child *child)
{
	bool raised = caps_raise(CAP_SYS_ADMIN);
	int r = 0;

	for (unsigned i = 0; i < child->plan->n_pipes && r == 0; i++) {
		int want = WORKER_FD_PIPES + 2 * (int)i, ends[2];

		r = pipe2(ends, O_NONBLOCK);
		if (r == 0 && (ends[0] != want || ends[1] != want + 1)) {
			errno = EBADF;	/* the numbers below were emptied, so the kernel gives exactly these */
			r = -1;
		}
		if (r == 0)
			(void)fcntl(ends[0], F_SETPIPE_SZ, WORKER_PIPE_SIZE);
	}
	if (raised)
		caps_lower(CAP_SYS_ADMIN);
	return r;
}

/* Best effort, and always permitted upwards. */
static void
be_killed_first(void)
{
	static const char score[] = "500";
	FD_AUTO int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

	if (fd != -1 && write(fd, score, sizeof(score) - 1) == -1)
		return;
}

static int
step_drop(struct child *child)
{
	const struct child_plan *plan = child->plan;

	if (plan->killed_first)
		be_killed_first();
	return caps_drop_for_good(plan->uid, plan->gid, plan->one_id, &child->detail);
}

/* A terminal's or a service manager's signal goes to all of the group, but it is the parent that decides what happens to its children. */
static int
step_signals(struct child *child)
{
	static const int ignored[] = { SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2, SIGQUIT, SIGPIPE };
	sigset_t none;

	child->detail = NULL;
	for (int sig = 1; sig < NSIG; sig++)
		(void)signal(sig, SIG_DFL);
	for (size_t i = 0; i < sizeof(ignored) / sizeof(ignored[0]); i++) {
		if (signal(ignored[i], SIG_IGN) == SIG_ERR)
			return -1;
	}
	(void)sigemptyset(&none);
	return sigprocmask(SIG_SETMASK, &none, NULL);
}

static int
step_exec(struct child *child)
{
	char *const argv[] = { (char *)(uintptr_t)child->plan->title, NULL };
	char *const envp[] = { NULL };

	if (dup3(child->program, FD_PROGRAM, O_CLOEXEC) == -1 || dup3(child->failure, FD_FAILURE, O_CLOEXEC) == -1)
		return -1;
	child->failure = FD_FAILURE;
	if (fd_close_from(FD_ABOVE) == -1)
		return -1;
	return fexecve(FD_PROGRAM, argv, envp);
}

static const struct {
	const char *name;
	int (*run)(struct child *child);
} steps[CHILD_STEPS] = {
	[CHILD_NUMBER] = { "number its descriptors", step_number },
	[CHILD_NETNS] = { "enter its network namespace", step_netns },
	[CHILD_PIPES] = { "make its pipes", step_pipes },
	[CHILD_DROP] = { "drop its privileges", step_drop },
	[CHILD_SIGNALS] = { "reset its signals", step_signals },
	[CHILD_EXEC] = { "execute its program", step_exec },
};

const char *
child_step_name(unsigned step)
{
	return step < CHILD_STEPS ? steps[step].name : "?";
}

void
child_run(const struct child_plan *plan, int failure_fd)
{
	struct child child = { .plan = plan, .failure = failure_fd };
	struct child_failure failure = { 0, 0, "" };

	for (unsigned i = 0; i < CHILD_STEPS; i++) {
		if (steps[i].run(&child) == 0)
			continue;
		failure.step = i;
		failure.err = errno;
		if (child.detail != NULL)
			(void)strncpy(failure.detail, child.detail, sizeof(failure.detail) - 1);
		break;
	}
	if (write(child.failure, &failure, sizeof(failure)) == -1)
		_exit(126);
	_exit(127);
}
