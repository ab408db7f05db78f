/* SPDX-License-Identifier: ISC */
/*
 * One worker: what it holds and the stages of its life.
 * Runs in: worker
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "worker.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "child_fds.h"
#include "fdutil.h"
#include "log.h"
#include "sandbox.h"
#include "worker_intake.h"
#include "worker_order.h"
#include "worker_relay.h"

/* Timers beside one for each connection and each service: report, drain, trim. */
#define OTHER_TIMERS 3u
/* Descriptors beside two for each connection, the pipes and the directories: 0-2, channels, epoll, and some air for those under way. */
#define OTHER_FDS (16u + MSG_MAX_FDS)
/* Messages of the parent in one turn, so that a burst of clients does not starve those that are being served. */
#define MESSAGES_AT_ONCE 8u
/* ns between looks at memory that a burst left. */
#define TRIM_EVERY (2 * NS_PER_S)

#define ALLOW(call) { #call, -1, { { -1, 0, 0 }, { -1, 0, 0 }, { -1, 0, 0 } } },
#define CHECK1(call, a, v) { #call, -1, { { (a), 0, (v) }, { -1, 0, 0 }, { -1, 0, 0 } } },
#define CHECK2(call, a, v, b, w) { #call, -1, { { (a), 0, (v) }, { (b), 0, (w) }, { -1, 0, 0 } } },
#define CHECK3(call, a, v, b, w, c, x) { #call, -1, { { (a), 0, (v) }, { (b), 0, (w) }, { (c), 0, (x) } } },
#define END_OF_RULES { NULL, 0, { { 0, 0, 0 }, { 0, 0, 0 } } }
static const struct sandbox_rule base_rules[] = {
#include "worker_syscalls.def"
	END_OF_RULES,
};
/* Only for a worker that has a service with a source address. */
static const struct sandbox_rule source_rules[] = {
	ALLOW(bind)
	CHECK2(setsockopt, 1, IPPROTO_IP, 2, IP_BIND_ADDRESS_NO_PORT)
	END_OF_RULES,
};
/* Only for a worker that has a service with a unix target. */
static const struct sandbox_rule unix_rules[] = {
	ALLOW(fchdir)
	CHECK2(socket, 0, AF_UNIX, 1, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC)
	END_OF_RULES,
};
#undef ALLOW
#undef CHECK1
#undef CHECK2
#undef CHECK3

static int
on_hello(void *owner, const void *items, unsigned count, int *fds, unsigned n_fds)
{
	struct worker *worker = owner;

	(void)count, (void)fds, (void)n_fds;
	if (worker->hello.max_conns != 0)
		return -1;
	worker->hello = *(const struct msg_hello *)items;
	return worker->hello.max_conns != 0 ? 0 : -1;
}

static int
on_route(void *owner, const void *items, unsigned count, int *fds, unsigned n_fds)
{
	struct worker *worker = owner;
	const struct msg_route *routes = items;

	(void)fds, (void)n_fds;
	for (unsigned i = 0; i < count; i++) {
		if (routes[i].service >= worker->hello.n_services || routes_add(&worker->routes, &routes[i]) == -1)
			return -1;
	}
	return 0;
}

static int
on_dir(void *owner, const void *items, unsigned count, int *fds, unsigned n_fds)
{
	struct worker *worker = owner;

	(void)count, (void)n_fds;
	if (worker->hello.n_dirs == 0 || routes_set_dir(&worker->routes, ((const struct msg_dir *)items)->route, fds) == -1)
		return -1;
	worker->hello.n_dirs--;
	return 0;
}

/* The parent asks once. What its channel does not take now (it is full, or the kernel short of memory) it gets as soon as it does. */
static void
answer_ping(struct worker *worker)
{
	bool owed = worker->owes_pong;

	worker->owes_pong = chan_send(&worker->parent, MSG_PONG, &worker->pong, 1, NULL, 0) == -1;
	if (worker->owes_pong != owed)
		(void)loop_modify(&worker->loop, worker->parent.fd, worker->owes_pong ? EPOLLIN | EPOLLOUT : EPOLLIN,
		    (struct loop_ref){ .kind = KIND_CHANNEL });
}

