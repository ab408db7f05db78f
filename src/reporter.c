/* SPDX-License-Identifier: ISC */
/*
 * The process that writes the logs.
 * Runs in: reporter
 *
 * Theory of operation: everything arrives through channels. Records are gathered: at a low rate each is written at once, at a high rate the
 * reporter looks at the workers' channels once in a few milliseconds, and the lines of one look go out in one write for each output. The parent's
 * channel is looked at all the time. When it ends, the parent wants us to leave: workers' last records are written first.
 *
 * Signals are ignored: those from a terminal or a service manager reach every process of the group, but when to leave is the parent's choice.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "reporter.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "child_fds.h"
#include "fdutil.h"
#include "log.h"
#include "sandbox.h"

#ifndef SO_PEERGROUPS
#define SO_PEERGROUPS 59		/* Linux 4.13, include/uapi/asm-generic/socket.h */
#endif
#ifndef SYS_epoll_pwait2
#define SYS_epoll_pwait2 441		/* Linux 5.11, the same on all architectures */
#endif

#define KIND_PARENT 0
#define KIND_WORKER 1
#define KIND_CONTROL 2
#define KIND_CONTROL_CLIENT 3
#define KIND_METRICS 4
#define KIND_METRICS_CLIENTS 5

/* Timers: retry, control. */
#define TIMERS 2
#define PARENT_MESSAGES_PER_TURN 64u
/* Far more than any configuration has; a larger number is a mistake. */
#define ROUTES_MAX (1u << 20)
#define SERVICES_MAX ROUTES_MAX
/* Records wait at most this long for others. A channel holds at least 270 messages (kernel default of wmem), so it is emptied in time. */
#define GATHER_MS 10
/* With this many messages in one look, looking again at once is better than waiting. */
#define GATHER_UP_TO 64u
#define RETRY_FIRST (50 * NS_PER_MS)
#define RETRY_LAST NS_PER_S

#define ANY(call) { call, -1, { { -1, 0, 0 }, { -1, 0, 0 }, { -1, 0, 0 } } },
#define ONLY(call, number, bits, wanted) { call, -1, { { number, bits, wanted }, { -1, 0, 0 }, { -1, 0, 0 } } },
static const struct sandbox_rule syscalls[] = {
#include "reporter_syscalls.def"
	{ NULL, 0, { { 0, 0, 0 }, { 0, 0, 0 } } },
};
#undef ANY
#undef ONLY

static int on_settings(void *owner, const void *items, unsigned count, int *fds, unsigned n_fds);
static int on_output(void *owner, const void *items, unsigned count, int *fds, unsigned n_fds);
static int on_names(void *owner, const void *items, unsigned count, int *fds, unsigned n_fds);
static int on_worker(void *owner, const void *items, unsigned count, int *fds, unsigned n_fds);
static int on_gone(void *owner, const void *items, unsigned count, int *fds, unsigned n_fds);
static int on_totals(void *owner, const void *items, unsigned count, int *fds, unsigned n_fds);
static int on_synced(void *owner, const void *items, unsigned count, int *fds, unsigned n_fds);
static int on_leave(void *owner, const void *items, unsigned count, int *fds, unsigned n_fds);
static int on_parent(void *owner, const void *items, unsigned count, int *fds, unsigned n_fds);
static int on_service(void *owner, const void *items, unsigned count, int *fds, unsigned n_fds);
static int on_worker_state(void *owner, const void *items, unsigned count, int *fds, unsigned n_fds);
static int on_listen(void *owner, const void *items, unsigned count, int *fds, unsigned n_fds);
static int on_result(void *owner, const void *items, unsigned count, int *fds, unsigned n_fds);
static int on_level(void *owner, const void *items, unsigned count, int *fds, unsigned n_fds);
static int on_log(void *owner, const void *items, unsigned count, int *fds, unsigned n_fds);

