/* SPDX-License-Identifier: ISC */
/*
 * Where logs are written: opened here, since the reporter may open nothing; handed to it now, when it is started again, and after reopening.
 * Runs in: parent
 */
#ifndef PARENT_OUTPUT_H
#define PARENT_OUTPUT_H

#include <stdbool.h>
#include <stdint.h>

#include "chan.h"
#include "parent_conf.h"

struct output {
	enum output_kind kind;
	const char *path;		/* conf's; NULL: no file */
	int fd;				/* owned, but for stderr */
	bool sent;			/* the reporter has this descriptor */
};

/* Number 0 is the log itself, the others are files of the access log; the numbers are the messages' ids. */
struct outputs {
	struct output list[OUTPUTS_MAX];
	uint32_t n;
	enum conf_log log;
};

/* 0, or -1 after a line. `soft`: what cannot be opened is /dev/null, after a line, until it can at the next reopening. */
int outputs_init(struct outputs *outputs, const struct conf *conf, bool soft);
void outputs_free(struct outputs *outputs);
/* OUTPUT_LOG, OUTPUT_NONE or a file's id. */
uint32_t outputs_access_id(const struct outputs *outputs, const struct conf_output *access);
/* Opens all files and /dev/log again. What fails stays as it was, with a line. */
void outputs_reopen(struct outputs *outputs);
/* Is stderr the journal's (JOURNAL_STREAM, systemd.exec(5))? */
bool outputs_stderr_is_journal(void);
/* Sends what the reporter does not have yet. 0; -1 with errno EAGAIN: its channel is full; else it is gone. */
int outputs_send(struct outputs *outputs, struct chan *chan);
/* A new reporter has nothing. */
void outputs_unsent(struct outputs *outputs);

#endif
