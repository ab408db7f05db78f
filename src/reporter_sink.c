/* SPDX-License-Identifier: ISC */
/*
 * The places the reporter writes to.
 * Runs in: reporter
 *
 * Theory of operation: each output has one buffer of whole lines. Lines are formatted into it; at the end of a turn of the loop, or when it is
 * full, it is written with as few calls as possible. What a full pipe, a full disk or a reader that is stuck does not take stays, and is tried
 * again later; a line that finds no room is lost. From the first lost line on all are lost until the buffer is empty: then the log says once how
 * many. A line that was written in part is therefore always completed before the next one, except when its output is replaced.
 *
 * The descriptor of standard error is shared with other processes, so O_NONBLOCK is never set on it (it would change their writes too): each kind
 * of file has its own way to write without waiting. To pipes, which may have other writers, whole lines go in pieces of at most PIPE_BUF bytes,
 * which the kernel never mixes (pipe(7)).
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "reporter_sink.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "fdutil.h"
#include "loop.h"

#define SYSLOG_FACILITY (3u << 3)	/* daemon (RFC 3164, section 4.1.1) */
#define BUFFER_SIZE (SINK_HOLD_MAX + SINK_LINE_MAX)

/* Of size bytes of lines, how many one write may take: whole lines within most, or the beginning of a line that is longer than that. */
static size_t
whole_lines(const char *bytes, size_t size, size_t most)
{
	const char *newline;

	if (size <= most)
		return size;
	newline = memrchr(bytes, '\n', most);
	return newline != NULL ? (size_t)(newline + 1 - bytes) : most;
}

/* The rest of one line, newline included. */
static size_t
one_line(const char *bytes, size_t size)
{
	const char *newline = memchr(bytes, '\n', size);

	return newline != NULL ? (size_t)(newline + 1 - bytes) : size;
}

static ssize_t
put_file(int fd, const char *bytes, size_t size)
{
	return write(fd, bytes, whole_lines(bytes, size, SINK_WRITE_MAX));
}

/* A pipe or terminal whose description somebody made non-blocking for us. */
static ssize_t
put_nonblocking(int fd, const char *bytes, size_t size)
{
	return write(fd, bytes, whole_lines(bytes, size, PIPE_BUF));
}

/* A terminal, or a pipe of a kernel before 6.5: may still wait when another writer takes the room in between. */
static ssize_t
put_polled(int fd, const char *bytes, size_t size)
{
	struct pollfd pfd = { .fd = fd, .events = POLLOUT };

	if (poll(&pfd, 1, 0) == 0) {
		errno = EAGAIN;
		return -1;
	}
	return write(fd, bytes, whole_lines(bytes, one_line(bytes, size), PIPE_BUF));
}

static ssize_t
put_pipe(int fd, const char *bytes, size_t size)
{
#ifdef HAVE_PWRITEV2
	struct iovec iov = { (void *)(uintptr_t)bytes, whole_lines(bytes, size, PIPE_BUF) };
	ssize_t n = pwritev2(fd, &iov, 1, -1, RWF_NOWAIT);

	if (n != -1 || (errno != EOPNOTSUPP && errno != ENOSYS && errno != EINVAL))
		return n;
#endif
	return put_polled(fd, bytes, size);
}

static ssize_t
put_stream_socket(int fd, const char *bytes, size_t size)
{
	return send(fd, bytes, whole_lines(bytes, size, SINK_WRITE_MAX), MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* One datagram a line, without its newline. One that is too long for this socket is given up, or it would stay at the head for ever. */
static ssize_t
put_datagram(int fd, const char *bytes, size_t size)
{
	size_t n = one_line(bytes, size);

	if (send(fd, bytes, n - (bytes[n - 1] == '\n'), MSG_DONTWAIT | MSG_NOSIGNAL) == -1 && errno != EMSGSIZE)
		return -1;
	return (ssize_t)n;
}

enum sink_way { WAY_FILE, WAY_NONBLOCKING, WAY_PIPE, WAY_POLLED, WAY_STREAM_SOCKET, WAY_DATAGRAM, WAYS };

static ssize_t (*const ways[WAYS])(int fd, const char *bytes, size_t size) = {
	[WAY_FILE] = put_file,
	[WAY_NONBLOCKING] = put_nonblocking,
	[WAY_PIPE] = put_pipe,
	[WAY_POLLED] = put_polled,
	[WAY_STREAM_SOCKET] = put_stream_socket,
	[WAY_DATAGRAM] = put_datagram,
};

/* What fd is, by calls that the filter allows: no fstat, which also looks at paths. */
static enum sink_way
way_of(int fd, int flags)
{
	int type;
	socklen_t length = sizeof(type);

	if (lseek(fd, 0, SEEK_CUR) != -1)
		return WAY_FILE;
	if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &length) == 0)
		return type == SOCK_STREAM ? WAY_STREAM_SOCKET : WAY_DATAGRAM;
	if (flags != -1 && (flags & O_NONBLOCK))
		return WAY_NONBLOCKING;
	return fcntl(fd, F_GETPIPE_SZ) != -1 ? WAY_PIPE : WAY_POLLED;
}

