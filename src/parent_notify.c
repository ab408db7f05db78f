/* SPDX-License-Identifier: ISC */
/*
 * Telling the outside how we are.
 * Runs in: parent
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "parent_notify.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fdutil.h"
#include "loop.h"

/* The starter's end: it knows nothing but what comes through the pipe, and its child's exit code when nothing does. */
static void __attribute__((noreturn))
starter_wait(pid_t child, int pipe_fd)
{
	char ready;
	ssize_t n;
	int status;

	do
		n = read(pipe_fd, &ready, 1);
	while (n == -1 && errno == EINTR);
	if (n == 1)
		_exit(EXIT_OK);
	while (waitpid(child, &status, 0) == -1 && errno == EINTR)
		continue;
	_exit(WIFEXITED(status) ? WEXITSTATUS(status) : EXIT_MACHINE);
}

static int
go_to_background(struct notify *notify)
{
	int ends[2];
	pid_t pid;

	if (pipe2(ends, O_CLOEXEC) == -1 || (pid = fork()) == -1) {
		log_err("cannot go to the background");
		return -1;
	}
	if (pid > 0) {
		(void)close(ends[1]);
		starter_wait(pid, ends[0]);
	}
	fd_close(&ends[0]);
	notify->starter = ends[1];
	if (setsid() == -1)
		log_warn("cannot leave the terminal's session");
	return 0;
}

/* "/path" or "@abstract". The socket is the manager's; we are in its namespace here. */
static int
connect_manager(const char *name)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	size_t len = strlen(name);
	FD_AUTO int fd = -1;

	if (len < 2 || len >= sizeof(un.sun_path) || (name[0] != '/' && name[0] != '@')) {
		log_warnx("NOTIFY_SOCKET is no socket address: %s", name);
		return -1;
	}
	memcpy(un.sun_path, name, len);
	if (name[0] == '@')
		un.sun_path[0] = '\0';
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd == -1 || connect(fd, (struct sockaddr *)&un, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len)) == -1) {
		log_warn("cannot reach the service manager at %s", name);
		return -1;
	}
	return fd_take(&fd);
}

/* WATCHDOG_PID is ours, or says nothing (sd_watchdog_enabled(3)). */
static uint64_t
watchdog_period(void)
{
	const char *usec = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");

	if (usec == NULL || (pid != NULL && strtol(pid, NULL, 10) != (long)getpid()))
		return 0;
	return strtoull(usec, NULL, 10) * 1000;
}

int
notify_init(struct notify *notify, bool background, bool keep_stderr, const char *pidfile)
{
	const char *name = getenv("NOTIFY_SOCKET");

	*notify = (struct notify){ .manager = -1, .starter = -1, .pidfile = pidfile, .keep_stderr = keep_stderr };
	if (background && go_to_background(notify) == -1)
		return -1;
	if (name != NULL && name[0] != '\0')
		notify->manager = connect_manager(name);
	if (notify->manager != -1)
		notify->watchdog_ns = watchdog_period();
	return 0;
}

/* Never blocks; a manager that does not listen misses it. */
static void
tell(struct notify *notify, const char *text)
{
	if (notify->manager != -1 && send(notify->manager, text, strlen(text), MSG_NOSIGNAL | MSG_DONTWAIT) == -1)
		log_debug("start", "the service manager was not told '%s': %s", text, strerror(errno));
}

/* Under a name of its own first, so that nobody reads half a number. */
static int
write_pidfile(struct notify *notify)
{
	char name[4096], text[32];
	int n = snprintf(name, sizeof(name), "%s.new", notify->pidfile);
	int len = snprintf(text, sizeof(text), "%d\n", (int)getpid());
	FD_AUTO int fd = -1;

	if (n < 0 || (size_t)n >= sizeof(name)) {
		errno = ENAMETOOLONG;
		return -1;
	}
	(void)unlink(name);
	fd = open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0644);
	if (fd == -1)
		return -1;
	if (write(fd, text, (size_t)len) != len || rename(name, notify->pidfile) == -1) {
		int saved = errno;

		(void)unlink(name);
		errno = saved;
		return -1;
	}
	notify->pidfile_made = true;
	return 0;
}

/* As nginx does: a terminal or a script that waits for our output is let go, but a log that goes to stderr goes on. */
static void
release_stdio(const struct notify *notify)
{
	FD_AUTO int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (null == -1)
		return;
	(void)dup2(null, STDIN_FILENO);
	(void)dup2(null, STDOUT_FILENO);
	if (!notify->keep_stderr)
		(void)dup2(null, STDERR_FILENO);
}

int
notify_pidfile(struct notify *notify)
{
	if (notify->pidfile == NULL || notify->pidfile_made || write_pidfile(notify) == 0)
		return 0;
	log_err("cannot write the pid file %s", notify->pidfile);
	return -1;
}

void
notify_ready(struct notify *notify, const char *status)
{
	char text[512];

	(void)snprintf(text, sizeof(text), "READY=1\nSTATUS=%s\nMAINPID=%d", status, (int)getpid());
	tell(notify, text);
	if (notify->starter != -1) {
		release_stdio(notify);
		if (write(notify->starter, "", 1) == -1)
			log_debug("start", "the starter has gone");
		fd_close(&notify->starter);
	}
}

void
notify_status(struct notify *notify, const char *status)
{
	char text[512];

	(void)snprintf(text, sizeof(text), "STATUS=%s", status);
	tell(notify, text);
}

void
notify_reloading(struct notify *notify)
{
	char text[64];

	(void)snprintf(text, sizeof(text), "RELOADING=1\nMONOTONIC_USEC=%llu", (unsigned long long)(loop_clock() / 1000));
	tell(notify, text);
}

void
notify_reloaded(struct notify *notify, const char *status)
{
	char text[512];

	(void)snprintf(text, sizeof(text), "READY=1\nSTATUS=%s", status);
	tell(notify, text);
}

void
notify_init_trial(struct notify *notify)
{
	*notify = (struct notify){ .manager = -1, .starter = -1 };
}

void
notify_adopt(struct notify *notify, struct state *state, bool keep_stderr, const char *pidfile)
{
	*notify = (struct notify){ .manager = state_take_fd(state, "manager"), .starter = -1, .watchdog_ns = state->head.watchdog_ns, .pidfile = pidfile,
		.pidfile_made = state->head.pidfile_made, .keep_stderr = keep_stderr };
}

void
notify_keep(const struct notify *notify, struct state *state)
{
	state_put_fd(state, "manager", notify->manager);
	state->head.watchdog_ns = notify->watchdog_ns;
	state->head.pidfile_made = notify->pidfile_made;
}

void
notify_alive(struct notify *notify)
{
	tell(notify, "WATCHDOG=1");
}

void
notify_stopping(struct notify *notify)
{
	tell(notify, "STOPPING=1\nSTATUS=Finishing connections");
}

void
notify_free(struct notify *notify)
{
	if (notify->pidfile_made && unlink(notify->pidfile) == -1)
		log_warn("cannot remove the pid file %s", notify->pidfile);
	notify->pidfile_made = false;
	fd_close(&notify->manager);
	fd_close(&notify->starter);
}