static chan_handler_fn *const handlers[MSG_TYPES] = {
	[MSG_SETTINGS] = on_settings,
	[MSG_OUTPUT] = on_output,
	[MSG_NAMES] = on_names,
	[MSG_WORKER] = on_worker,
	[MSG_GONE] = on_gone,
	[MSG_TOTALS] = on_totals,
	[MSG_SYNCED] = on_synced,
	[MSG_LEAVE] = on_leave,
	[MSG_PARENT] = on_parent,
	[MSG_SERVICE] = on_service,
	[MSG_WORKER_STATE] = on_worker_state,
	[MSG_LISTEN] = on_listen,
	[MSG_RESULT] = on_result,
	[MSG_LEVEL] = on_level,
	[MSG_LOG] = on_log,
};

/* Our own lines. Written at once: the next thing may be the end. */
static void
own_line(void *owner, enum log_level level, const char *text)
{
	struct reporter *reporter = owner;

	sink_log(&reporter->sink, level, "reporter: ", text, strlen(text));
	(void)sink_flush(&reporter->sink);
}

static void
write_answer(void *owner, enum http_path path, struct doc *doc)
{
	struct reporter *reporter = owner;

	if (path == HTTP_PAGE)
		page_write(doc, &reporter->page);
	else
		metrics_write(doc, &reporter->metrics, path == HTTP_METRICS ? METRICS_OPENMETRICS : METRICS_PLAIN);
}

static void
start_metrics(struct reporter *reporter)
{
	if (http_start(&reporter->http, &reporter->loop, KIND_METRICS, KIND_METRICS_CLIENTS, write_answer, reporter) == -1)
		fatal(EXIT_MACHINE, "cannot start the HTTP library");
	page_start(&reporter->page, &reporter->loop, &reporter->metrics);
	reporter->sink.tap = page_log;
	reporter->sink.tap_owner = &reporter->page;
}

static int
on_settings(void *owner, const void *items, unsigned count, int *fds, unsigned n_fds)
{
	struct reporter *reporter = owner;
	const struct msg_settings *settings = items;

	(void)count;
	(void)fds;
	(void)n_fds;
	if (reporter->configured || settings->n_routes > ROUTES_MAX || settings->max_workers > WORKERS_MAX)
		return -1;
	if (access_init(&reporter->access, &reporter->sink, settings->access_format, settings->n_routes) == -1 ||
	    workers_init(&reporter->workers, &reporter->loop, KIND_WORKER, &reporter->sink, &reporter->access, &reporter->totals,
		settings->max_workers) == -1 ||
	    known_init(&reporter->known, settings->max_workers, settings->n_routes) == -1)
		fatal(EXIT_MACHINE, "no memory for %u routes and %u workers", settings->n_routes, settings->max_workers);
	log_set_level((enum log_level)settings->log_level);
	if (settings->flags & SETTINGS_METRICS)
		start_metrics(reporter);
	reporter->one_id = settings->flags & SETTINGS_ONE_ID;
	reporter->configured = true;
	return 0;
}

static int
on_output(void *owner, const void *items, unsigned count, int *fds, unsigned n_fds)
{
	struct reporter *reporter = owner;
	const struct msg_output *output = items;

	(void)count;
	(void)n_fds;
	return sink_set(&reporter->sink, output->id, output->kind, &fds[0]);
}

static int
on_names(void *owner, const void *items, unsigned count, int *fds, unsigned n_fds)
{
	struct reporter *reporter = owner;

	(void)count;
	(void)fds;
	(void)n_fds;
	/* All routes had their names before we served. */
	if (reporter->parent.phase == MSG_SERVING) {
		if (access_rename(&reporter->access, items) == -1 || known_move_route(&reporter->known, items) == -1)
			return -1;
		page_move(&reporter->page, items);
		return 0;
	}
	if (!reporter->configured || access_names(&reporter->access, items) == -1 || known_name_route(&reporter->known, items) == -1)
		return -1;
	totals_name(&reporter->totals, ((const struct msg_names *)items)->service_number, ((const struct msg_names *)items)->service);
	page_names(&reporter->page, items);
	return 0;
}

static int
on_totals(void *owner, const void *items, unsigned count, int *fds, unsigned n_fds)
{
	struct reporter *reporter = owner;
	const struct msg_totals *totals = items;

	(void)count;
	(void)n_fds;
	if (reporter->totals.parent != NULL || totals->n_services > SERVICES_MAX)
		return -1;
	if (totals_map(&reporter->totals, fds) == -1)
		fatal(EXIT_MACHINE, "cannot map the memory for counters");
	if (known_make_services(&reporter->known, totals->n_services) == -1)
		fatal(EXIT_MACHINE, "no memory for %u services", totals->n_services);
	return 0;
}

