/* SPDX-License-Identifier: ISC */
/*
 * Starting children and telling how they ended.
 * Runs in: parent
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "parent_spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fdutil.h"
#include "loop.h"
#include "parent_caps.h"

/* A child that lived this long did not die of its start. */
#define LIVED (10 * NS_PER_S)
#define BACKOFF_FIRST (100 * NS_PER_MS)
#define BACKOFF_MOST (10 * NS_PER_S)

int
spawn_open_program(const char *path)
{
	FD_AUTO int fd = open(path, O_PATH | O_CLOEXEC);
	struct stat st;

	if (fd == -1 || fstat(fd, &st) == -1) {
		log_errx("cannot open the program %s: %s; it is installed together with nsproxy", path, strerror(errno));
		return -1;
	}
	if (!S_ISREG(st.st_mode) || !(st.st_mode & S_IXOTH)) {
		log_errx("%s is not a program that every user may execute; it should be a regular file of mode 0755", path);
		return -1;
	}
	return fd_take(&fd);
}

struct program_id
spawn_program_id(int fd)
{
	struct stat st;

	if (fstat(fd, &st) == -1)
		return (struct program_id){ 0 };
	return (struct program_id){ .dev = st.st_dev, .ino = st.st_ino, .mtime = (int64_t)st.st_mtim.tv_sec * (int64_t)NS_PER_S + st.st_mtim.tv_nsec };
}

pid_t
spawn(const struct child_plan *plan, int *failure_fd)
{
	int ends[2];
	pid_t pid;

	if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) == -1)
		return -1;
	pid = fork();
	if (pid == 0)
		child_run(plan, ends[1]);
	fd_close(&ends[1]);
	if (pid == -1)
		fd_close(&ends[0]);
	*failure_fd = ends[0];
	return pid;
}

static bool
read_failure(int fd, struct child_failure *failure)
{
	if (fd < 0 || read(fd, failure, sizeof(*failure)) != (ssize_t)sizeof(*failure))
		return false;
	failure->detail[sizeof(failure->detail) - 1] = '\0';
	return true;
}

static void
tell_failure(const struct child_failure *failure, struct spawn_verdict *verdict)
{
	bool forbidden = failure->err == EPERM && (failure->step == CHILD_NETNS || failure->step == CHILD_DROP);

	verdict->code = forbidden || failure->step == CHILD_NETNS ? EXIT_NAMESPACE : EXIT_MACHINE;
	(void)snprintf(verdict->text, sizeof(verdict->text), "cannot %s%s%s%s: %s", child_step_name(failure->step),
	    failure->detail[0] != '\0' ? " (" : "", failure->detail, failure->detail[0] != '\0' ? ")" : "", strerror(failure->err));
}

void
spawn_verdict(int status, int failure_fd, struct spawn_verdict *verdict)
{
	struct child_failure failure;

	verdict->code = EXIT_MACHINE;
	if (read_failure(failure_fd, &failure))
		tell_failure(&failure, verdict);
	else if (WIFSIGNALED(status))
		(void)snprintf(verdict->text, sizeof(verdict->text), "killed by signal %d (%s)%s", WTERMSIG(status), strsignal(WTERMSIG(status)),
		    WTERMSIG(status) == SIGSYS ? ", a system call that its filter forbids" : "");
	else
		(void)snprintf(verdict->text, sizeof(verdict->text), "exited with code %d", WEXITSTATUS(status));
}

void
spawn_kill(pid_t pid)
{
	bool raised;

	if (pid <= 0)
		return;
	raised = caps_raise(CAP_KILL);
	if (kill(pid, SIGKILL) == -1 && errno != ESRCH)
		log_warn("cannot kill the child process %d", (int)pid);
	if (raised)
		caps_lower(CAP_KILL);
}

void
spawn_backoff_started(struct spawn_backoff *backoff, uint64_t now)
{
	backoff->started = now;
}

uint64_t
spawn_backoff_next(struct spawn_backoff *backoff, uint64_t now)
{
	uint64_t wait = backoff->wait;

	if (now - backoff->started >= LIVED) {
		backoff->wait = 0;
		return now;
	}
	backoff->wait = wait == 0 ? BACKOFF_FIRST : wait * 2 < BACKOFF_MOST ? wait * 2 : BACKOFF_MOST;
	return now + wait;
}
