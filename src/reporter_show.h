/* SPDX-License-Identifier: ISC */
/*
 * Answers to nsproxyctl, made out of the scoreboards and of what the parent has said: a few messages at a time, so that records never wait.
 * Runs in: reporter
 */
#ifndef REPORTER_SHOW_H
#define REPORTER_SHOW_H

#include <stdbool.h>
#include <stdint.h>

#include "chan.h"
#include "msg.h"
#include "reporter_doc.h"
#include "reporter_known.h"
#include "reporter_workers.h"
#include "totals.h"

/* What answers are made of; only read. */
struct show_source {
	const struct known *known;
	const struct workers *workers;
	const struct totals_view *totals;
};

/* One answer on its way. Zeroed is "none", with no memory of its own but `announced` and `text`. */
struct show {
	const struct show_source *source;
	struct msg_ask ask;
	unsigned stage;			/* of the verb's */
	uint32_t worker, row;		/* where the stage goes on */
	uint32_t budget;		/* rows that it may still look at in this turn */
	uint8_t *announced;		/* bit for each route whose ROW_ROUTE was sent; owned */
	struct doc *text;		/* of metrics; held */
	size_t text_at;
	struct row_status status;	/* sums so far */
	bool found;			/* the connection that was asked for by its id, at worker and row */
	struct msg_end end;
	enum msg_type type;		/* of the message that is to be sent next */
	unsigned count;			/* items in it; 0: none */
	_Alignas(16) char items[MSG_MAX_SIZE - sizeof(struct msg_head)];
};

/* MORE: call again, at once or in the next turn; BLOCKED: when the channel takes something; DONE: END is sent; BROKEN: there is nobody any more. */
enum show_result { SHOW_MORE, SHOW_BLOCKED, SHOW_DONE, SHOW_BROKEN };

/* Begins to answer what may be asked (any verb that changes nothing). */
void show_begin(struct show *show, const struct show_source *source, const struct msg_ask *ask);
/* Begins to look for the connection ask->id. After DONE without END nothing was sent: see found. */
void show_begin_find(struct show *show, const struct show_source *source, const struct msg_ask *ask);
/* An answer that only ends. */
void show_begin_end(struct show *show, const struct show_source *source, enum ctl_code code, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
/* One turn's worth. */
enum show_result show_step(struct show *show, struct chan *chan);
void show_free(struct show *show);

#endif
