/* SPDX-License-Identifier: ISC */
/*
 * The control socket, seen from nsproxyctl.
 * Runs in: ctl
 *
 * Theory of operation: the same channel and the same checks as between nsproxy's own processes (msg.def, chan.c). The head of a message carries
 * the protocol's version and keeps its form for ever, so two programs of different versions can tell each other apart, and say so.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "ctl_client.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "fdutil.h"

/* One reporter after the other that goes away is no reload any more. */
#define ASK_AGAIN_MOST 3

/* Adds count items to an owned array. -1: no memory. */
static int
append(void **list, size_t *n, const void *items, unsigned count, size_t size)
{
	/* Room grows by doubling: it is full whenever n is a power of two from 64 on, or 0. */
	size_t room = 64, need = *n + count;
	void *bigger;

	while (room < *n)
		room *= 2;
	if (*n == 0 || need > room) {
		while (room < need)
			room *= 2;
		bigger = reallocarray(*list, room, size);
		if (bigger == NULL)
			return -1;
		*list = bigger;
	}
	memcpy((char *)*list + *n * size, items, count * size);
	*n = need;
	return 0;
}

#define LIST_HANDLER(name, list, n)                                                                          \
	static int name(void *owner, const void *items, unsigned count, int *fds, unsigned n_fds)            \
	{                                                                                                    \
		struct ctl_answer *answer = ((struct ctl_client *)owner)->answer;                            \
		void *rows = answer->list;                                                                   \
		int r = append(&rows, &answer->n, items, count, sizeof(answer->list[0]));                    \
                                                                                                             \
		(void)fds, (void)n_fds;                                                                      \
		answer->list = rows;                                                                         \
		return r;                                                                                    \
	}
LIST_HANDLER(on_service, services, n_services)
LIST_HANDLER(on_route, routes, n_routes)
LIST_HANDLER(on_worker, workers, n_workers)
LIST_HANDLER(on_conn, conns, n_conns)
LIST_HANDLER(on_process, processes, n_processes)

static int
on_status(void *owner, const void *items, unsigned count, int *fds, unsigned n_fds)
{
	struct ctl_answer *answer = ((struct ctl_client *)owner)->answer;

	(void)count, (void)fds, (void)n_fds;
	answer->status = *(const struct row_status *)items;
	answer->has_status = true;
	return 0;
}

static int
on_text(void *owner, const void *items, unsigned count, int *fds, unsigned n_fds)
{
	struct ctl_answer *answer = ((struct ctl_client *)owner)->answer;
	const struct row_text *row = items;
	void *text = answer->text;
	int r;

	(void)count, (void)fds, (void)n_fds;
	if (row->size > sizeof(row->text))
		return -1;
	r = append(&text, &answer->text_size, row->text, row->size, 1);
	answer->text = text;
	return r;
}

static int
on_end(void *owner, const void *items, unsigned count, int *fds, unsigned n_fds)
{
	struct ctl_answer *answer = ((struct ctl_client *)owner)->answer;

	(void)count, (void)fds, (void)n_fds;
	answer->end = *(const struct msg_end *)items;
	answer->end.text[sizeof(answer->end.text) - 1] = '\0';
	answer->ended = true;
	return answer->end.code <= CTL_BAD ? 0 : -1;
}

static chan_handler_fn *const handlers[MSG_TYPES] = {
	[MSG_ROW_STATUS] = on_status,
	[MSG_ROW_SERVICE] = on_service,
	[MSG_ROW_ROUTE] = on_route,
	[MSG_ROW_WORKER] = on_worker,
	[MSG_ROW_CONN] = on_conn,
	[MSG_ROW_PROCESS] = on_process,
	[MSG_ROW_TEXT] = on_text,
	[MSG_END] = on_end,
};

static int64_t
clock_ms(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* What connect() may still wait is what sending may take (socket(7)), where 0 would be for ever. */
static int
limit_wait(int fd, int64_t left_ms)
{
	const struct timeval left = { .tv_sec = left_ms / 1000, .tv_usec = left_ms % 1000 * 1000 };

	if (left_ms <= 0) {
		errno = EAGAIN;
		return -1;
	}
	return setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &left, sizeof(left));
}

/* A listener whose queue is full lets us wait, or not at all. Being stopped for a moment interrupts this (signal(7)), and does not begin it again. */
static int
connect_to(const char *path, int timeout_ms)
{
	const int64_t until = clock_ms() + timeout_ms;
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	FD_AUTO int fd = -1;
	int r;

	if (strlen(path) >= sizeof(un.sun_path)) {
		errno = ENAMETOOLONG;
		return -1;
	}
	memcpy(un.sun_path, path, strlen(path) + 1);
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | (timeout_ms == 0 ? SOCK_NONBLOCK : 0), 0);
	if (fd == -1)
		return -1;
	do {
		if (timeout_ms != 0 && limit_wait(fd, until - clock_ms()) == -1)
			return -1;
		r = connect(fd, (const struct sockaddr *)&un, sizeof(un));
	} while (r == -1 && errno == EINTR);
	return r == 0 ? fd_take(&fd) : -1;
}

