/* SPDX-License-Identifier: ISC */
/*
 * Finished connections and log lines to the reporter, never waiting for it.
 * Runs in: worker
 */
#ifndef WORKER_REPORT_H
#define WORKER_REPORT_H

#include <stdint.h>

#include "chan.h"
#include "log.h"
#include "loop.h"
#include "msg.h"

struct worker;
struct conn;

struct report {
	struct chan chan;
	uint32_t *slots;		/* ring [room]: connections that ended and wait for their record to be sent, oldest first */
	uint32_t room, first, n;
	uint64_t tried_at;		/* loop time of the last attempt to send */
	struct loop_timer timer;
	uint64_t lines_at;		/* start of the second in which `lines` were said */
	uint32_t lines, suppressed;
};

void report_init(struct worker *worker, int fd);
/* Room for the ends of max_conns connections at once. 0 or -1 with errno. */
int report_prepare(struct worker *worker, uint32_t max_conns);
/* Row of the scoreboard for a connection that begins. */
void report_opened(struct worker *worker, const struct conn *conn, const struct msg_conn *msg);
/* Its engine moved bytes of direction d: the row, the service's counter. Once for each change of pair.dir[d].total, or less often. */
void report_moved(struct worker *worker, const struct conn *conn, int d);
/* Its end: the row, the counters. The slot is free only when the record is sent: then conn_table gets it back. */
void report_closed(struct worker *worker, struct conn *conn);
/* Sends what waits, as far as the channel takes it; the rest stays in its rows and is tried again by timer. */
void report_flush(struct worker *worker);
/* A slot is needed: sends, and if the channel takes nothing, gives up the oldest records, which are counted as dropped. */
void report_make_room(struct worker *worker);
/* At the end of a turn: flush unless that was done moments ago. */
void report_turn(struct worker *worker);
/* A warning about connections, which clients could flood: some each second, then counted. */
void report_conn_warning(struct worker *worker, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* log sink; owner is struct worker. */
void report_log(void *owner, enum log_level level, const char *text);

#endif