void
sink_init(struct sink *sink, pid_t pid)
{
	memset(sink, 0, sizeof(*sink));
	for (uint32_t id = 0; id < OUTPUTS_MAX; id++)
		sink->outputs[id].fd = -1;
	(void)snprintf(sink->syslog_tag, sizeof(sink->syslog_tag), "nsproxy[%d]: ", (int)pid);
}

void
sink_free(struct sink *sink)
{
	for (uint32_t id = 0; id < OUTPUTS_MAX; id++) {
		struct sink_output *out = &sink->outputs[id];

		fd_close(&out->fd);
		if (out->buf != NULL)
			(void)munmap(out->buf, BUFFER_SIZE);
		out->buf = NULL;
	}
}

static bool
output_is_empty(const struct sink_output *out)
{
	return out->begin == out->end;
}

static void
output_lose(struct sink *sink, uint32_t id)
{
	sink->outputs[id].lost++;
	sink->lost++;
	sink->dirty |= UINT64_C(1) << id;
}

/* Writes until the buffer is empty (true) or the output takes no more. */
static bool
output_write(struct sink_output *out)
{
	while (!output_is_empty(out)) {
		ssize_t n = ways[out->way](out->fd, out->buf + out->begin, out->end - out->begin);

		if (n == -1 && errno == EINTR)
			continue;
		if (n <= 0) {
			out->lost_errno = n == 0 ? EIO : errno;
			return false;
		}
		out->begin += (uint32_t)n;
		out->progress = true;
		out->torn = out->buf[out->begin - 1] != '\n';
	}
	out->begin = out->end = 0;
	return true;
}

/* Called once everything that was held is out. */
static void
say_lost(struct sink *sink, uint32_t id)
{
	struct sink_output *out = &sink->outputs[id];
	const char *why = strerror(out->lost_errno);
	char line[256];

	if (out->lost_errno == 0)
		why = "there was nowhere to write to";
	else if (out->lost_errno == EAGAIN)
		why = "the reader was too slow or stopped";
	(void)snprintf(line, sizeof(line), "%s%s%llu log lines were lost (%s)", out->label, out->label[0] != '\0' ? ": " : "",
	    (unsigned long long)out->lost, why);
	out->lost = 0;
	out->lost_errno = 0;
	sink_log(sink, LOG_L_WARNING, "", line, sizeof(line));
}

/* True when nothing is left. */
static bool
output_flush(struct sink *sink, uint32_t id)
{
	struct sink_output *out = &sink->outputs[id];

	if (!output_write(out))
		return false;
	if (out->lost > 0 && out->fd != -1) {
		say_lost(sink, id);
		if (id == OUTPUT_LOG && !output_write(out))
			return false;
	}
	if (out->lost > 0)
		return false;
	out->lost_errno = 0;
	sink->dirty &= ~(UINT64_C(1) << id);
	return true;
}

bool
sink_flush(struct sink *sink)
{
	/* The log last, because the others' losses are said in it. */
	for (uint32_t id = OUTPUTS_MAX; id-- > 0;) {
		if (sink->dirty >> id & 1)
			(void)output_flush(sink, id);
	}
	return sink->dirty != 0;
}

bool
sink_progress(struct sink *sink)
{
	bool any = false;

	for (uint32_t id = 0; id < OUTPUTS_MAX; id++) {
		any |= sink->outputs[id].progress;
		sink->outputs[id].progress = false;
	}
	return any;
}

