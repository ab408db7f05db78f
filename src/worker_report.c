/* SPDX-License-Identifier: ISC */
/*
 * Finished connections and log lines to the reporter, never waiting for it.
 * Runs in: worker
 *
 * Theory of operation: a connection's record is its row of the scoreboard while it lives. At the end the row says so and waits; its slot is
 * used again only when the record is sent. So a worker that dies leaves in its rows whatever no message told: the reporter finds there those
 * that lived, and those that had ended and were not told yet. A reporter that does not read costs nothing until slots run out; only then
 * records are dropped, and counted. Under load a batch goes when it is full or some milliseconds after the last one; at a low rate a
 * record goes at the end of the turn in which its connection ended.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "worker_report.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "worker.h"

/* Records in one message. */
#define BATCH 32u
/* ns between batches that are not full, and between attempts while the channel is full. */
#define FLUSH_EVERY (4 * NS_PER_MS)
#define RETRY_EVERY (50 * NS_PER_MS)
/* Warnings about connections in one second; the rest is counted. */
#define LINES_PER_SECOND 20u

static chan_handler_fn *const no_handlers[MSG_TYPES];

static void
on_flush_timer(void *owner, void *arg)
{
	(void)arg;
	report_flush(owner);
}

void
report_init(struct worker *worker, int fd)
{
	memset(&worker->report, 0, sizeof(worker->report));
	chan_init(&worker->report.chan, fd, MSG_W, MSG_R, no_handlers, worker);
	worker->report.timer.fn = on_flush_timer;
}

int
report_prepare(struct worker *worker, uint32_t max_conns)
{
	worker->report.slots = calloc(max_conns, sizeof(*worker->report.slots));
	worker->report.room = max_conns;
	return worker->report.slots == NULL ? -1 : 0;
}

/* Writers of a row make its number odd first and even last (scoreboard_read_row). */
static void
row_begin(struct sb_row *row)
{
	atomic_store_explicit(&row->seq, atomic_load_explicit(&row->seq, memory_order_relaxed) + 1, memory_order_relaxed);
	atomic_thread_fence(memory_order_release);
}

static void
row_end(struct sb_row *row)
{
	atomic_store_explicit(&row->seq, atomic_load_explicit(&row->seq, memory_order_relaxed) + 1, memory_order_release);
}

void
report_opened(struct worker *worker, const struct conn *conn, const struct msg_conn *msg)
{
	struct sb_row *row = &worker->board.rows[conn->pair.slot];

	atomic_store_explicit(&worker->board.head->rows_used, worker->conns.used, memory_order_relaxed);
	row_begin(row);
	row->rec = (struct conn_record){
		.id = msg->id,
		.route = msg->route,
		.port_offset = msg->port_offset,
		.engine = (uint8_t)conn->route->engine->id,
		.end = END_NONE,
		.start = loop_realtime(),
		.begun = loop_clock(),
		.client = msg->client,
	};
	atomic_store_explicit(&row->used, 1, memory_order_relaxed);
	row_end(row);
}

void
report_moved(struct worker *worker, const struct conn *conn, int d)
{
	struct conn_record *rec = &worker->board.rows[conn->pair.slot].rec;

	sb_add(&worker->board.services[conn->route->conf.service].bytes[d], conn->pair.dir[d].total - rec->bytes[d]);
	rec->bytes[d] = conn->pair.dir[d].total;
}

static void
observe_times(struct sb_service *service, const struct conn_record *rec)
{
	if (rec->connected != 0)
		sb_observe(&service->histograms[SB_CONNECT], SB_CONNECT, (rec->connected - rec->begun) / NS_PER_US);
	sb_observe(&service->histograms[SB_DURATION], SB_DURATION, (rec->ended - rec->begun) / NS_PER_US);
}

void
report_closed(struct worker *worker, struct conn *conn)
{
	struct report *report = &worker->report;
	struct sb_row *row = &worker->board.rows[conn->pair.slot];
	struct sb_service *service = &worker->board.services[conn->route->conf.service];

	row_begin(row);
	row->rec.end = conn->end;
	row->rec.ended = loop_clock();
	for (int d = 0; d < SIDES; d++)
		report_moved(worker, conn, d);
	row_end(row);
	observe_times(service, &row->rec);
	sb_add(&service->ends[conn->end], 1);
	sb_add(&service->finished, 1);
	sb_add(&worker->board.head->finished, 1);

	report->slots[(report->first + report->n++) % report->room] = conn->pair.slot;
}

/* The oldest n records are sent or given up: rows and slots are free. */
static void
release(struct worker *worker, uint32_t n)
{
	struct report *report = &worker->report;

	for (; n > 0; n--) {
		uint32_t slot = report->slots[report->first];

		atomic_store_explicit(&worker->board.rows[slot].used, 0, memory_order_release);
		conn_release_slot(&worker->conns, slot);
		report->first = (report->first + 1) % report->room;
		report->n--;
	}
}

void
report_flush(struct worker *worker)
{
	struct report *report = &worker->report;
	uint64_t next = LOOP_NEVER;

	while (report->n > 0) {
		struct conn_record batch[BATCH];
		uint32_t n = report->n < BATCH ? report->n : BATCH;

		for (uint32_t i = 0; i < n; i++)
			batch[i] = worker->board.rows[report->slots[(report->first + i) % report->room]].rec;
		if (chan_send(&report->chan, MSG_CLOSED, batch, n, NULL, 0) == -1) {
			next = worker->loop.now + RETRY_EVERY;
			break;
		}
		release(worker, n);
	}
	report->tried_at = worker->loop.now;
	loop_timer_set(&worker->loop, &report->timer, next);
}

void
report_make_room(struct worker *worker)
{
	struct report *report = &worker->report;
	uint32_t n;

	report_flush(worker);
	n = report->n < BATCH ? report->n : BATCH;
	sb_add(&worker->board.head->dropped, n);
	release(worker, n);
}

void
report_turn(struct worker *worker)
{
	struct report *report = &worker->report;

	if (report->n == 0 || report->timer.pos != 0)
		return;
	if (worker->loop.now - report->tried_at >= FLUSH_EVERY)
		report_flush(worker);
	else
		loop_timer_set(&worker->loop, &report->timer, report->tried_at + FLUSH_EVERY);
}

void
report_log(void *owner, enum log_level level, const char *text)
{
	struct worker *worker = owner;
	struct msg_log msg = { .level = (uint32_t)level };

	(void)snprintf(msg.text, sizeof(msg.text), "%s", text);
	if (chan_send(&worker->report.chan, MSG_LOG, &msg, 1, NULL, 0) == -1 && worker->board.head != NULL)
		sb_add(&worker->board.head->dropped, 1);
}

/* False: this second has had its lines. */
static bool
may_warn(struct worker *worker)
{
	struct report *report = &worker->report;
	uint64_t now = worker->loop.now;

	if (now - report->lines_at >= NS_PER_S) {
		uint32_t suppressed = report->suppressed;

		report->lines_at = now;
		report->lines = report->suppressed = 0;
		if (suppressed > 0)
			log_warnx("%u more warnings like these were not written", suppressed);
	}
	if (report->lines < LINES_PER_SECOND) {
		report->lines++;
		return true;
	}
	report->suppressed++;
	return false;
}

void
report_conn_warning(struct worker *worker, const char *fmt, ...)
{
	int saved = errno;
	char text[LOG_TEXT_MAX];
	va_list args;

	if (!may_warn(worker))
		return;
	va_start(args, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	log_warnx("%s", text);
	errno = saved;
}
