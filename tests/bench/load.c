/* SPDX-License-Identifier: ISC */
/*
 * The benchmark's load generator, its target, and the launcher for relays that want their listeners inherited.
 *
 *   load serve ADDR PORT                  target: sink on PORT, source on PORT + 1, echo on PORT + 2; says "ready"
 *   load check ADDR PORT                  one exchange with each of the three, or exit code 1
 *   load inherit NETNS NETNS ADDR PORT VARIABLE PROGRAM [ARGUMENT]...
 *                                         listens on the three ports in the first namespace, then runs the program in the second, with the
 *                                         listeners as descriptors 3, 4, 5 and VARIABLE (unless it is "-") set to "3;4;5;"
 *   load up|down|rr|crr|idle ADDR PORT [-c CONNECTIONS] [-s SIZE] [-t SECONDS] [-k]
 *
 * up sends to the sink, down reads from the source (-k keeps what it reads, as programs do; without it the kernel drops the bytes and the
 * client costs next to nothing), rr exchanges SIZE bytes with the echo again and again, crr does so once on each connection, idle only keeps
 * its connections open. All are closed loops.
 *
 * Theory of operation: what is measured is the steady state. First all connections are opened, each with one exchange, and "ready SECONDS" is
 * printed; then a line on standard input starts the clock. At its end comes the result, one JSON object, and everything stays as it is until
 * standard input ends, so that whoever measures can look at counters on both sides of the window and of nothing else.
 * Runs in: any
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define N_PORTS	      3u
#define BLOCK	      (256u << 10) /* one write of bulk */
#define DROP	      (1u << 20)   /* one read that the kernel drops */
#define BACKLOG	      65535
#define EVENTS	      256
#define AT_A_TIME     256u	   /* connections being opened: fewer than any backlog */
#define OPEN_PATIENCE 60	   /* seconds for the connections to be there */
#define MOST_ERRORS   100000u	   /* after so many the relay does not work, and the figures mean nothing */
#define NS	      1000000000ull

enum kind { SINK, SOURCE, ECHO };

static char block[BLOCK];

static void __attribute__((noreturn, format(printf, 1, 2)))
die(const char *fmt, ...)
{
	int saved = errno;
	va_list args;

	va_start(args, fmt);
	(void)fputs("load: ", stderr);
	(void)vfprintf(stderr, fmt, args);
	va_end(args);
	(void)fprintf(stderr, ": %s\n", strerror(saved));
	exit(1);
}

static uint64_t
now(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * NS + (uint64_t)t.tv_nsec;
}

static struct sockaddr_in
address(const char *host, unsigned port)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };

	if (inet_pton(AF_INET, host, &a.sin_addr) != 1) {
		errno = EINVAL;
		die("%s", host);
	}
	return a;
}

static void
no_delay(int fd)
{
	if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int)) == -1)
		die("TCP_NODELAY");
}

static int
listener(const char *host, unsigned port, int flags)
{
	struct sockaddr_in a = address(host, port);
	int fd = socket(AF_INET, SOCK_STREAM | flags, 0);

	(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){ 1 }, sizeof(int));
	if (fd == -1 || bind(fd, (struct sockaddr *)&a, sizeof(a)) == -1 || listen(fd, BACKLOG) == -1)
		die("listen on %s:%u", host, port);
	return fd;
}

static void
watch(int epoll, int operation, int fd, uint32_t events, void *who)
{
	struct epoll_event e = { .events = events, .data.ptr = who };

	if (epoll_ctl(epoll, operation, fd, &e) == -1)
		die("epoll_ctl");
}

/* ---- the target ------------------------------------------------------------------------------------------------------------ */

struct peer {
	int fd;
	enum kind kind;
	bool listens;
};

static void
take_all(int epoll, const struct peer *from)
{
	struct peer *peer;
	int fd;

	while ((fd = accept4(from->fd, NULL, NULL, SOCK_NONBLOCK)) != -1) {
		no_delay(fd);
		peer = malloc(sizeof(*peer));
		if (peer == NULL)
			die("malloc");
		*peer = (struct peer){ .fd = fd, .kind = from->kind };
		watch(epoll, EPOLL_CTL_ADD, fd, from->kind == SOURCE ? EPOLLOUT : EPOLLIN, peer);
	}
	if (errno == EMFILE || errno == ENFILE)
		die("accept");
}

/* Sends back what came. A client that does not read its answer would stop everybody: ours reads. */
static ssize_t
echo(int fd)
{
	static char text[BLOCK];
	ssize_t size = recv(fd, text, sizeof(text), 0);

	for (ssize_t done = 0, sent; done < size; done += sent) {
		sent = send(fd, text + done, (size_t)(size - done), MSG_NOSIGNAL);
		if (sent == -1) {
			if (errno != EAGAIN)
				return -1;
			(void)poll(&(struct pollfd){ .fd = fd, .events = POLLOUT }, 1, -1);
			sent = 0;
		}
	}
	return size;
}

