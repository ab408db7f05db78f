/* SPDX-License-Identifier: ISC */
/*
 * Clients and targets of functional tests whose counts are too high for an interpreter.
 *
 *   crowd target ADDR PROCESSES              sends back what it gets; says its port, then serves until its standard input ends
 *   crowd burst ADDR PORT COUNT PROCESSES    opens COUNT connections as fast as it can; on each its number goes out and must come back
 *   crowd pong ADDR PORT COUNT               one connection, COUNT times one byte there and back
 *   crowd flood ADDR PORT SECONDS            SYNs from made-up addresses (198.18.0.0/15) by a raw socket, until standard input ends or the
 *                                            time is over
 *
 * All but the target say one JSON object. A burst keeps its connections, of which each process has its share, until standard input ends, so
 * that whoever measures sees them all at once; then it resets them, so that no port is left waiting.
 * Runs in: any
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "log.h"

#define NS	       1000000000ull
#define EVENTS	       256
#define MOST_PROCESSES 16u
#define SPARE_FILES    64u	   /* descriptors of a target that are no connections */
#define LOOK_EVERY     16u	   /* connections opened between two looks at those that are under way */
#define PATIENCE       (60 * NS)   /* for all connections of a burst to be answered */
#define STALL	       (NS / 20)   /* a byte that is longer under way was held up by a timer */
#define BATCH	       64u	   /* SYNs of one call */
#define MADE_UP	       0xc6120000u /* 198.18.0.0/15: for benchmarks, belongs to nobody */
#define MADE_UP_HOSTS  0x0001ffffu

static uint64_t
now(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * NS + (uint64_t)t.tv_nsec;
}

static unsigned
number(const char *text)
{
	char *end;
	unsigned long long n = strtoull(text, &end, 10);

	if (*text == '\0' || *end != '\0' || n > UINT32_MAX) {
		errno = EINVAL;
		fatal(EXIT_MACHINE, "%s", text);
	}
	return (unsigned)n;
}

static struct sockaddr_in
address(const char *host, unsigned port)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };

	if (inet_pton(AF_INET, host, &a.sin_addr) != 1) {
		errno = EINVAL;
		fatal(EXIT_MACHINE, "%s", host);
	}
	return a;
}

/* Returns once standard input ended. */
static void
wait_end(void)
{
	char c;

	while (read(STDIN_FILENO, &c, 1) == 1)
		;
}

static void
watch(int epoll, int operation, int fd, uint32_t events, uint64_t who)
{
	struct epoll_event e = { .events = events, .data.u64 = who };

	if (epoll_ctl(epoll, operation, fd, &e) == -1)
		fatal(EXIT_MACHINE, "epoll_ctl");
}

/* A child that ends with its parent. The return is true in the child. */
static bool
split(void)
{
	pid_t parent = getpid(), child = fork();

	if (child == -1)
		fatal(EXIT_MACHINE, "fork");
	if (child != 0)
		return false;
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		exit(1);
	return true;
}

/* ---- the target -------------------------------------------------------------------------------------------------------------------- */

static unsigned
most_files(void)
{
	struct rlimit most;

	if (getrlimit(RLIMIT_NOFILE, &most) == -1)
		fatal(EXIT_MACHINE, "getrlimit");
	most.rlim_cur = most.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &most) == -1)
		fatal(EXIT_MACHINE, "setrlimit");
	return (unsigned)most.rlim_cur;
}

/* Whoever is full leaves the rest to the others. */
static unsigned
take(int epoll, int listener, unsigned open, unsigned most)
{
	int fd;

	while (open < most && (fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) != -1) {
		(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int));
		watch(epoll, EPOLL_CTL_ADD, fd, EPOLLIN, (uint64_t)fd);
		open++;
	}
	if (open == most && epoll_ctl(epoll, EPOLL_CTL_DEL, listener, NULL) == -1 && errno != ENOENT)
		fatal(EXIT_MACHINE, "epoll_ctl");
	return open;
}

static bool
send_back(int fd)
{
	static char text[65536];
	ssize_t size = recv(fd, text, sizeof(text), 0);

	if (size <= 0)
		return size == -1 && errno == EAGAIN;
	for (ssize_t done = 0, sent; done < size; done += sent) {
		sent = send(fd, text + done, (size_t)(size - done), MSG_NOSIGNAL);
		if (sent == -1 && errno != EAGAIN)
			return false;
		if (sent == -1) {
			(void)poll(&(struct pollfd){ .fd = fd, .events = POLLOUT }, 1, -1);
			sent = 0;
		}
	}
	return true;
}

