/* SPDX-License-Identifier: ISC */
/*
 * Where logs are written: opened here, handed to the reporter.
 * Runs in: parent
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "parent_output.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "fdutil.h"
#include "log.h"

/* Readable by root's group too: log readers are often in adm or systemd-journal, which own the directory's files by setgid. */
#define FILE_MODE 0640
#define SYSLOG_PATH "/dev/log"

bool
outputs_stderr_is_journal(void)
{
	const char *stream = getenv("JOURNAL_STREAM");
	unsigned long long dev, ino;
	struct stat st;

	return stream != NULL && sscanf(stream, "%llu:%llu", &dev, &ino) == 2 && fstat(STDERR_FILENO, &st) == 0 && st.st_dev == (dev_t)dev &&
	    st.st_ino == (ino_t)ino;
}

/* A non-blocking open, so that a fifo without a reader is an error here (ENXIO) and not a hang. */
static int
open_file(const char *path)
{
	FD_AUTO int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, FILE_MODE);

	if (fd == -1) {
		log_err("cannot open the log file %s", path);
		return -1;
	}
	return fd_take(&fd);
}

static int
open_syslog(void)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX, .sun_path = SYSLOG_PATH };
	FD_AUTO int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd == -1 || connect(fd, (struct sockaddr *)&un, sizeof(un)) == -1) {
		log_err("cannot connect to %s; is a syslog daemon running?", SYSLOG_PATH);
		return -1;
	}
	return fd_take(&fd);
}

static int
open_output(const struct output *output, enum conf_log log)
{
	if (output->path != NULL)
		return open_file(output->path);
	if (log == CONF_LOG_SYSLOG)
		return open_syslog();
	return log == CONF_LOG_NONE ? open("/dev/null", O_WRONLY | O_CLOEXEC) : STDERR_FILENO;
}

static int
add(struct outputs *outputs, enum output_kind kind, const char *path, bool soft)
{
	struct output *output = &outputs->list[outputs->n];

	if (outputs->n == OUTPUTS_MAX) {
		log_errx("too many different files for access logs: %u at most", OUTPUTS_MAX - 1);
		return -1;
	}
	*output = (struct output){ .kind = kind, .path = path, .fd = -1 };
	output->fd = open_output(output, outputs->log);
	if (output->fd == -1 && soft)
		output->fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
	if (output->fd == -1)
		return -1;
	outputs->n++;
	return 0;
}

static enum output_kind
log_kind(enum conf_log log)
{
	if (log == CONF_LOG_SYSLOG)
		return OUTPUT_SYSLOG;
	return log == CONF_LOG_STDERR && outputs_stderr_is_journal() ? OUTPUT_JOURNAL : OUTPUT_STREAM;
}

int
outputs_init(struct outputs *outputs, const struct conf *conf, bool soft)
{
	outputs->n = 0;
	outputs->log = conf->log.kind;
	if (add(outputs, log_kind(conf->log.kind), conf->log.kind == CONF_LOG_FILE ? conf->log.path : NULL, soft) == -1)
		return -1;
	for (size_t i = 0; i < conf->n_services; i++) {
		const struct conf_output *access = &conf->services[i].access;

		if (outputs_access_id(outputs, access) == OUTPUT_NONE && access->kind == CONF_LOG_FILE &&
		    add(outputs, OUTPUT_STREAM, access->path, soft) == -1)
			return -1;
	}
	return 0;
}

void
outputs_free(struct outputs *outputs)
{
	for (uint32_t i = 0; i < outputs->n; i++) {
		if (outputs->list[i].fd > STDERR_FILENO)
			fd_close(&outputs->list[i].fd);
	}
	outputs->n = 0;
}

uint32_t
outputs_access_id(const struct outputs *outputs, const struct conf_output *access)
{
	if (access->kind == CONF_LOG_NONE)
		return OUTPUT_NONE;
	if (access->kind != CONF_LOG_FILE)
		return OUTPUT_LOG;
	for (uint32_t i = 0; i < outputs->n; i++) {
		if (outputs->list[i].path != NULL && strcmp(outputs->list[i].path, access->path) == 0)
			return i;
	}
	return OUTPUT_NONE;
}

void
outputs_reopen(struct outputs *outputs)
{
	for (uint32_t i = 0; i < outputs->n; i++) {
		struct output *output = &outputs->list[i];
		int fd;

		if (output->fd <= STDERR_FILENO)
			continue;
		fd = open_output(output, outputs->log);
		if (fd == -1)
			continue;
		fd_close(&output->fd);
		output->fd = fd;
		output->sent = false;
	}
}

int
outputs_send(struct outputs *outputs, struct chan *chan)
{
	for (uint32_t i = 0; i < outputs->n; i++) {
		struct output *output = &outputs->list[i];
		struct msg_output msg = { .id = i, .kind = (uint32_t)output->kind };

		if (output->sent)
			continue;
		if (chan_send(chan, MSG_OUTPUT, &msg, 1, &output->fd, 1) == -1)
			return -1;
		output->sent = true;
	}
	return 0;
}

void
outputs_unsent(struct outputs *outputs)
{
	for (uint32_t i = 0; i < outputs->n; i++)
		outputs->list[i].sent = false;
}