static int
on_ping(void *owner, const void *items, unsigned count, int *fds, unsigned n_fds)
{
	struct worker *worker = owner;

	(void)count, (void)fds, (void)n_fds;
	worker->pong = *(const struct msg_ping *)items;
	answer_ping(worker);
	return 0;
}

static void
on_drain_timer(void *owner, void *arg)
{
	(void)arg;
	conn_close_all(owner, END_DRAINED);
}

static int
on_stop(void *owner, const void *items, unsigned count, int *fds, unsigned n_fds)
{
	struct worker *worker = owner;
	uint64_t ms = ((const struct msg_stop *)items)->within_ms;

	(void)count, (void)fds, (void)n_fds;
	worker->draining = true;
	worker->parent.phase = MSG_DRAINING;
	worker->drain_timer.fn = on_drain_timer;
	/* Anything beyond a century is "without limit". */
	loop_timer_set(&worker->loop, &worker->drain_timer, ms > UINT32_MAX * 1000ull ? LOOP_NEVER : worker->loop.now + ms * NS_PER_MS);
	return 0;
}

static chan_handler_fn *const handlers[MSG_TYPES] = {
	[MSG_HELLO] = on_hello,
	[MSG_ROUTE] = on_route,
	[MSG_DIR] = on_dir,
	[MSG_PING] = on_ping,
	[MSG_CONN] = intake_conn,
	[MSG_STOP] = on_stop,
	[MSG_CLOSE] = order_close,
	[MSG_DRAIN] = order_drain,
	[MSG_LEVEL] = order_level,
};

/* The parent is gone or talks nonsense: nothing is left to do, and leaving resets what is open. */
static void
parent_lost(struct worker *worker)
{
	if (errno != EPIPE)
		log_errx("channel to the parent: %s", errno == EPROTO ? worker->parent.wrong : strerror(errno));
	_exit(errno == EPIPE ? EXIT_OK : EXIT_MACHINE);
}

static void
on_channel(void *owner, struct loop_ref ref, uint32_t events)
{
	struct worker *worker = owner;

	(void)ref;
	if ((events & EPOLLOUT) && worker->owes_pong)
		answer_ping(worker);
	if (chan_drain(&worker->parent, MESSAGES_AT_ONCE) == -1)
		parent_lost(worker);
}

static void
on_want_tick(void *owner, struct pair *pair)
{
	conn_want_tick(owner, conn_of_pair(owner, pair));
}

static int
on_watch(void *owner, struct pair *pair)
{
	return conn_watch(owner, conn_of_pair(owner, pair));
}

static struct pair *
on_pair(void *owner, uint32_t slot)
{
	struct worker *worker = owner;

	ASSERT(slot < worker->conns.max);
	return &worker->conns.conns[slot].pair;
}

void
worker_init(struct worker *worker)
{
	memset(worker, 0, sizeof(*worker));
	(void)signal(SIGPIPE, SIG_IGN);
	report_init(worker, WORKER_FD_REPORT);
	log_set_sink(report_log, worker);
	if (fcntl(CHILD_FD_CHANNEL, F_GETFD) == -1 || fcntl(WORKER_FD_REPORT, F_GETFD) == -1 || fcntl(WORKER_FD_SCOREBOARD, F_GETFD) == -1) {
		log_set_sink(NULL, NULL);
		fatalx(EXIT_MACHINE, "the expected descriptors are not there; this program is started by nsproxy only");
	}
	chan_init(&worker->parent, CHILD_FD_CHANNEL, MSG_W, MSG_P, handlers, worker);
	sandbox_die_with_parent();
}