static void __attribute__((noreturn))
serve(int listener, unsigned most)
{
	struct epoll_event events[EVENTS];
	int epoll = epoll_create1(0);
	unsigned open = 0;

	watch(epoll, EPOLL_CTL_ADD, listener, EPOLLIN | EPOLLEXCLUSIVE, (uint64_t)listener);
	for (;;) {
		int n = epoll_wait(epoll, events, EVENTS, -1);

		for (int i = 0; i < n; i++) {
			int fd = (int)events[i].data.u64;

			if (fd == listener) {
				open = take(epoll, listener, open, most);
			} else if (!send_back(fd)) {
				(void)close(fd);
				if (open-- == most)
					watch(epoll, EPOLL_CTL_ADD, listener, EPOLLIN | EPOLLEXCLUSIVE, (uint64_t)listener);
			}
		}
	}
}

static int
target(char **argv)
{
	struct sockaddr_in a = address(argv[0], 0);
	socklen_t size = sizeof(a);
	unsigned most = most_files() - SPARE_FILES;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);

	if (fd == -1 || bind(fd, (struct sockaddr *)&a, size) == -1 || listen(fd, 65535) == -1 || getsockname(fd, (struct sockaddr *)&a, &size) == -1)
		fatal(EXIT_MACHINE, "listen on %s", argv[0]);
	for (unsigned i = number(argv[1]); i > 0; i--) {
		if (split())
			serve(fd, most);
	}
	(void)printf("%u\n", ntohs(a.sin_port));
	(void)fflush(stdout);
	wait_end();
	return 0;	/* the children end with us */
}

/* ---- a burst ----------------------------------------------------------------------------------------------------------------------- */

/* Nanoseconds. Shared among the processes. */
struct sample {
	uint64_t since;			/* when its connect() began; 0: it did not */
	uint64_t established, answered;	/* how long after that; 0: never */
};

struct burst {
	struct sockaddr_in to;
	struct sample *samples;
	int *fds;
	uint32_t first, count;	/* of this process */
	uint32_t settled;	/* answered or failed */
	int epoll;
};

static void
begin(struct burst *burst, uint32_t i)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	struct linger reset = { .l_onoff = 1, .l_linger = 0 };

	if (fd == -1 || setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset)) == -1 ||
	    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int)) == -1)
		fatal(EXIT_MACHINE, "socket");
	burst->fds[i] = fd;
	burst->samples[burst->first + i].since = now();
	if (connect(fd, (struct sockaddr *)&burst->to, sizeof(burst->to)) == -1 && errno != EINPROGRESS)
		fatal(EXIT_MACHINE, "connect");
	watch(burst->epoll, EPOLL_CTL_ADD, fd, EPOLLOUT, i);
}

static void
settle(struct burst *burst, uint32_t i)
{
	burst->settled++;
	if (epoll_ctl(burst->epoll, EPOLL_CTL_DEL, burst->fds[i], NULL) == -1)
		fatal(EXIT_MACHINE, "epoll_ctl");
}

static void
on_established(struct burst *burst, uint32_t i)
{
	uint32_t name = burst->first + i;
	int error = 0;
	socklen_t size = sizeof(error);

	if (getsockopt(burst->fds[i], SOL_SOCKET, SO_ERROR, &error, &size) == -1 || error != 0 ||
	    send(burst->fds[i], &name, sizeof(name), MSG_NOSIGNAL) != sizeof(name)) {
		settle(burst, i);
		return;
	}
	burst->samples[name].established = now() - burst->samples[name].since;
	watch(burst->epoll, EPOLL_CTL_MOD, burst->fds[i], EPOLLIN, i);
}

static void
on_answer(struct burst *burst, uint32_t i)
{
	uint32_t name = burst->first + i, answer = 0;

	/* Four bytes that left together come together. */
	if (recv(burst->fds[i], &answer, sizeof(answer), 0) == sizeof(answer) && answer == name)
		burst->samples[name].answered = now() - burst->samples[name].since;
	settle(burst, i);
}

static void
look(struct burst *burst, int timeout)
{
	struct epoll_event events[EVENTS];
	int n = epoll_wait(burst->epoll, events, EVENTS, timeout);

	for (int k = 0; k < n; k++) {
		uint32_t i = (uint32_t)events[k].data.u64;

		if (burst->samples[burst->first + i].established == 0)
			on_established(burst, i);
		else
			on_answer(burst, i);
	}
}