static int
on_listen(void *owner, const void *items, unsigned count, int *fds, unsigned n_fds)
{
	struct reporter *reporter = owner;
	const struct msg_listen *msg = items;

	(void)count;
	(void)n_fds;
	if (!reporter->configured || (msg->kind != LISTEN_METRICS && msg->kind != LISTEN_CONTROL))
		return -1;
	if (msg->kind == LISTEN_METRICS)
		http_listen(&reporter->http, &fds[0]);
	else if (control_listen(&reporter->control, msg, &fds[0]) == -1)
		log_err("cannot watch the control socket");
	return 0;
}

static int
on_synced(void *owner, const void *items, unsigned count, int *fds, unsigned n_fds)
{
	struct reporter *reporter = owner;

	(void)items;
	(void)count;
	(void)fds;
	(void)n_fds;
	reporter->synced = true;
	http_open(&reporter->http);
	return 0;
}

static int
on_worker(void *owner, const void *items, unsigned count, int *fds, unsigned n_fds)
{
	struct reporter *reporter = owner;

	(void)count;
	(void)n_fds;
	return reporter->configured ? workers_add(&reporter->workers, items, fds) : -1;
}

static int
on_gone(void *owner, const void *items, unsigned count, int *fds, unsigned n_fds)
{
	struct reporter *reporter = owner;
	const struct msg_gone *gone = items;

	(void)count;
	(void)fds;
	(void)n_fds;
	return reporter->configured ? workers_gone(&reporter->workers, gone->index, gone->death) : -1;
}

/* The workers live on, and what their channels hold is for the one that comes after us: only what was read already is ours to write. */
static int
on_leave(void *owner, const void *items, unsigned count, int *fds, unsigned n_fds)
{
	struct reporter *reporter = owner;
	const struct msg_leave *leave = items;
	struct msg_result result = { .number = leave->request, .code = CTL_DONE };

	(void)count;
	(void)fds;
	(void)n_fds;
	(void)snprintf(result.text, sizeof(result.text), "%s", leave->upgrade ? "upgraded" : "reloaded");
	if (leave->request != 0)
		control_on_result(&reporter->control, &result);
	reporter->relieved = reporter->leaving = true;
	return 0;
}

static int
on_parent(void *owner, const void *items, unsigned count, int *fds, unsigned n_fds)
{
	struct reporter *reporter = owner;

	(void)count;
	(void)fds;
	(void)n_fds;
	reporter->known.parent = *(const struct msg_parent *)items;
	return 0;
}

static int
on_service(void *owner, const void *items, unsigned count, int *fds, unsigned n_fds)
{
	struct reporter *reporter = owner;

	(void)count;
	(void)fds;
	(void)n_fds;
	page_flags(&reporter->page, ((const struct msg_service *)items)->number, ((const struct msg_service *)items)->flags);
	return known_service(&reporter->known, items);
}

static int
on_worker_state(void *owner, const void *items, unsigned count, int *fds, unsigned n_fds)
{
	struct reporter *reporter = owner;

	(void)count;
	(void)fds;
	(void)n_fds;
	return known_worker(&reporter->known, items);
}

static int
on_result(void *owner, const void *items, unsigned count, int *fds, unsigned n_fds)
{
	struct reporter *reporter = owner;

	(void)count;
	(void)fds;
	(void)n_fds;
	control_on_result(&reporter->control, items);
	return 0;
}

static int
on_level(void *owner, const void *items, unsigned count, int *fds, unsigned n_fds)
{
	const struct msg_level *level = items;

	(void)owner;
	(void)count;
	(void)fds;
	(void)n_fds;
	if (level->level < LOG_L_ERR || level->level > LOG_L_DEBUG)
		return -1;
	log_set_level((enum log_level)level->level);
	return 0;
}

/* What nsproxyctl gets is what Prometheus would. */
static struct doc *
metrics_text(void *owner)
{
	struct reporter *reporter = owner;
	struct doc *doc = doc_new();

	if (doc != NULL)
		metrics_write(doc, &reporter->metrics, METRICS_OPENMETRICS);
	if (doc == NULL || !doc->failed)
		return doc;
	doc_drop(doc);
	return NULL;
}