static ssize_t
serve_peer(const struct peer *peer)
{
	switch (peer->kind) {
	case SINK:
		return recv(peer->fd, NULL, DROP, MSG_TRUNC);
	case SOURCE:
		return send(peer->fd, block, sizeof(block), MSG_NOSIGNAL);
	case ECHO:
		return echo(peer->fd);
	}
	return -1;
}

static void __attribute__((noreturn))
serve(const char *host, unsigned port)
{
	struct epoll_event events[EVENTS];
	struct peer doors[N_PORTS], *peer;
	int epoll = epoll_create1(0), n;
	ssize_t moved;

	for (unsigned i = 0; i < N_PORTS; i++) {
		doors[i] = (struct peer){ .fd = listener(host, port + i, SOCK_NONBLOCK), .kind = i, .listens = true };
		watch(epoll, EPOLL_CTL_ADD, doors[i].fd, EPOLLIN, &doors[i]);
	}
	if (puts("ready") == EOF || fflush(stdout) == EOF)
		die("standard output");
	for (;;) {
		n = epoll_wait(epoll, events, EVENTS, -1);
		for (int i = 0; i < n; i++) {
			peer = events[i].data.ptr;
			if (peer->listens) {
				take_all(epoll, peer);
				continue;
			}
			moved = serve_peer(peer);
			if (moved == 0 || (moved == -1 && errno != EAGAIN)) {
				(void)close(peer->fd);
				free(peer);
			}
		}
	}
}

/* ---- latencies: 64 steps for each power of two nanoseconds, so that a value is known to 1.6 % ------------------------------- */

#define STEPS 64u
static uint64_t histogram[64 * STEPS], samples;

static void
note_latency(uint64_t ns)
{
	unsigned shift = ns < STEPS ? 0 : 63u - (unsigned)__builtin_clzll(ns) - 6u;

	histogram[(size_t)shift * STEPS + (ns >> shift)]++;
	samples++;
}

/* Microseconds that this part of all operations took at most. */
static double
latency(double part)
{
	uint64_t wanted = (uint64_t)(part * (double)samples), seen = 0;
	size_t i = 0;

	while (i < sizeof(histogram) / sizeof(histogram[0]) && (seen += histogram[i]) <= wanted)
		i++;
	if (i < 2 * (size_t)STEPS)
		return (double)i / 1e3;
	return (double)((i % STEPS + STEPS) << (i / STEPS - 1)) / 1e3;
}

/* ---- the clients ----------------------------------------------------------------------------------------------------------- */

struct flow {
	int fd;
	bool connecting, open;
	size_t got;	/* bytes of the answer */
	uint64_t since; /* when the request, or for crr the connection, was begun */
};

struct run {
	const struct mode *mode;
	struct sockaddr_in to;
	struct flow *flows;
	unsigned n, started, open;
	size_t size;
	bool keep;	/* copy what is read */
	bool measuring; /* else the connections are being opened */
	int epoll;
	uint64_t duration, bytes, operations, errors;
};

struct mode {
	const char *name;
	enum kind target;
	uint32_t interest; /* once connected */
	bool asks;	   /* sends a request and waits for the answer */
	bool once;	   /* one exchange for each connection */
	void (*on_event)(struct run *run, struct flow *flow);
};

static void
flow_start(struct run *run, struct flow *flow)
{
	*flow = (struct flow){ .fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), .connecting = true, .since = now() };
	if (flow->fd == -1)
		die("socket");
	no_delay(flow->fd);
	if (connect(flow->fd, (struct sockaddr *)&run->to, sizeof(run->to)) == -1 && errno != EINPROGRESS)
		die("connect");
	watch(run->epoll, EPOLL_CTL_ADD, flow->fd, EPOLLOUT, flow);
}

static void
flow_failed(struct run *run, struct flow *flow)
{
	if (++run->errors > MOST_ERRORS)
		die("%" PRIu64 " errors, the last one", run->errors);
	if (flow->open)
		run->open--;
	(void)close(flow->fd);
	flow_start(run, flow);
}

static void
flow_opened(struct run *run, struct flow *flow)
{
	if (!flow->open) {
		flow->open = true;
		run->open++;
	}
}

static void
ask(struct run *run, struct flow *flow)
{
	flow->got = 0;
	if (!run->mode->once)
		flow->since = now();
	if (send(flow->fd, block, run->size, MSG_NOSIGNAL) != (ssize_t)run->size)
		flow_failed(run, flow);
}