/* HELLO, then as many routes and directories as it announced. */
static void
receive_set_up(struct worker *worker)
{
	while (worker->hello.max_conns == 0 || worker->routes.n < worker->routes.room || worker->hello.n_dirs > 0) {
		if (chan_recv_wait(&worker->parent) == -1)
			parent_lost(worker);
		if (worker->routes.list == NULL && routes_init(&worker->routes, worker->hello.n_routes) == -1)
			fatal(EXIT_MACHINE, "cannot allocate %u routes", worker->hello.n_routes);
	}
}

/* Opens an engine at its first use. 0 or -1 with errno. */
static int
use_engine(struct worker *worker, const struct engine_ops *engine)
{
	if (engine == NULL) {
		errno = ENOSYS;
		return -1;
	}
	if (worker->ready.engines & 1u << engine->id)
		return 0;
	if (engine->open != NULL && engine->open(&worker->host, worker->hello.max_conns) == -1)
		return -1;
	if (engine->wait != NULL)
		loop_set_wait(&worker->loop, engine->wait, engine->dispatch, worker);
	worker->ready.engines |= 1u << engine->id;
	return 0;
}

static void
choose_engines(struct worker *worker)
{
	uint32_t refused = 0;

	for (uint32_t i = 0; i < worker->routes.n; i++) {
		struct worker_route *route = &worker->routes.list[i];
		uint32_t bit = 1u << route->conf.engine;

		route->engine = engine_by_id(route->conf.engine);
		if (!(refused & bit) && use_engine(worker, route->engine) == 0)
			continue;
		/* The parent warns, once for all workers: MSG_READY says what is open. */
		log_debug("start", "engine %s cannot be used: %s", engine_name(route->conf.engine), strerror(errno));
		refused |= bit;
		route->engine = engine_by_id(ENGINE_ADAPTIVE);
		(void)use_engine(worker, route->engine);	/* needs nothing, cannot fail */
	}
}

/*
 * What wakes us mostly runs on a processor of this machine, and has more to send. As SCHED_BATCH (sched(7)) we do not take its processor away for
 * the first bytes, but find more of them when it sleeps or its time is up: eight bulk flows cost a sixth less so, and go faster. A policy that
 * somebody chose for us stays. By number, since musl's functions only fail.
 */
static void
let_senders_finish(void)
{
	struct sched_param none = { 0 };

	if (syscall(SYS_sched_getscheduler, 0) == SCHED_OTHER && syscall(SYS_sched_setscheduler, 0, SCHED_BATCH, &none) == -1)
		log_debug("start", "SCHED_BATCH: %s", strerror(errno));
}

void
worker_prepare(struct worker *worker)
{
	uint32_t max;

	receive_set_up(worker);
	log_set_level((enum log_level)worker->hello.log_level);
	sandbox_assert_unprivileged((worker->hello.flags & HELLO_ONE_ID) != 0);
	let_senders_finish();
	max = worker->hello.max_conns;
	if (scoreboard_map(&worker->board, WORKER_FD_SCOREBOARD, 1, max, worker->hello.n_services) == -1)
		fatal(EXIT_MACHINE, "cannot map the scoreboard");
	(void)close(WORKER_FD_SCOREBOARD);
	if (loop_init(&worker->loop, max + worker->hello.n_services + OTHER_TIMERS, worker) == -1 || conn_table_init(&worker->conns, max) == -1 ||
	    report_prepare(worker, max) == -1 || order_prepare(worker, worker->hello.n_services) == -1)
		fatal(EXIT_MACHINE, "cannot allocate room for %u connections", max);
	worker->host = (struct engine_host){
		.owner = worker,
		.now = &worker->loop.now,
		.epoll_fd = worker->loop.epoll_fd,
		.want_tick = on_want_tick,
		.pair = on_pair,
		.event = relay_event,
		.sent = relay_sent,
		.failed = relay_failed,
		.watch = on_watch,
	};
	if (engines_open(&worker->host, max, WORKER_FD_PIPES, worker->hello.n_pipes) == -1)
		fatal(EXIT_MACHINE, "cannot prepare the engines");
	worker->ready.pipe_size = engines_pipe_size();
	choose_engines(worker);
	loop_on(&worker->loop, KIND_CHANNEL, on_channel, worker);
	loop_on(&worker->loop, KIND_CLIENT, relay_on_event, worker);
	loop_on(&worker->loop, KIND_TARGET, relay_on_event, worker);
	if (loop_add(&worker->loop, worker->parent.fd, EPOLLIN, (struct loop_ref){ .kind = KIND_CHANNEL }) == -1)
		fatal(EXIT_MACHINE, "cannot watch the channel to the parent");
}

