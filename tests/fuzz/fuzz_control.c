/* SPDX-License-Identifier: ISC */
/*
 * The control socket as the reporter serves it: any bytes from a client, over scoreboards in which a worker may have written any bytes.
 * First byte of an input: 1 the record gets the head of a question of this version; 2 the client hangs up without reading; 4 the bytes are written over
 * the rows of a worker, too.
 * Runs in: any
 */
#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "chan.h"
#include "fdutil.h"
#include "reporter_control.h"

#define WORKERS 2u
#define CONNS 200u
#define SERVICES 3u
#define ROUTES 4u
/* Far more turns than any answer takes. */
#define TURNS 5000

enum { KIND_WORKER, KIND_LISTENER, KIND_CLIENT };

static struct fixture {
	bool ready;
	struct loop loop;
	struct sink sink;
	struct access access;
	struct totals_view totals;
	struct workers workers;
	struct known known;
	struct control control;
	struct scoreboard boards[WORKERS];	/* writable */
	struct sockaddr_un at;
	socklen_t at_size;
	struct msg_request asked;
	bool owes;
} f;

static void
must(bool ok)
{
	if (!ok)
		abort();
}

static bool
ask_parent(void *owner, const struct msg_request *request)
{
	(void)owner;
	must(request->verb < CTL_VERBS_COUNT && ctl_verb_changes(request->verb));
	f.asked = *request;
	f.owes = true;
	return request->id % 7 != 0 || request->verb != CTL_KILL;
}

static struct doc *
metrics(void *owner)
{
	struct doc *doc = doc_new();

	(void)owner;
	for (int i = 0; doc != NULL && i < 1000; i++)
		doc_str(doc, "nsproxy_something 1\n");
	return doc;
}

static void
make_worker(uint32_t i)
{
	struct msg_worker msg = { .index = i, .max_conns = CONNS, .n_services = SB_SERVICES_STEP, .pid = 100 + i };
	struct msg_worker_state state = { .index = i, .pid = 100 + i, .state = SHOW_SERVING };
	int board = scoreboard_create(CONNS, SB_SERVICES_STEP), ends[2], fds[2];

	must(board != -1 && scoreboard_map(&f.boards[i], board, 1, CONNS, SB_SERVICES_STEP) == 0 && chan_pair(ends) == 0);
	fds[0] = ends[0];
	fds[1] = scoreboard_reader_fd(board);
	must(workers_add(&f.workers, &msg, fds) == 0 && known_worker(&f.known, &state) == 0);
	fd_close(&fds[1]);
	fd_close(&board);
	atomic_store(&f.boards[i].head->rows_used, CONNS);
	for (uint32_t row = 0; row < CONNS; row += 3) {
		f.boards[i].rows[row].rec = (struct conn_record){ .id = row + 1, .route = row % (ROUTES + 1) };
		atomic_store(&f.boards[i].rows[row].used, 1);
	}
}

static void
listen_somewhere(void)
{
	struct msg_listen access = { .kind = LISTEN_CONTROL, .mode = 0666 };
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	f.at.sun_family = AF_UNIX;
	f.at_size = sizeof(f.at);
	must(fd != -1 && bind(fd, (struct sockaddr *)&f.at, sizeof(f.at.sun_family)) == 0 && listen(fd, 16) == 0 &&
	    getsockname(fd, (struct sockaddr *)&f.at, &f.at_size) == 0 && control_listen(&f.control, &access, &fd) == 0);
}

