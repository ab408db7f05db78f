/* SPDX-License-Identifier: ISC */
/*
 * The workers as the reporter sees them.
 * Runs in: reporter
 *
 * Theory of operation: a record reaches the access log by one of two ways. A worker that lives sends it when the connection has ended; then its
 * row in the scoreboard is freed. When the worker has gone, what its channel still holds is read first, then the rows: one that is still used
 * belongs to a connection that died with the worker (worker-lost), or to one that ended without being reported (its own end). A worker that died
 * between sending and freeing leaves a row that was reported already: ids received lately are kept, so that no connection has two lines.
 *
 * A worker may be somebody else's by now. Whose records these are follows from the channel; numbers in them are clamped where they are used; its
 * text is escaped; its lines are counted by the second; a message that msg.def does not allow ends its channel, not the reporter.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "reporter_workers.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "fdutil.h"
#include "log.h"

/* Messages of one worker in one turn, so that none keeps the others waiting. */
#define MESSAGES_PER_TURN 64u
/* What the channel of a dead worker can hold is bounded by its socket buffers (about 300 messages); this is far beyond. */
#define MESSAGES_LEFT_MAX 65536u
/* Ids remembered for each worker, at most: 512 KiB of memory once all of it is used. */
#define SEEN_MAX 65536u

static int worker_on_closed(void *owner, const void *items, unsigned count, int *fds, unsigned n_fds);
static int worker_on_log(void *owner, const void *items, unsigned count, int *fds, unsigned n_fds);

static chan_handler_fn *const handlers[MSG_TYPES] = {
	[MSG_CLOSED] = worker_on_closed,
	[MSG_LOG] = worker_on_log,
};

/* Ids are consecutive numbers, so their low bits alone are a good hash; a newer id takes the place of an older one. */
static bool
was_seen(const struct reporter_worker *worker, uint64_t id)
{
	return worker->seen != NULL && worker->seen[id & (worker->n_seen - 1)] == id + 1;
}

static void
remember(struct reporter_worker *worker, uint64_t id)
{
	if (worker->seen != NULL)
		worker->seen[id & (worker->n_seen - 1)] = id + 1;
}

static int
worker_on_closed(void *owner, const void *items, unsigned count, int *fds, unsigned n_fds)
{
	struct reporter_worker *worker = owner;
	const struct conn_record *records = items;

	(void)fds;
	(void)n_fds;
	for (unsigned i = 0; i < count; i++) {
		remember(worker, records[i].id);
		access_on_closed(worker->workers->access, worker->index, &records[i]);
	}
	worker->workers->messages++;
	return 0;
}

/* Counts a line; false: too many in this second. */
static bool
may_log(struct reporter_worker *worker)
{
	uint64_t now = worker->workers->loop->now;

	if (now - worker->second_begun >= NS_PER_S && worker->suppressed == 0) {
		worker->second_begun = now;
		worker->lines = 0;
	}
	if (worker->lines < WORKER_LINES_PER_S) {
		worker->lines++;
		return true;
	}
	worker->suppressed++;
	return false;
}

static int
worker_on_log(void *owner, const void *items, unsigned count, int *fds, unsigned n_fds)
{
	struct reporter_worker *worker = owner;
	const struct msg_log *line = items;
	char prefix[32];

	(void)count;
	(void)fds;
	(void)n_fds;
	if (line->level > (uint32_t)log_level() || !may_log(worker))
		return 0;
	(void)snprintf(prefix, sizeof(prefix), "worker %u: ", worker->index);
	sink_log(worker->workers->sink, line->level, prefix, line->text, sizeof(line->text));
	return 0;
}

static void
worker_warn(const struct reporter_worker *worker, uint64_t n, const char *what)
{
	char prefix[32], text[128];

	(void)snprintf(prefix, sizeof(prefix), "worker %u: ", worker->index);
	(void)snprintf(text, sizeof(text), "%llu %s", (unsigned long long)n, what);
	sink_log(worker->workers->sink, LOG_L_WARNING, prefix, text, sizeof(text));
}

