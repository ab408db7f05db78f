/* SPDX-License-Identifier: ISC */
/*
 * The places the reporter writes to: files, pipes, terminals, the journal, syslog. Nothing here ever waits for a reader or a disk.
 * Runs in: reporter
 */
#ifndef REPORTER_SINK_H
#define REPORTER_SINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "log.h"
#include "msg.h"
#include "reporter_text.h"

#define SINK_WRITE_MAX 65536u		/* bytes of whole lines that one write takes at most */
#define SINK_HOLD_MAX (1u << 20)	/* bytes that wait for an output that takes no more: some thousand lines, so that a burst of ends is kept whole */
#define SINK_LINE_MAX 8192u		/* bytes of any line: the longest names, all of them escaped, still fit */

struct sink_output {
	int fd;				/* owned; -1: none yet */
	uint32_t kind;			/* enum output_kind */
	uint8_t way;			/* index into the table of ways to write without waiting */
	bool stamps;			/* lines of log begin with the time */
	bool torn;			/* what was written last ends inside a line; the rest of it is at `begin` */
	char *buf;			/* whole lines not written yet, from begin to end; mapped once, kept */
	uint32_t begin, end;
	bool progress;			/* took bytes since sink_progress() */
	uint64_t lost;			/* lines that found no room; while there are any, none is taken until the buffer is empty again */
	int lost_errno;			/* why writing stopped; 0: not known */
	char label[96];			/* what the log calls this output; "": it is the log */
};

struct sink {
	struct sink_output outputs[OUTPUTS_MAX];
	uint64_t dirty;			/* bit per output that has something to write or to say */
	uint64_t lost;			/* lines that found no room, of all outputs since the beginning */
	void (*tap)(void *owner, unsigned level, const char *prefix, const char *text, size_t size);	/* sees what sink_log() gets; or NULL */
	void *tap_owner;
	struct text_clock clock;
	char syslog_tag[32];		/* "nsproxy[123]: " */
};

/* pid: what syslog lines show. */
void sink_init(struct sink *sink, pid_t pid);
void sink_free(struct sink *sink);
/* Takes *fd as output `id` from now on; what the old one left unwritten goes to the new one. 0, or -1 with errno: not an output, no memory. */
int sink_set(struct sink *sink, uint32_t id, uint32_t kind, int *fd);
/* How losses of output `id` are called in the log, once it has no name yet. */
void sink_label(struct sink *sink, uint32_t id, const char *label);

/* One line of log, "prefix" and then "text" up to size bytes or a NUL, which is escaped. Level is clamped. */
void sink_log(struct sink *sink, unsigned level, const char *prefix, const char *text, size_t size);
/*
 * A line that is formatted in place: begin gives room (SINK_LINE_MAX or a little less, the prefix of the output's kind is there already) or
 * false: the line is lost, and counted. end takes what was written and adds the newline.
 */
bool sink_line_begin(struct sink *sink, uint32_t id, enum log_level level, struct text *text);
void sink_line_end(struct sink *sink, uint32_t id, const struct text *text);
/* Writes what can be written. True: something is left, or lines were lost and that is not said yet; call again later. */
bool sink_flush(struct sink *sink);
/* Did any output take bytes since this was last asked? */
bool sink_progress(struct sink *sink);

#endif