/* `done` gets a byte once all is settled or it took too long; the end of `go` lets the connections go. */
static void __attribute__((noreturn))
burst_child(struct burst *burst, int done, int go)
{
	uint64_t deadline = now() + PATIENCE;
	char c = 0;

	burst->epoll = epoll_create1(0);
	burst->fds = calloc(burst->count, sizeof(*burst->fds));
	if (burst->epoll == -1 || burst->fds == NULL)
		fatal(EXIT_MACHINE, "start");
	for (uint32_t i = 0; i < burst->count; i++) {
		begin(burst, i);
		if (i % LOOK_EVERY == 0)
			look(burst, 0);
	}
	while (burst->settled < burst->count && now() < deadline)
		look(burst, 100);
	if (write(done, &c, 1) != 1)
		fatal(EXIT_MACHINE, "pipe");
	(void)close(done);	/* once all have: whoever ended without a byte is missed */
	if (read(go, &c, 1) != 0)
		fatal(EXIT_MACHINE, "pipe");
	exit(0);	/* closes, and so resets, them all */
}

static int
compare(const void *a, const void *b)
{
	uint64_t x, y;

	memcpy(&x, a, sizeof(x));
	memcpy(&y, b, sizeof(y));
	return x < y ? -1 : x > y;
}

/* "NAME": count and microseconds of those that are not 0. Sorts them. */
static void
say(const char *name, uint64_t *times, size_t n)
{
	size_t zeros = 0;

	qsort(times, n, sizeof(*times), compare);
	while (zeros < n && times[zeros] == 0)
		zeros++;
	times += zeros;
	n -= zeros;
	(void)printf("\"%s\": {\"count\": %zu", name, n);
	if (n > 0)
		(void)printf(", \"p50\": %.1f, \"p99\": %.1f, \"p999\": %.1f, \"max\": %.1f", (double)times[n / 2] / 1e3,
		    (double)times[n * 99 / 100] / 1e3, (double)times[n * 999 / 1000] / 1e3, (double)times[n - 1] / 1e3);
	(void)putchar('}');
}

/* `seconds` is from the first connect() to the last, `over` from the first to the last answer. */
static void
report(const struct sample *samples, size_t n)
{
	uint64_t *times = calloc(n, sizeof(*times)), first = UINT64_MAX, last = 0, over = 0;

	if (times == NULL)
		fatal(EXIT_MACHINE, "report");
	for (size_t i = 0; i < n; i++) {
		first = samples[i].since < first ? samples[i].since : first;
		last = samples[i].since > last ? samples[i].since : last;
		over = samples[i].since + samples[i].answered > over ? samples[i].since + samples[i].answered : over;
		times[i] = samples[i].established;
	}
	(void)printf("{\"seconds\": %.3f, \"over\": %.3f, ", (double)(last - first) / 1e9, (double)(over - first) / 1e9);
	say("established", times, n);
	for (size_t i = 0; i < n; i++)
		times[i] = samples[i].answered;
	(void)printf(", ");
	say("answered", times, n);
	(void)puts("}");
	(void)fflush(stdout);
	free(times);
}

static int
burst(char **argv)
{
	struct burst burst = { .to = address(argv[0], number(argv[1])) };
	uint32_t n = number(argv[2]), processes = number(argv[3]);
	int done[2], go[2];
	char c;

	if (n == 0 || processes == 0 || processes > MOST_PROCESSES || pipe2(done, O_CLOEXEC) == -1 || pipe2(go, O_CLOEXEC) == -1)
		fatal(EXIT_MACHINE, "%s connections, %s processes", argv[2], argv[3]);
	(void)most_files();
	burst.samples = mmap(NULL, n * sizeof(*burst.samples), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (burst.samples == MAP_FAILED)
		fatal(EXIT_MACHINE, "mmap");
	for (uint32_t i = 0; i < processes; i++) {
		burst.first = (uint32_t)((uint64_t)n * i / processes);
		burst.count = (uint32_t)((uint64_t)n * (i + 1) / processes) - burst.first;
		if (split()) {
			(void)close(go[1]);
			burst_child(&burst, done[1], go[0]);
		}
	}
	(void)close(done[1]);
	for (uint32_t i = 0; i < processes; i++) {
		if (read(done[0], &c, 1) != 1)
			fatalx(EXIT_MACHINE, "a process ended early");
	}
	report(burst.samples, n);
	wait_end();
	(void)close(go[1]);
	while (wait(NULL) != -1)
		;
	return 0;
}

/* ---- one byte there and back ------------------------------------------------------------------------------------------------------- */

static int
pong(char **argv)
{
	struct sockaddr_in to = address(argv[0], number(argv[1]));
	size_t n = number(argv[2]), stalls = 0;
	uint64_t *times = calloc(n + 1, sizeof(*times)), begun;
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	if (times == NULL || fd == -1 || setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int)) == -1 ||
	    connect(fd, (struct sockaddr *)&to, sizeof(to)) == -1)
		fatal(EXIT_MACHINE, "connect");
	for (size_t i = 0; i < n; i++) {
		uint8_t out = (uint8_t)(i % 251), in[2];

		begun = now();
		if (send(fd, &out, 1, MSG_NOSIGNAL) != 1)
			fatal(EXIT_MACHINE, "byte %zu", i);
		if (recv(fd, in, sizeof(in), 0) != 1 || in[0] != out)
			fatal(EXIT_MACHINE, "byte %zu came back as something else", i);
		times[i] = now() - begun;
		stalls += times[i] > STALL;
	}
	(void)printf("{\"stalls\": %zu, ", stalls);
	say("answered", times, n);
	(void)puts("}");
	free(times);
	(void)close(fd);
	return 0;
}

