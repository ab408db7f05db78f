/* SPDX-License-Identifier: ISC */
/*
 * A control socket that lies, for nsproxyctl: evil_control SOCKET HOW. Every text that it sends has no end and is full of what a terminal obeys, every
 * number is out of range; HOW says what else is wrong. Serves one client after the other until it is killed.
 * Runs in: ctl
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "chan.h"
#include "log.h"

static const char poison[] = "\033[2J\033]0;owned\007\033[31mEVIL\r\n\t\b\177\233\302\205";

/* Poison up to the last byte. */
static void
fill(void *field, size_t size)
{
	for (size_t i = 0; i < size; i++)
		((char *)field)[i] = poison[i % (sizeof(poison) - 1)];
}
#define FILL(field) fill(field, sizeof(field))

static void
send_or_die(struct chan *chan, enum msg_type type, const void *items, unsigned count)
{
	struct pollfd pfd = { .fd = chan->fd, .events = POLLOUT };

	while (chan_send(chan, type, items, count, NULL, 0) == -1)
		if (poll(&pfd, 1, 1000) < 1 || (pfd.revents & POLLHUP))
			return;
}

static void
send_status(struct chan *chan)
{
	struct row_status row;

	memset(&row, 0xff, sizeof(row));
	FILL(row.parent.version);
	FILL(row.parent.file);
	send_or_die(chan, MSG_ROW_STATUS, &row, 1);
}

static void
send_services(struct chan *chan)
{
	struct row_service row;

	memset(&row, 0xff, sizeof(row));
	FILL(row.service.name);
	send_or_die(chan, MSG_ROW_SERVICE, &row, 1);
}

static void
send_workers(struct chan *chan)
{
	struct row_worker row;

	memset(&row, 0xff, sizeof(row));
	FILL(row.worker.pool);
	send_or_die(chan, MSG_ROW_WORKER, &row, 1);
}

static void
send_connections(struct chan *chan)
{
	struct msg_names names;
	struct row_conn rows[2];

	memset(&names, 0xff, sizeof(names));
	names.route = 7;
	names.target.family = AF_UNIX;
	FILL(names.service);
	FILL(names.public_netns);
	FILL(names.private_netns);
	FILL(names.listener_unix);
	FILL(names.target_unix);
	send_or_die(chan, MSG_ROW_ROUTE, &names, 1);
	memset(rows, 0xff, sizeof(rows));
	rows[0].rec.route = 7;
	rows[0].rec.client.family = AF_UNIX;
	send_or_die(chan, MSG_ROW_CONN, rows, 2);
}

static void
send_processes(struct chan *chan)
{
	struct row_process row;

	memset(&row, 0xff, sizeof(row));
	FILL(row.place);
	send_or_die(chan, MSG_ROW_PROCESS, &row, 1);
}

static void
send_metrics(struct chan *chan)
{
	struct row_text row = { .size = sizeof(row.text) };

	FILL(row.text);
	send_or_die(chan, MSG_ROW_TEXT, &row, 1);
}

static void (*const answers[CTL_VERBS_COUNT])(struct chan *chan) = {
	[CTL_STATUS] = send_status,
	[CTL_SERVICES] = send_services,
	[CTL_WORKERS] = send_workers,
	[CTL_CONNECTIONS] = send_connections,
	[CTL_PRIVILEGES] = send_processes,
	[CTL_METRICS] = send_metrics,
};

struct evil {
	struct chan chan;
	const char *how;
};

static int
on_ask(void *owner, const void *items, unsigned count, int *fds, unsigned n_fds)
{
	const struct msg_ask *ask = items;
	struct evil *evil = owner;
	struct msg_end end;

	(void)count, (void)fds, (void)n_fds;
	if (strcmp(evil->how, "silent") == 0)
		return 0;
	if (strcmp(evil->how, "hang-up") == 0)
		return -1;
	if (strcmp(evil->how, "garbage") == 0) {
		(void)send(evil->chan.fd, poison, sizeof(poison), MSG_NOSIGNAL);
		return 0;
	}
	if (ask->verb < CTL_VERBS_COUNT && answers[ask->verb] != NULL)
		answers[ask->verb](&evil->chan);
	memset(&end, 0, sizeof(end));
	end.code = strcmp(evil->how, "refuse") == 0 ? CTL_REFUSED : CTL_DONE;
	FILL(end.text);
	send_or_die(&evil->chan, MSG_END, &end, 1);
	return 0;
}

static chan_handler_fn *const handlers[MSG_TYPES] = { [MSG_ASK] = on_ask };

int
main(int argc, char *argv[])
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	struct evil evil = { .how = argc > 2 ? argv[2] : "" };
	int listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	if (argc != 3 || strlen(argv[1]) >= sizeof(un.sun_path))
		fatalx(EXIT_CMDLINE, "usage: evil_control SOCKET lies|silent|hang-up|garbage|refuse");
	memcpy(un.sun_path, argv[1], strlen(argv[1]) + 1);
	if (bind(listener, (const struct sockaddr *)&un, sizeof(un)) == -1 || listen(listener, 8) == -1)
		fatal(EXIT_MACHINE, "cannot listen on %s", argv[1]);
	puts("ready");
	(void)fflush(stdout);
	for (;;) {
		chan_init(&evil.chan, accept(listener, NULL, NULL), MSG_R, MSG_C, handlers, &evil);
		evil.chan.phase = MSG_SERVING;
		while (chan_recv_wait(&evil.chan) == 1)
			;
		chan_close(&evil.chan);
	}
}