static void
make(void)
{
	struct show_source source = { &f.known, &f.workers, &f.totals };
	int null = -1;

	sink_init(&f.sink, 1);
	(void)null;
	must(loop_init(&f.loop, 8, NULL) == 0 && access_init(&f.access, &f.sink, ACCESS_PAIRS, ROUTES) == 0 &&
	    workers_init(&f.workers, &f.loop, KIND_WORKER, &f.sink, &f.access, &f.totals, WORKERS) == 0 &&
	    known_init(&f.known, WORKERS, ROUTES) == 0 && known_make_services(&f.known, SERVICES) == 0 &&
	    control_init(&f.control, &f.loop, KIND_LISTENER, KIND_CLIENT, &source, ask_parent, metrics, NULL) == 0);
	for (uint32_t i = 0; i < SERVICES; i++) {
		struct msg_service service = { .number = i };

		(void)snprintf(service.name, sizeof(service.name), "service%u", i);
		must(known_service(&f.known, &service) == 0);
	}
	for (uint32_t i = 0; i < ROUTES; i++) {
		struct msg_names names = { .route = i, .n_ports = 1, .service_number = i % SERVICES };

		(void)snprintf(names.service, sizeof(names.service), "service%u", i % SERVICES);
		must(known_name_route(&f.known, &names) == 0);
	}
	for (uint32_t i = 0; i < WORKERS; i++)
		make_worker(i);
	listen_somewhere();
	f.ready = true;
}

static void
answer_request(void)
{
	struct msg_result result = { .number = f.asked.number, .code = CTL_DONE };

	(void)snprintf(result.text, sizeof(result.text), "done");
	if (f.owes)
		control_on_result(&f.control, &result);
	f.owes = false;
}

static uint32_t
clients(void)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < CONTROL_CLIENTS; i++)
		n += f.control.clients[i].state != CONTROL_FREE;
	return n;
}

/* Reads as long as there is something; true: the end of an answer, or of the connection. */
static bool
read_answer(int fd)
{
	char record[MSG_MAX_SIZE];
	struct msg_head head;
	ssize_t n;

	while ((n = recv(fd, record, sizeof(record), MSG_DONTWAIT)) >= (ssize_t)sizeof(head)) {
		memcpy(&head, record, sizeof(head));
		must(head.version == MSG_VERSION && msg_row(head.type) != NULL && (msg_row(head.type)->to & MSG_C));
		must((size_t)n == sizeof(head) + (size_t)msg_row(head.type)->item_size * head.count);
		if (head.type == MSG_END)
			return true;
	}
	return n == 0 || (n == -1 && errno != EAGAIN);
}

static void
turn(void)
{
	must(loop_turn(&f.loop, 0) == 0);
	answer_request();
}

static void
send_record(int fd, const uint8_t *data, size_t size, bool good_head)
{
	struct msg_head head = { MSG_ASK, 1, MSG_VERSION };
	struct msg_ask ask = { .verb = 0 };
	char record[sizeof(head) + sizeof(ask)];

	if (!good_head) {
		(void)send(fd, data, size, MSG_NOSIGNAL | MSG_DONTWAIT);
		return;
	}
	memcpy(&ask, data, size < sizeof(ask) ? size : sizeof(ask));
	ask.verb %= CTL_VERBS_COUNT + 1;
	memcpy(record, &head, sizeof(head));
	memcpy(record + sizeof(head), &ask, sizeof(ask));
	(void)send(fd, record, sizeof(record), MSG_NOSIGNAL | MSG_DONTWAIT);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	bool done = false;
	int fd;

	if (size < 1)
		return 0;
	if (!f.ready)
		make();
	if (data[0] & 4)
		memcpy(f.boards[0].rows, data + 1, size - 1 < sizeof(struct sb_row) * CONNS ? size - 1 : sizeof(struct sb_row) * CONNS);
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	must(fd != -1 && connect(fd, (struct sockaddr *)&f.at, f.at_size) == 0);
	send_record(fd, data + 1, size - 1, data[0] & 1);
	for (int i = 0; i < TURNS && !done; i++) {
		turn();
		done = (data[0] & 2) ? i > 3 : read_answer(fd);
	}
	/* A record of no bytes is an end of the connection for whoever reads it. */
	must(done || size == 1);
	fd_close(&fd);
	for (int i = 0; i < TURNS && clients() > 0; i++)
		turn();
	must(clients() == 0);
	return 0;
}