/* True: said something, or will have to when the second is over; at_once: does not wait for that. */
static bool
worker_say_losses(struct reporter_worker *worker, bool at_once)
{
	uint64_t now = worker->workers->loop->now, dropped = worker->board.map != NULL ? sb_get(&worker->board.head->dropped) : 0;

	if (worker->suppressed == 0 && dropped == worker->dropped)
		return false;
	if (now - worker->second_begun < NS_PER_S && !at_once)
		return true;
	if (worker->suppressed > 0)
		worker_warn(worker, worker->suppressed, "log lines were suppressed: too many in a second");
	if (dropped != worker->dropped)
		worker_warn(worker, dropped - worker->dropped, "records or log lines were lost on their way to the reporter");
	worker->suppressed = 0;
	worker->dropped = dropped;
	worker->second_begun = now;
	worker->lines = 0;
	return true;
}

bool
workers_say_losses(struct workers *workers)
{
	bool more = false;

	for (uint32_t i = 0; i < workers->max; i++) {
		if (workers->table[i].present && worker_say_losses(&workers->table[i], false))
			more = true;
	}
	return more;
}

/* The channel has ended (errno EPIPE), or what came through it was wrong. The worker's end is told by the parent. */
static void
worker_hang_up(struct reporter_worker *worker)
{
	if (errno == EPROTO)
		log_errx("worker %u (process %u) sent a message that is not allowed (%s); nothing more is read from it", worker->index,
		    worker->pid, worker->chan.wrong);
	else if (errno != EPIPE)
		log_err("cannot read the report channel of worker %u (process %u)", worker->index, worker->pid);
	/* Not left to close: the parent keeps a copy of this end, so epoll would go on reporting it. */
	(void)loop_remove(worker->workers->loop, worker->chan.fd);
	chan_close(&worker->chan);
}

static void
worker_on_event(void *owner, struct loop_ref ref, uint32_t events)
{
	struct workers *workers = owner;
	struct reporter_worker *worker;

	(void)events;
	if (ref.index >= workers->max)
		return;
	worker = &workers->table[ref.index];
	if (!worker->present || worker->chan.fd == -1 || (worker->generation & LOOP_GENERATION_MASK) != ref.generation)
		return;
	if (chan_drain(&worker->chan, MESSAGES_PER_TURN) == -1)
		worker_hang_up(worker);
}

int
workers_init(struct workers *workers, struct loop *loop, uint8_t kind, struct sink *sink, struct access *access, struct totals_view *totals,
    uint32_t max)
{
	memset(workers, 0, sizeof(*workers));
	workers->loop = loop;
	workers->kind = kind;
	workers->sink = sink;
	workers->access = access;
	workers->totals = totals;
	workers->max = max;
	workers->table = calloc(max > 0 ? max : 1, sizeof(*workers->table));
	if (workers->table == NULL)
		return -1;
	for (uint32_t i = 0; i < max; i++) {
		workers->table[i].workers = workers;
		workers->table[i].index = i;
		workers->table[i].chan.fd = -1;
	}
	loop_on(loop, kind, worker_on_event, workers);
	return 0;
}

static size_t
seen_size(const struct reporter_worker *worker)
{
	return sizeof(worker->seen[0]) * worker->n_seen;
}

static void
worker_forget(struct reporter_worker *worker)
{
	if (worker->chan.fd != -1)
		(void)loop_remove(worker->workers->loop, worker->chan.fd);
	chan_close(&worker->chan);
	scoreboard_unmap(&worker->board);
	if (worker->seen != NULL)
		(void)munmap(worker->seen, seen_size(worker));
	worker->seen = NULL;
	worker->present = false;
}

void
workers_free(struct workers *workers)
{
	for (uint32_t i = 0; workers->table != NULL && i < workers->max; i++)
		worker_forget(&workers->table[i]);
	free(workers->table);
	workers->table = NULL;
}

/*
 * Twice as many places as there can be rows that are reported and not freed yet. Mapped, not allocated: workers come while the filter is on,
 * and what was mapped for one goes when it does.
 */
