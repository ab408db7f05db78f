/* SPDX-License-Identifier: ISC */
/*
 * Reload and upgrade: a child tries the whole start first.
 * Runs in: parent
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "parent_reload.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fdutil.h"
#include "parent_caps.h"
#include "parent_conf_pack.h"
#include "parent_spawn.h"

/* Names may be asked for, and every worker has its own time to get ready. */
#define TRIAL_MOST (60 * NS_PER_S)

void
reload_init(struct reload *reload, struct loop *loop, uint8_t kind, const struct reload_ops *ops, void *owner, char *const argv[], const char *path)
{
	*reload = (struct reload){ .loop = loop, .kind = kind, .ops = ops, .owner = owner, .argv = argv, .path = path, .program = -1, .log_fd = -1,
		.conf_fd = -1 };
}

static const char *
what(const struct reload *reload)
{
	return reload->upgrade ? "upgrade" : "reload";
}

/* ---- execute ------------------------------------------------------------------------------------------------------------------------ */

/* A trial tells no service manager anything; what a manager opened for the first image is in the state now. */
static bool
is_passed_on(const char *variable, bool trial)
{
	static const char *const managers[] = { "NOTIFY_SOCKET=", "WATCHDOG_", "JOURNAL_STREAM=" };

	if (strncmp(variable, "LISTEN_", strlen("LISTEN_")) == 0)
		return false;
	for (size_t i = 0; i < sizeof(managers) / sizeof(managers[0]) && trial; i++) {
		if (strncmp(variable, managers[i], strlen(managers[i])) == 0)
			return false;
	}
	return true;
}

static char **
make_environment(bool trial, char variable[32])
{
	size_t n = 0, used = 0;
	char **list;

	while (environ != NULL && environ[n] != NULL)
		n++;
	list = calloc(n + 2, sizeof(*list));
	if (list == NULL)
		return NULL;
	for (size_t i = 0; i < n; i++) {
		if (is_passed_on(environ[i], trial))
			list[used++] = environ[i];
	}
	list[used] = variable;
	return list;
}

void
reload_exec(int program, char *const argv[], struct state *state)
{
	bool trial = state->head.purpose == STATE_TRIAL;
	FD_AUTO int fd = state_seal(state);
	char variable[32], **environment;

	if (fd == -1)
		return;
	state_variable(fd, variable);
	environment = make_environment(trial, variable);
	if (environment == NULL || fd_set_cloexec(fd, 0) == -1 || state_set_cloexec(state, 0) == -1 || caps_pass_on() == -1) {
		free(environment);
		return;
	}
	(void)fexecve(program, argv, environment);
	caps_take_back();
	(void)state_set_cloexec(state, 1);
	free(environment);
}

/* ---- the trial ---------------------------------------------------------------------------------------------------------------------- */

static void
close_trial(struct reload *reload)
{
	if (reload->log_fd != -1)
		(void)loop_remove(reload->loop, reload->log_fd);
	fd_close(&reload->log_fd);
	fd_close(&reload->conf_fd);
	fd_close(&reload->program);
	loop_timer_clear(reload->loop, &reload->timer);
	reload->pid = 0;
	reload->used = 0;
}

static void
refuse(struct reload *reload)
{
	const char *name = what(reload);

	log_errx("%s refused, nothing was changed: %s", name, reload->why);
	close_trial(reload);
	reload->phase = RELOAD_IDLE;
	reload->ops->refused(reload->owner, reload->request, reload->why);
	reload_settled(reload);
}

/* "<3>text" as the trial writes it. Its first error is why it fails. */
static void
take_line(struct reload *reload)
{
	const char *text = reload->line;
	int level = LOG_L_NOTICE;

	if (text[0] == '<' && text[1] >= '0' && text[1] <= '7' && text[2] == '>') {
		level = text[1] - '0';
		text += 3;
	}
	if (level <= LOG_L_ERR && reload->why[0] == '\0')
		(void)snprintf(reload->why, sizeof(reload->why), "%s", text);
	log_at((enum log_level)level, "%s: %s", what(reload), text);
}

static void
read_log(struct reload *reload)
{
	char buf[4096];
	ssize_t n;

	while ((n = read(reload->log_fd, buf, sizeof(buf))) > 0) {
		for (ssize_t i = 0; i < n; i++) {
			if (buf[i] != '\n' && reload->used < sizeof(reload->line) - 1) {
				reload->line[reload->used++] = buf[i];
				continue;
			}
			reload->line[reload->used] = '\0';
			take_line(reload);
			reload->used = 0;
			if (buf[i] != '\n')
				reload->line[reload->used++] = buf[i];
		}
	}
	/* At its end there is nothing more to wait for but its exit. */
	if (n == 0)
		(void)loop_remove(reload->loop, reload->log_fd);
}

static void
on_log(void *owner, struct loop_ref ref, uint32_t events)
{
	struct reload *reload = owner;

	(void)events;
	if (reload->log_fd != -1 && ref.generation == (reload->generation & LOOP_GENERATION_MASK))
		read_log(reload);
}