static void
on_up(struct run *run, struct flow *flow)
{
	ssize_t sent;

	flow_opened(run, flow);
	if (!run->measuring)
		return;
	sent = send(flow->fd, block, sizeof(block), MSG_NOSIGNAL);
	if (sent > 0)
		run->bytes += (uint64_t)sent;
	else if (errno != EAGAIN)
		flow_failed(run, flow);
}

static void
on_down(struct run *run, struct flow *flow)
{
	ssize_t got;

	flow_opened(run, flow);
	if (!run->measuring)
		return;
	got = run->keep ? recv(flow->fd, block, sizeof(block), 0) : recv(flow->fd, NULL, DROP, MSG_TRUNC);
	if (got > 0)
		run->bytes += (uint64_t)got;
	else if (got == 0 || errno != EAGAIN)
		flow_failed(run, flow);
}

static void
on_answer(struct run *run, struct flow *flow)
{
	ssize_t got = recv(flow->fd, block, sizeof(block), 0);

	if (got <= 0) {
		if (got == 0 || errno != EAGAIN)
			flow_failed(run, flow);
		return;
	}
	flow->got += (size_t)got;
	if (flow->got < run->size)
		return;
	flow_opened(run, flow);
	if (!run->measuring)
		return;
	run->operations++;
	run->bytes += flow->got;
	note_latency(now() - flow->since);
	if (run->mode->once) {
		(void)close(flow->fd);
		flow_start(run, flow);
	} else if (strcmp(run->mode->name, "idle") != 0)
		ask(run, flow);
}

static const struct mode modes[] = {
	{ "up", SINK, EPOLLOUT, .on_event = on_up },
	{ "down", SOURCE, EPOLLIN, .on_event = on_down },
	{ "rr", ECHO, EPOLLIN, .asks = true, .on_event = on_answer },
	{ "crr", ECHO, EPOLLIN, .asks = true, .once = true, .on_event = on_answer },
	{ "idle", ECHO, EPOLLIN, .asks = true, .on_event = on_answer },
};

static void
flow_connected(struct run *run, struct flow *flow)
{
	int error = 0;
	socklen_t size = sizeof(error);

	(void)getsockopt(flow->fd, SOL_SOCKET, SO_ERROR, &error, &size);
	if (error != 0) {
		errno = error;
		flow_failed(run, flow);
		return;
	}
	flow->connecting = false;
	if (run->mode->interest != EPOLLOUT)
		watch(run->epoll, EPOLL_CTL_MOD, flow->fd, run->mode->interest, flow);
	if (run->mode->asks)
		ask(run, flow);
}

static void
turn(struct run *run)
{
	struct epoll_event events[EVENTS];
	int n = epoll_wait(run->epoll, events, EVENTS, 20);

	for (int i = 0; i < n; i++) {
		struct flow *flow = events[i].data.ptr;

		if (flow->connecting)
			flow_connected(run, flow);
		else
			run->mode->on_event(run, flow);
	}
}

static void
open_all(struct run *run)
{
	uint64_t begin = now(), deadline = begin + OPEN_PATIENCE * NS;

	while (!run->mode->once && run->open < run->n) {
		while (run->started < run->n && run->started - run->open < AT_A_TIME)
			flow_start(run, &run->flows[run->started++]);
		turn(run);
		if (now() > deadline) {
			errno = ETIMEDOUT;
			die("%u of %u connections open, %" PRIu64 " errors", run->open, run->n, run->errors);
		}
	}
	(void)printf("ready %.3f\n", (double)(now() - begin) / 1e9);
	(void)fflush(stdout);
}

static void
measure(struct run *run)
{
	uint64_t begin = now(), end = begin + run->duration;
	bool idle = strcmp(run->mode->name, "idle") == 0;

	run->measuring = true;
	for (unsigned i = 0; i < run->n; i++) {
		if (run->mode->once)
			flow_start(run, &run->flows[i]);
		else if (run->mode->asks)
			ask(run, &run->flows[i]);
	}
	while (now() < end && !(idle && run->operations >= run->n))
		turn(run);
	double seconds = (double)(now() - begin) / 1e9;
	if (idle && run->operations < run->n)
		run->errors += run->n - run->operations;
	(void)printf("{\"seconds\": %.4f, \"bytes\": %" PRIu64 ", \"operations\": %" PRIu64 ", \"errors\": %" PRIu64
		     ", \"p50\": %.2f, \"p99\": %.2f, \"p999\": %.2f}\n",
	    seconds, run->bytes, run->operations, run->errors, latency(.5), latency(.99), latency(.999));
	(void)fflush(stdout);
}