/* Every port that some route may reach. */
static void
list_ports(struct worker *worker, struct sandbox_policy *policy)
{
	size_t n = 0, room = 0;

	for (uint32_t i = 0; i < worker->routes.n; i++)
		room += worker->routes.list[i].conf.n_ports;
	worker->ports = calloc(room + 1, sizeof(*worker->ports));
	if (worker->ports == NULL)
		fatal(EXIT_MACHINE, "cannot allocate the list of target ports");
	for (uint32_t i = 0; i < worker->routes.n; i++) {
		const struct msg_route *conf = &worker->routes.list[i].conf;

		for (uint32_t port = 0; port < conf->n_ports && conf->target.family != AF_UNIX; port++)
			worker->ports[n++] = (uint16_t)(conf->target.port + port);
	}
	policy->ports = worker->ports;
	policy->n_ports = n;
}

void
worker_confine(struct worker *worker)
{
	struct sandbox_policy policy = {
		.rules = base_rules,
		.kill = true,
		.landlock = true,
		.landlock_net = true,
		.scope_abstract = true,
		.max_files = 2ull * worker->hello.max_conns + 2ull * worker->hello.n_pipes + worker->routes.n_dirs + OTHER_FDS,
		.no_file_writes = true,
	};
	struct sandbox_result result;

	for (uint32_t i = 0; i < worker->routes.n; i++) {
		const struct worker_route *route = &worker->routes.list[i];

		if (route->conf.source.family != 0) {
			policy.bind = true;
			policy.more[1] = source_rules;
		}
		if (route->conf.target.family == AF_UNIX) {
			policy.more[2] = unix_rules;
			policy.scope_abstract &= route->conf.unix_name[0] != '@';
		}
		/* A list that holds io_uring_enter also has what the others need. */
		if (route->engine->syscalls != NULL && (policy.more[0] == NULL || route->engine->wait != NULL))
			policy.more[0] = route->engine->syscalls;
	}
	list_ports(worker, &policy);
	sandbox_enter(&policy, &result);
	worker->ready.layers = result.layers;
	worker->ready.landlock_abi = result.landlock_abi;
	worker->ready.syscalls = result.syscalls;
	worker->ready.syscalls_checked = result.syscalls_checked;
	memcpy(worker->ready.why, result.why, sizeof(worker->ready.why));
}

static void
on_trim_timer(void *owner, void *arg)
{
	(void)owner, (void)arg;
	engines_trim();
}

/* Only while there is something to give back, so that an idle worker sleeps. */
static void
schedule_trim(struct worker *worker)
{
	if (worker->trim_timer.pos == 0 && engines_want_trim())
		loop_timer_set(&worker->loop, &worker->trim_timer, worker->loop.now + TRIM_EVERY);
}

enum exit_code
worker_run(struct worker *worker)
{
	if (chan_send(&worker->parent, MSG_READY, &worker->ready, 1, NULL, 0) == -1)
		parent_lost(worker);
	worker->parent.phase = MSG_SERVING;
	worker->trim_timer.fn = on_trim_timer;
	while (!worker->draining || worker->conns.live > 0) {
		if (loop_turn(&worker->loop, relay_patience(worker)) == -1)
			fatal(EXIT_MACHINE, "cannot wait for events");
		relay_run_lists(worker);
		schedule_trim(worker);
		conn_reap(worker);
		report_turn(worker);
		sb_add(&worker->board.head->turns, 1);
		sb_set(&worker->board.head->pipes_used, engines_pipes_used());
	}
	report_flush(worker);
	return EXIT_OK;
}