static void
map_seen(struct reporter_worker *worker, uint32_t max_conns)
{
	void *map;

	worker->n_seen = 64;
	while (worker->n_seen < SEEN_MAX && worker->n_seen / 2 < max_conns)
		worker->n_seen *= 2;
	map = mmap(NULL, seen_size(worker), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	worker->seen = map != MAP_FAILED ? map : NULL;
}

int
workers_add(struct workers *workers, const struct msg_worker *msg, int fds[2])
{
	struct reporter_worker *worker;
	struct loop_ref ref;

	if (msg->index >= workers->max)
		return -1;
	if (workers->table[msg->index].present)
		(void)workers_gone(workers, msg->index, 0);
	worker = &workers->table[msg->index];
	worker->present = true;
	worker->pid = msg->pid;
	worker->generation++;
	worker->second_begun = 0;
	worker->lines = 0;
	worker->suppressed = worker->dropped = 0;
	if (scoreboard_map(&worker->board, fds[1], 0, msg->max_conns, msg->n_services) == -1)
		log_warn("cannot map the scoreboard of worker %u: connections it may lose will have no access line", msg->index);
	map_seen(worker, msg->max_conns);
	chan_init(&worker->chan, fd_take(&fds[0]), MSG_R, MSG_W, handlers, worker);
	worker->chan.phase = MSG_SERVING;
	ref = (struct loop_ref){ .kind = workers->kind, .index = msg->index, .generation = worker->generation };
	if (loop_add(workers->loop, worker->chan.fd, EPOLLIN, ref) == -1) {
		log_err("cannot watch the report channel of worker %u", msg->index);
		chan_close(&worker->chan);
	}
	return 0;
}

/* One row that is used after its writer's death. True: the connection died with it. */
static bool
report_row(const struct reporter_worker *worker, struct conn_record *rec)
{
	bool lost = rec->end == END_NONE;

	if (lost) {
		rec->end = END_WORKER_LOST;
		rec->ended = worker->workers->loop->now;
	}
	access_on_closed(worker->workers->access, worker->index, rec);
	return lost;
}

/*
 * All of them, at most once for each connection. Returns how many connections died with the worker; by_service [board.n_services]: how many of each
 * service, or NULL.
 */
static uint64_t
report_rows(struct reporter_worker *worker, uint32_t *by_service)
{
	uint32_t n = scoreboard_rows(&worker->board);
	uint64_t lost = 0;

	for (uint32_t i = 0; i < n; i++) {
		struct conn_record rec;
		uint32_t service;

		if (scoreboard_read_row(&worker->board, i, &rec) != 1 || was_seen(worker, rec.id) || !report_row(worker, &rec))
			continue;
		lost++;
		service = access_service(worker->workers->access, rec.route);
		if (by_service != NULL && service < worker->board.n_services)
			by_service[service]++;
	}
	return lost;
}

static void
bury(struct reporter_worker *worker, uint64_t death)
{
	uint32_t *by_service = calloc(worker->board.n_services + 1, sizeof(*by_service));
	uint64_t lost;

	if (worker->chan.fd != -1 && chan_drain(&worker->chan, MESSAGES_LEFT_MAX) == -1)
		worker_hang_up(worker);
	lost = report_rows(worker, by_service);
	(void)worker_say_losses(worker, true);
	if (lost > 0)
		worker_warn(worker, lost, "connections were lost with this worker");
	(void)totals_fold(worker->workers->totals, death, &worker->board, by_service);
	free(by_service);
}

int
workers_gone(struct workers *workers, uint32_t index, uint64_t death)
{
	struct reporter_worker *worker;

	if (index >= workers->max || !workers->table[index].present)
		return -1;
	worker = &workers->table[index];
	if (death == 0 || workers->totals->parent == NULL || death > totals_sums(workers->totals)->death)
		bury(worker, death);
	if (death > workers->folded)
		workers->folded = death;
	worker_forget(worker);
	return 0;
}

void
workers_all_gone(struct workers *workers)
{
	for (uint32_t i = 0; i < workers->max; i++) {
		if (workers->table[i].present)
			(void)workers_gone(workers, i, 0);
	}
}