/* Waits for a line, or the end, of standard input. */
static void
wait_word(void)
{
	char c;

	while (read(STDIN_FILENO, &c, 1) == 1 && c != '\n')
		;
}

static int
generate(struct run *run, int argc, char **argv)
{
	int option;

	optind = 1;
	while ((option = getopt(argc, argv, "c:ks:t:")) != -1) {
		if (option == 'c')
			run->n = (unsigned)strtoul(optarg, NULL, 10);
		else if (option == 'k')
			run->keep = true;
		else if (option == 's')
			run->size = strtoul(optarg, NULL, 10);
		else if (option == 't')
			run->duration = (uint64_t)(strtod(optarg, NULL) * 1e9);
		else
			return 2;
	}
	if (run->n == 0 || run->size == 0 || run->size > sizeof(block)) {
		(void)fputs("load: a number of connections or a size that makes no sense\n", stderr);
		return 2;
	}
	run->flows = calloc(run->n, sizeof(*run->flows));
	run->epoll = epoll_create1(0);
	if (run->flows == NULL || run->epoll == -1)
		die("start");
	open_all(run);
	wait_word();
	measure(run);
	wait_word();
	return 0;
}

/* ---- is the relay there? --------------------------------------------------------------------------------------------------- */

static int
check_port(const char *host, unsigned port, enum kind kind)
{
	struct sockaddr_in a = address(host, port + kind);
	struct timeval patience = { .tv_sec = 2 };
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	bool good;
	char c;

	(void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	good = fd != -1 && connect(fd, (struct sockaddr *)&a, sizeof(a)) == 0;
	if (good && kind != SOURCE)
		good = send(fd, "x", 1, MSG_NOSIGNAL) == 1;
	if (good && kind != SINK)
		good = recv(fd, &c, 1, 0) == 1;
	/* A sink says nothing but that it saw the end. */
	if (good && kind == SINK)
		good = shutdown(fd, SHUT_WR) == 0 && recv(fd, &c, 1, 0) == 0;
	if (fd != -1)
		(void)close(fd);
	return good ? 0 : 1;
}

static int
check(const char *host, unsigned port)
{
	return check_port(host, port, SINK) | check_port(host, port, SOURCE) | check_port(host, port, ECHO);
}

/* ---- listeners that are inherited ------------------------------------------------------------------------------------------- */

static void
enter(const char *name)
{
	char path[4096];
	int fd;

	(void)snprintf(path, sizeof(path), "/run/netns/%s", name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd == -1 || setns(fd, CLONE_NEWNET) == -1)
		die("%s", path);
	(void)close(fd);
}

/* argv: NETNS NETNS ADDR PORT VARIABLE PROGRAM... */
static int
inherit(char **argv)
{
	unsigned port = (unsigned)strtoul(argv[3], NULL, 10);
	int high[N_PORTS];

	enter(argv[0]);
	for (unsigned i = 0; i < N_PORTS; i++)
		high[i] = fcntl(listener(argv[2], port + i, SOCK_CLOEXEC), F_DUPFD_CLOEXEC, 50);
	enter(argv[1]);
	for (unsigned i = 0; i < N_PORTS; i++) {
		if (dup2(high[i], (int)(3 + i)) == -1)
			die("dup2");
	}
	if (strcmp(argv[4], "-") != 0)
		(void)setenv(argv[4], "3;4;5;", 1);
	(void)execvp(argv[5], argv + 5);
	die("%s", argv[5]);
}

static int
usage(void)
{
	(void)fputs("usage: load serve|check ADDR PORT\n"
		    "       load inherit NETNS NETNS ADDR PORT VARIABLE PROGRAM [ARGUMENT]...\n"
		    "       load up|down|rr|crr|idle ADDR PORT [-c CONNECTIONS] [-s SIZE] [-t SECONDS] [-k]\n",
	    stderr);
	return 2;
}

int
main(int argc, char **argv)
{
	struct rlimit most;
	unsigned port;

	if (argc > 7 && strcmp(argv[1], "inherit") == 0)
		return inherit(argv + 2);
	if (argc < 4)
		return usage();
	port = (unsigned)strtoul(argv[3], NULL, 10);
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getrlimit(RLIMIT_NOFILE, &most) == 0) {
		most.rlim_cur = most.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &most);
	}
	if (strcmp(argv[1], "serve") == 0)
		serve(argv[2], port);
	if (strcmp(argv[1], "check") == 0)
		return check(argv[2], port);
	for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
		struct run run = { .mode = &modes[i], .n = 1, .size = 64, .duration = 2 * NS };

		if (strcmp(argv[1], modes[i].name) == 0) {
			run.to = address(argv[2], port + modes[i].target);
			return generate(&run, argc - 3, argv + 3);
		}
	}
	return usage();
}