/* ---- a flood ----------------------------------------------------------------------------------------------------------------------- */

struct syn {
	struct iphdr ip;
	struct tcphdr tcp;
};
_Static_assert(sizeof(struct syn) == 40, "headers without options");

static uint32_t
dice(void)
{
	static uint64_t state = 0x9e3779b97f4a7c15u;

	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (uint32_t)(state >> 32);
}

static uint32_t
add_words(const void *data, size_t size, uint32_t sum)
{
	for (size_t i = 0; i < size; i += 2) {
		uint16_t word;

		memcpy(&word, (const char *)data + i, sizeof(word));
		sum += word;
	}
	return sum;
}

/* The kernel fills the checksum of the IP header and its length. */
static struct syn
make_syn(const struct sockaddr_in *to)
{
	uint32_t from = htonl(MADE_UP | (dice() & MADE_UP_HOSTS));
	uint16_t port = htons((uint16_t)(1024 + dice() % 64000));
	struct syn syn = {
		.ip = { .version = 4, .ihl = 5, .ttl = 64, .protocol = IPPROTO_TCP, .saddr = from, .daddr = to->sin_addr.s_addr },
		.tcp = { .source = port, .dest = to->sin_port, .seq = dice(), .doff = 5, .syn = 1, .window = htons(64240) },
	};
	uint32_t sum = add_words(&syn.tcp, sizeof(syn.tcp), 0);

	sum = add_words(&syn.ip.saddr, 2 * sizeof(syn.ip.saddr), sum + htons(IPPROTO_TCP) + htons(sizeof(syn.tcp)));
	while (sum >> 16 != 0)
		sum = (sum & 0xffff) + (sum >> 16);
	syn.tcp.check = (uint16_t)~sum;
	return syn;
}

static int
flood(char **argv)
{
	struct sockaddr_in to = address(argv[0], number(argv[1]));
	uint64_t begun = now(), end = begun + number(argv[2]) * NS, sent = 0;
	int fd = socket(AF_INET, SOCK_RAW, IPPROTO_RAW), n;
	static struct syn syns[BATCH];
	struct iovec parts[BATCH];
	struct mmsghdr messages[BATCH];

	if (fd == -1)
		fatal(EXIT_MACHINE, "raw socket");
	while (now() < end && poll(&(struct pollfd){ .fd = STDIN_FILENO, .events = POLLIN }, 1, 0) == 0) {
		memset(messages, 0, sizeof(messages));
		for (size_t i = 0; i < BATCH; i++) {
			syns[i] = make_syn(&to);
			parts[i] = (struct iovec){ .iov_base = &syns[i], .iov_len = sizeof(syns[i]) };
			messages[i].msg_hdr = (struct msghdr){ .msg_name = &to, .msg_namelen = sizeof(to), .msg_iov = &parts[i], .msg_iovlen = 1 };
		}
		n = sendmmsg(fd, messages, BATCH, 0);
		if (n == -1 && errno != ENOBUFS)
			fatal(EXIT_MACHINE, "send");
		sent += n > 0 ? (uint64_t)n : 0;
	}
	(void)printf("{\"sent\": %" PRIu64 ", \"seconds\": %.3f}\n", sent, (double)(now() - begun) / 1e9);
	(void)close(fd);
	return 0;
}

static const struct {
	const char *name;
	int arguments;
	int (*run)(char **argv);
} commands[] = {
	{ "target", 2, target },
	{ "burst", 4, burst },
	{ "pong", 3, pong },
	{ "flood", 3, flood },
};

int
main(int argc, char **argv)
{
	log_set_program("crowd");
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
		if (argc > 1 && strcmp(argv[1], commands[i].name) == 0 && argc == commands[i].arguments + 2)
			return commands[i].run(argv + 2);
	}
	(void)fputs("usage: crowd target ADDR PROCESSES | burst ADDR PORT COUNT PROCESSES | pong ADDR PORT COUNT | flood ADDR PORT SECONDS\n",
	    stderr);
	return 2;
}