/* errno says why there is no connection. */
static enum ctl_exit
cannot_connect(struct ctl_client *client, const char *path)
{
	const char *hint = "";
	bool absent = errno == ENOENT || errno == ECONNREFUSED;

	if (errno == ENOENT)
		hint = "; nsproxy is not running, or its control socket is elsewhere (-s, key \"control\")";
	else if (errno == ECONNREFUSED)
		hint = "; nsproxy is not running";
	else if (errno == EACCES)
		hint = "; who may is set by control-mode and control-group in nsproxy.conf(5)";
	(void)snprintf(client->text, sizeof(client->text), "cannot connect to %.107s: %s%s", path,
	    errno == EAGAIN ? "nsproxy does not answer, others wait as well" : strerror(errno), hint);
	return absent ? CTL_EXIT_NOT_RUNNING : CTL_EXIT_FAILED;
}

enum ctl_exit
ctl_open(struct ctl_client *client, const char *path, int timeout_ms)
{
	int fd = connect_to(path, timeout_ms);

	*client = (struct ctl_client){ .chan = { .fd = -1 } };
	if (fd == -1)
		return cannot_connect(client, path);
	chan_init(&client->chan, fd, MSG_C, MSG_R, handlers, client);
	client->chan.phase = MSG_SERVING;
	return CTL_EXIT_DONE;
}

void
ctl_close(struct ctl_client *client)
{
	chan_close(&client->chan);
}

/* What came, or did not, is no answer: errno says why. */
static enum ctl_exit
broken(struct ctl_client *client)
{
	enum ctl_exit code = CTL_EXIT_FAILED;

	client->left = errno == EPIPE || errno == ECONNRESET;
	if (errno == EPROTO && client->chan.version != 0 && client->chan.version != MSG_VERSION)
		(void)snprintf(client->text, sizeof(client->text),
		    "nsproxy speaks version %u of the control protocol, this nsproxyctl version %u: use the nsproxyctl that belongs to it",
		    client->chan.version, MSG_VERSION);
	else if (errno == EPROTO)
		(void)snprintf(client->text, sizeof(client->text), "nsproxy sent an answer that makes no sense (%s)", client->chan.wrong);
	else if (errno == EPIPE)
		(void)snprintf(client->text, sizeof(client->text), "nsproxy closed the connection before its answer was complete");
	else
		(void)snprintf(client->text, sizeof(client->text), "cannot talk to nsproxy: %s", strerror(errno));
	ctl_close(client);
	return code;
}

static int
by_number(const void *a, const void *b)
{
	const struct msg_names *x = a, *y = b;

	return x->route < y->route ? -1 : x->route > y->route;
}

/* 0, or -1 with errno. */
static int
wait_for_it(struct ctl_client *client, short events, int timeout_ms)
{
	struct pollfd pfd = { .fd = client->chan.fd, .events = events };
	int r;

	do
		r = poll(&pfd, 1, timeout_ms);
	while (r == -1 && errno == EINTR);
	if (r == 0)
		errno = ETIMEDOUT;
	return r == 1 ? 0 : -1;
}

static int
send_ask(struct ctl_client *client, const struct msg_ask *ask, int timeout_ms)
{
	while (chan_send(&client->chan, MSG_ASK, ask, 1, NULL, 0) == -1) {
		if (errno != EAGAIN || wait_for_it(client, POLLOUT, timeout_ms) == -1)
			return -1;
	}
	return 0;
}

enum ctl_exit
ctl_ask(struct ctl_client *client, const struct msg_ask *ask, struct ctl_answer *answer, int timeout_ms)
{
	bool hung_up = false;

	client->answer = answer;
	client->text[0] = '\0';
	client->left = false;
	answer->ended = false;
	/* A reporter that has hung up may have said why before. */
	if (send_ask(client, ask, timeout_ms) == -1 && errno != EPIPE && errno != ECONNRESET)
		return broken(client);
	while (!answer->ended) {
		int r = chan_recv(&client->chan);

		/* A peer that closed while something of ours was unread: the kernel tells that first, once, and what it had sent after that. */
		if (r == -1 && errno == EPIPE && !hung_up) {
			hung_up = true;
			continue;
		}
		if (r == -1 || (r == 0 && wait_for_it(client, POLLIN, timeout_ms) == -1))
			return broken(client);
	}
	if (answer->n_routes > 0)
		qsort(answer->routes, answer->n_routes, sizeof(answer->routes[0]), by_number);
	(void)snprintf(client->text, sizeof(client->text), "%s", answer->end.text);
	return (enum ctl_exit)answer->end.code;
}

enum ctl_exit
ctl_ask_whoever(struct ctl_client *client, const char *path, const struct msg_ask *ask, struct ctl_answer *answer, int timeout_ms)
{
	enum ctl_exit code = ctl_ask(client, ask, answer, timeout_ms);

	for (int tries = 0; client->left && tries < ASK_AGAIN_MOST; tries++) {
		ctl_answer_free(answer);
		code = ctl_open(client, path, timeout_ms);
		if (code != CTL_EXIT_DONE)
			return code;
		code = ctl_ask(client, ask, answer, timeout_ms);
	}
	return code;
}

struct msg_ask
ctl_ask_all(enum ctl_verb verb)
{
	return (struct msg_ask){ .verb = verb, .worker = CTL_ANY, .state = CTL_ANY, .engine = CTL_ANY };
}

const struct msg_names *
ctl_route(const struct ctl_answer *answer, uint32_t number)
{
	const struct msg_names key = { .route = number };

	if (answer->n_routes == 0)
		return NULL;
	return bsearch(&key, answer->routes, answer->n_routes, sizeof(answer->routes[0]), by_number);
}

void
ctl_answer_free(struct ctl_answer *answer)
{
	free(answer->services);
	free(answer->routes);
	free(answer->workers);
	free(answer->conns);
	free(answer->processes);
	free(answer->text);
	*answer = (struct ctl_answer){ 0 };
}