/* The rest of a torn line belongs to the file that has its beginning. When that takes neither the rest nor a newline, the line is lost. */
static void
output_mend(struct sink *sink, uint32_t id)
{
	struct sink_output *out = &sink->outputs[id];
	size_t rest;

	if (!out->torn)
		return;
	rest = one_line(out->buf + out->begin, out->end - out->begin);
	out->begin += (uint32_t)rest;
	out->torn = false;
	(void)ways[out->way](out->fd, "\n", 1);
	output_lose(sink, id);
}

int
sink_set(struct sink *sink, uint32_t id, uint32_t kind, int *fd)
{
	struct sink_output *out;
	int flags = fcntl(*fd, F_GETFL);

	if (id >= OUTPUTS_MAX || kind > OUTPUT_SYSLOG) {
		errno = EINVAL;
		return -1;
	}
	out = &sink->outputs[id];
	if (out->buf == NULL) {
		void *map = mmap(NULL, BUFFER_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		if (map == MAP_FAILED)
			return -1;
		out->buf = map;
	}
	if (out->fd != -1) {
		(void)output_write(out);
		output_mend(sink, id);
		fd_close(&out->fd);
	}
	out->fd = fd_take(fd);
	out->kind = kind;
	out->way = (uint8_t)way_of(out->fd, flags);
	/* The parent opens log files to append; standard error that was redirected to a file stays as terse as on a terminal. */
	out->stamps = kind == OUTPUT_STREAM && out->way == WAY_FILE && flags != -1 && (flags & O_APPEND);
	sink->dirty |= UINT64_C(1) << id;
	return 0;
}

void
sink_label(struct sink *sink, uint32_t id, const char *label)
{
	struct sink_output *out = &sink->outputs[id];

	if (id < OUTPUTS_MAX && out->label[0] == '\0')
		(void)snprintf(out->label, sizeof(out->label), "%s", label);
}

/* What every line of this output's kind begins with. */
static void
line_prefix(const struct sink *sink, const struct sink_output *out, unsigned level, struct text *text)
{
	if (out->kind == OUTPUT_STREAM)
		return;
	text_bytes(text, "<", 1);
	text_u64(text, out->kind == OUTPUT_SYSLOG ? SYSLOG_FACILITY | level : level);
	text_bytes(text, ">", 1);
	if (out->kind == OUTPUT_SYSLOG)
		text_str(text, sink->syslog_tag);
}

/* Is there room for one line? Makes some if it can. */
static bool
output_room(struct sink_output *out)
{
	if (out->buf == NULL || out->lost > 0)
		return false;
	if (out->end + SINK_LINE_MAX <= SINK_WRITE_MAX || output_write(out))
		return true;
	if (out->end > SINK_HOLD_MAX && out->begin > 0) {
		memmove(out->buf, out->buf + out->begin, out->end - out->begin);
		out->end -= out->begin;
		out->begin = 0;
	}
	return out->end <= SINK_HOLD_MAX;
}

bool
sink_line_begin(struct sink *sink, uint32_t id, enum log_level level, struct text *text)
{
	struct sink_output *out;

	if (id >= OUTPUTS_MAX)
		return false;
	out = &sink->outputs[id];
	if (!output_room(out)) {
		output_lose(sink, id);
		return false;
	}
	text->at = out->buf + out->end;
	text->end = text->at + SINK_LINE_MAX - 1;
	line_prefix(sink, out, level, text);
	return true;
}

void
sink_line_end(struct sink *sink, uint32_t id, const struct text *text)
{
	struct sink_output *out = &sink->outputs[id];

	*text->at = '\n';
	out->end = (uint32_t)(text->at + 1 - out->buf);
	sink->dirty |= UINT64_C(1) << id;
}

void
sink_log(struct sink *sink, unsigned level, const char *prefix, const char *text, size_t size)
{
	struct sink_output *out = &sink->outputs[OUTPUT_LOG];
	struct text line;

	if (level < LOG_L_ERR)
		level = LOG_L_ERR;
	if (level > LOG_L_DEBUG)
		level = LOG_L_DEBUG;
	if (sink->tap != NULL)
		sink->tap(sink->tap_owner, level, prefix, text, size);
	if (!sink_line_begin(sink, OUTPUT_LOG, (enum log_level)level, &line))
		return;
	if (out->stamps) {
		text_time(&line, &sink->clock, loop_realtime());
		text_bytes(&line, " ", 1);
	}
	if (out->kind == OUTPUT_STREAM)
		text_str(&line, "nsproxy: ");
	text_str(&line, prefix);
	text_log(&line, text, size);
	sink_line_end(sink, OUTPUT_LOG, &line);
}