static void
on_timer(void *owner, void *arg)
{
	struct reload *reload = arg;

	(void)owner;
	if (reload->why[0] == '\0')
		(void)snprintf(reload->why, sizeof(reload->why), "the trial did not end within %llu seconds",
		    (unsigned long long)(TRIAL_MOST / NS_PER_S));
	/* Its children end with it. */
	spawn_kill(reload->pid);
}

static void __attribute__((noreturn))
run_trial(const struct reload *reload, struct state *state, int log_fd, pid_t parent)
{
	sigset_t none;

	/* Until it has a loop to be told by, it can be ended like any start. */
	(void)sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() == parent && dup2(log_fd, STDERR_FILENO) != -1)
		reload_exec(reload->program, reload->argv, state);
	log_set_sink(NULL, NULL);
	log_set_journal(true);
	log_err("cannot execute %s", reload->path);
	_exit(EXIT_MACHINE);
}

static int
open_ends(struct reload *reload, int ends[2])
{
	struct loop_ref ref = { .kind = reload->kind, .generation = ++reload->generation & LOOP_GENERATION_MASK };

	reload->program = reload->upgrade ? spawn_open_program(reload->path) : open("/proc/self/exe", O_PATH | O_CLOEXEC);
	reload->conf_fd = memfd_create("nsproxy-configuration", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (reload->program == -1 || reload->conf_fd == -1 || pipe2(ends, O_CLOEXEC | O_NONBLOCK) == -1)
		return -1;
	reload->log_fd = ends[0];
	/* The trial writes its log as to any stderr: it may wait for us. */
	if (fcntl(ends[1], F_SETFL, 0) == -1)
		return -1;
	return loop_add(reload->loop, reload->log_fd, EPOLLIN, ref);
}

static void
try(struct reload *reload)
{
	struct state state = { .head = { .purpose = STATE_TRIAL, .upgrade = reload->upgrade } };
	int ends[2] = { -1, -1 };
	pid_t parent = getpid();

	reload->phase = RELOAD_TRYING;
	reload->why[0] = '\0';
	reload->ops->begun(reload->owner);
	if (open_ends(reload, ends) == 0) {
		reload->ops->keep(reload->owner, &state);
		state_put_fd(&state, "configuration", reload->conf_fd);
		reload->pid = fork();
		if (reload->pid == 0)
			run_trial(reload, &state, ends[1], parent);
		state_free(&state);
	}
	if (reload->program == -1)
		(void)snprintf(reload->why, sizeof(reload->why), "there is no program at %.200s that could be executed", reload->path);
	else if (reload->pid <= 0)
		(void)snprintf(reload->why, sizeof(reload->why), "the trial cannot be started: %s", strerror(errno));
	fd_close(&ends[1]);
	if (reload->pid <= 0) {
		refuse(reload);
		return;
	}
	log_debug("start", "%s: process %d tries it", what(reload), (int)reload->pid);
	reload->timer = (struct loop_timer){ .fn = on_timer, .arg = reload };
	loop_timer_set(reload->loop, &reload->timer, reload->loop->now + TRIAL_MOST);
}

bool
reload_on_exit(struct reload *reload, pid_t pid, int status)
{
	struct spawn_verdict verdict;

	if (reload->pid <= 0 || pid != reload->pid)
		return false;
	if (reload->phase == RELOAD_STOPPED) {
		close_trial(reload);
		return true;
	}
	read_log(reload);
	spawn_verdict(status, -1, &verdict);
	/* One that was told to end by somebody also exits with 0, but leaves nothing. */
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0 && conf_is_stored(reload->conf_fd)) {
		reload->ops->replace(reload->owner, reload->program, reload->conf_fd);
		(void)snprintf(reload->why, sizeof(reload->why), "the program cannot be executed: %s", strerror(errno));
	}
	if (reload->why[0] == '\0')
		(void)snprintf(reload->why, sizeof(reload->why), "the trial %.200s", verdict.text);
	refuse(reload);
	return true;
}

/* ---- one at a time ------------------------------------------------------------------------------------------------------------------ */

int
reload_begin(struct reload *reload, bool upgrade, uint64_t request)
{
	if (reload->phase == RELOAD_STOPPED || (reload->phase != RELOAD_IDLE && request != 0))
		return -1;
	if (reload->phase != RELOAD_IDLE) {
		reload->again |= !upgrade;
		reload->again_upgrade |= upgrade;
		return 0;
	}
	loop_on(reload->loop, reload->kind, on_log, reload);
	reload->upgrade = upgrade;
	reload->request = request;
	try(reload);
	return 0;
}

void
reload_settled(struct reload *reload)
{
	bool upgrade = reload->again_upgrade;

	if (reload->phase == RELOAD_SETTLING)
		reload->phase = RELOAD_IDLE;
	if (reload->phase != RELOAD_IDLE || (!reload->again && !reload->again_upgrade))
		return;
	/* An upgrade reads the configuration as well. */
	reload->again = reload->again_upgrade = false;
	(void)reload_begin(reload, upgrade, 0);
}

void
reload_stop(struct reload *reload)
{
	reload->phase = RELOAD_STOPPED;
	spawn_kill(reload->pid);
}

void
reload_free(struct reload *reload)
{
	fd_close(&reload->log_fd);
	fd_close(&reload->conf_fd);
	fd_close(&reload->program);
}