/* Asked for by somebody who may. */
static bool
ask_parent(void *owner, const struct msg_request *request)
{
	struct reporter *reporter = owner;

	return chan_send(&reporter->parent, MSG_REQUEST, request, 1, NULL, 0) == 0;
}

static int
on_log(void *owner, const void *items, unsigned count, int *fds, unsigned n_fds)
{
	struct reporter *reporter = owner;
	const struct msg_log *line = items;

	(void)count;
	(void)fds;
	(void)n_fds;
	sink_log(&reporter->sink, line->level, "", line->text, sizeof(line->text));
	return 0;
}

/* errno says why: the parent has gone, which is an order to leave, or it sent what it may not, which cannot be repaired here. */
static void
parent_ended(struct reporter *reporter)
{
	if (errno == EPROTO)
		fatalx(EXIT_MACHINE, "the parent sent a message that is not allowed: %s", reporter->parent.wrong);
	reporter->leaving = true;
}

static void
parent_on_event(void *owner, struct loop_ref ref, uint32_t events)
{
	struct reporter *reporter = owner;

	(void)ref;
	(void)events;
	if (chan_drain(&reporter->parent, PARENT_MESSAGES_PER_TURN) == -1)
		parent_ended(reporter);
}

static void
retry_on_timer(void *owner, void *arg)
{
	(void)owner;
	(void)arg;
	/* Being awake is enough: the turn ends with a flush. */
}

/* SIGXFSZ: a log file at the limit of sizes is an error of write. */
static void
ignore_signals(void)
{
	static const int signals[] = { SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGPIPE, SIGXFSZ };

	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
		(void)signal(signals[i], SIG_IGN);
}

void
reporter_init(struct reporter *reporter)
{
	pid_t parent = getppid();

	sandbox_die_with_parent();
	ignore_signals();
	if (fcntl(CHILD_FD_CHANNEL, F_GETFD) == -1)
		fatalx(EXIT_MACHINE, "this program is started by nsproxy only");
	http_init(&reporter->http);
	reporter->metrics = (struct metrics_source){ .totals = &reporter->totals, .workers = &reporter->workers };
	sink_init(&reporter->sink, parent != 0 ? parent : getpid());
	log_set_sink(own_line, reporter);
	chan_init(&reporter->parent, CHILD_FD_CHANNEL, MSG_R, MSG_P, handlers, reporter);
	reporter->retry.fn = retry_on_timer;
	reporter->retry_after = RETRY_FIRST;
	if (fd_set_cloexec(CHILD_FD_CHANNEL, 1) == -1 || fd_set_nonblocking(CHILD_FD_CHANNEL) == -1 ||
	    loop_init(&reporter->loop, TIMERS + HTTP_TIMERS + PAGE_TIMERS, reporter) == -1)
		fatal(EXIT_MACHINE, "cannot make the event loop");
	if (control_init(&reporter->control, &reporter->loop, KIND_CONTROL, KIND_CONTROL_CLIENT,
		&(struct show_source){ &reporter->known, &reporter->workers, &reporter->totals }, ask_parent, metrics_text, reporter) == -1)
		fatal(EXIT_MACHINE, "no memory for %u clients of the control socket", CONTROL_CLIENTS);
	reporter->known.pid = (uint32_t)getpid();
	reporter->known.uid = getuid();
	reporter->known.gid = getgid();
	loop_on(&reporter->loop, KIND_PARENT, parent_on_event, reporter);
}

void
reporter_prepare(struct reporter *reporter)
{
	while (!reporter->leaving && (!reporter->configured || reporter->access.n_named < reporter->access.n_routes)) {
		if (chan_recv_wait(&reporter->parent) == -1)
			parent_ended(reporter);
	}
	if (!reporter->leaving && loop_add(&reporter->loop, CHILD_FD_CHANNEL, EPOLLIN, (struct loop_ref){ .kind = KIND_PARENT }) == -1)
		fatal(EXIT_MACHINE, "cannot watch the parent's channel");
}

