/* SPDX-License-Identifier: ISC */
/*
 * The status page: what nsproxy does now, for a person with a browser. Plain HTML, nothing to load, nothing that runs.
 * Runs in: reporter
 */
#ifndef REPORTER_PAGE_H
#define REPORTER_PAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "loop.h"
#include "msg.h"
#include "reporter_doc.h"
#include "reporter_metrics.h"

/* Services on the page; the metrics have all of them. */
#define PAGE_SERVICES 256u
#define PAGE_LINES 20u
#define PAGE_LINE_TEXT 320
/* Timers that it may have armed at the same time. */
#define PAGE_TIMERS 1u

struct page_line {
	uint64_t at;			/* CLOCK_REALTIME */
	unsigned level;
	char text[PAGE_LINE_TEXT];	/* not escaped; terminated */
};

struct page_count {
	uint64_t taken, bytes[2];
};

struct page_service {
	char where[200];		/* "public@10.0.0.1:80 to private@172.20.0.2:80", of its first route */
	unsigned routes;
	uint32_t first_route;
	uint32_t flags;			/* SERVICE_*, as the parent said last */
	struct page_count counts[2];	/* at the last two looks; the older one first */
};

struct page {
	struct loop *loop;		/* NULL: not started */
	const struct metrics_source *source;
	struct loop_timer timer;
	uint64_t looked[2];		/* loop time of the counts; 0: no look */
	struct page_service services[PAGE_SERVICES];
	struct page_line lines[PAGE_LINES];	/* ring: the newest is number n_lines - 1 */
	uint64_t n_lines;
};

/* Begins to look every few seconds, for rates. The source must outlive it. */
void page_start(struct page *page, struct loop *loop, const struct metrics_source *source);
void page_names(struct page *page, const struct msg_names *names);
/* Of a route that has names: its listener is elsewhere. */
void page_move(struct page *page, const struct msg_names *names);
void page_flags(struct page *page, uint32_t service, uint32_t flags);
/* A line of log, as sink_log() gets it; those of errors and warnings are kept. */
void page_log(void *owner, unsigned level, const char *prefix, const char *text, size_t size);
void page_write(struct doc *doc, struct page *page);

#endif