void
reporter_confine(struct reporter *reporter)
{
	struct sandbox_policy policy = { .rules = syscalls, .kill = true, .landlock = true, .landlock_net = true,
		.scope_abstract = true, .max_files = OUTPUTS_MAX + reporter->workers.max + CONTROL_CLIENTS + 32 };
	struct sandbox_result result;
	struct msg_ready ready = { 0 };

	if (reporter->leaving)
		return;
	if (reporter->http.daemon != NULL) {
		policy.more[0] = http_syscalls;
		policy.max_files += HTTP_CLIENTS_MAX + HTTP_FILES;
	}
	sandbox_assert_unprivileged(reporter->one_id);
	sandbox_enter(&policy, &result);
	ready.layers = result.layers;
	ready.landlock_abi = result.landlock_abi;
	ready.syscalls = result.syscalls;
	ready.syscalls_checked = result.syscalls_checked;
	memcpy(ready.why, result.why, sizeof(ready.why));
	reporter->known.own = ready;
	reporter->parent.phase = MSG_SERVING;
	if (chan_send(&reporter->parent, MSG_READY, &ready, 1, NULL, 0) == -1)
		parent_ended(reporter);
}

/* What cannot be told now is told after a later turn; until then the parent keeps what it would send again. */
static void
tell_folded(struct reporter *reporter)
{
	struct msg_folded folded = { .death = reporter->workers.folded };

	if (folded.death != reporter->folded_told && chan_send(&reporter->parent, MSG_FOLDED, &folded, 1, NULL, 0) == 0)
		reporter->folded_told = folded.death;
}

static void
count_lost(struct reporter *reporter)
{
	if (reporter->totals.gone != NULL && reporter->sink.lost != reporter->lost_told)
		(void)atomic_fetch_add(&reporter->totals.gone->lines_lost, reporter->sink.lost - reporter->lost_told);
	reporter->lost_told = reporter->sink.lost;
}

/* The end of a turn: write what there is; come back soon for what could not be written. */
static void
flush(struct reporter *reporter)
{
	bool more = workers_say_losses(&reporter->workers), left = sink_flush(&reporter->sink);

	/* A reader that reads again gets what was held for it as fast as it reads. */
	if (sink_progress(&reporter->sink)) {
		reporter->retry_after = RETRY_FIRST;
		loop_timer_clear(&reporter->loop, &reporter->retry);
	}
	if (left || more) {
		if (reporter->retry.pos != 0)
			return;
		loop_timer_set(&reporter->loop, &reporter->retry, reporter->loop.now + reporter->retry_after);
		reporter->retry_after = reporter->retry_after * 2 < RETRY_LAST ? reporter->retry_after * 2 : RETRY_LAST;
	} else {
		loop_timer_clear(&reporter->loop, &reporter->retry);
		reporter->retry_after = RETRY_FIRST;
	}
}

/* Lets records gather at the workers' side. What the parent says, or its end, is not kept waiting. */
static void
gather(struct reporter *reporter)
{
	struct pollfd pfd = { .fd = reporter->parent.fd, .events = POLLIN };
	uint64_t messages = reporter->workers.messages;

	reporter->workers.messages = 0;
	if (messages > 0 && messages < GATHER_UP_TO && !control_busy(&reporter->control))
		(void)poll(&pfd, 1, GATHER_MS);
}

void
reporter_run(struct reporter *reporter)
{
	while (!reporter->leaving) {
		if (loop_turn(&reporter->loop, LOOP_NEVER) == -1)
			fatal(EXIT_MACHINE, "cannot wait for events");
		flush(reporter);
		tell_folded(reporter);
		count_lost(reporter);
		if (!reporter->leaving)
			gather(reporter);
	}
	control_finish(&reporter->control);
	if (reporter->configured && !reporter->relieved)
		workers_all_gone(&reporter->workers);
	(void)sink_flush(&reporter->sink);
}

void
reporter_free(struct reporter *reporter)
{
	http_free(&reporter->http);
	control_free(&reporter->control);
	workers_free(&reporter->workers);
	totals_unmap(&reporter->totals);
	access_free(&reporter->access);
	known_free(&reporter->known);
	sink_free(&reporter->sink);
	loop_free(&reporter->loop);
	chan_close(&reporter->parent);
}
