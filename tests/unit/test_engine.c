/* SPDX-License-Identifier: ISC */
/*
 * Every engine's pump on real TCP sockets: bytes, ends, resets, urgent data, full receivers, empty pools of pipes. "copy" is the oracle.
 * Runs in: worker (the test links the engines alone)
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine.h"
#include "engine_pool.h"
#include "fdutil.h"

#define FIRST_PIPE 500
#define PIPES 4
#define MAX_CONNS 8

static uint64_t now = 1000000000;
static int ticks_wanted;

static void
on_want_tick(void *owner, struct pair *pair)
{
	(void)owner, (void)pair;
	ticks_wanted++;
}

static const struct engine_host host = { .now = &now, .want_tick = on_want_tick };
static const unsigned engines[] = { ENGINE_COPY, ENGINE_SPLICE, ENGINE_ADAPTIVE };
#define EACH_ENGINE(i) (size_t i = 0; i < sizeof(engines) / sizeof(engines[0]); i++)

/* client <-> pair.fd[0] | pair.fd[1] <-> target */
struct bench {
	struct pair pair;
	const struct engine_ops *engine;
	int client, target;
};

static void
tcp_pair(int *a, int *b)
{
	struct sockaddr_in sin = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t size = sizeof(sin);
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;

	assert_int_equal(bind(listener, (struct sockaddr *)&sin, sizeof(sin)), 0);
	assert_int_equal(listen(listener, 1), 0);
	assert_int_equal(getsockname(listener, (struct sockaddr *)&sin, &size), 0);
	*a = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(*a, (struct sockaddr *)&sin, sizeof(sin)), 0);
	*b = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	assert_true(*b >= 0);
	assert_int_equal(setsockopt(*b, SOL_SOCKET, SO_OOBINLINE, &on, sizeof(on)), 0);
	(void)close(listener);
}

static void
set_up(struct bench *bench, unsigned engine)
{
	pair_init(&bench->pair, 0);
	bench->engine = engine_by_id(engine);
	assert_non_null(bench->engine);
	tcp_pair(&bench->client, &bench->pair.fd[SIDE_CLIENT]);
	tcp_pair(&bench->target, &bench->pair.fd[SIDE_TARGET]);
	bench->pair.is_tcp[0] = bench->pair.is_tcp[1] = true;
	(void)fd_set_nonblocking(bench->client);
	(void)fd_set_nonblocking(bench->target);
}

static void
tear_down(struct bench *bench)
{
	bench->engine->stop(&bench->pair);
	(void)close(bench->pair.fd[0]);
	(void)close(bench->pair.fd[1]);
	(void)close(bench->client);
	(void)close(bench->target);
}

static void
wait_for(int fd, short events)
{
	struct pollfd pfd = { .fd = fd, .events = events };

	assert_int_equal(poll(&pfd, 1, 5000), 1);
}

static enum pump_result
pump(struct bench *bench)
{
	return bench->engine->pump(&bench->pair, SIDE_CLIENT);
}

/* The whole of n pseudo-random bytes in pieces of `most`, while the reader reads in pieces of `piece`. */
static void
transfer(struct bench *bench, size_t n, size_t most, size_t piece)
{
	char *sent = malloc(n), *got = malloc(n + 1);
	size_t out = 0, in = 0;
	bool shut = false;
	enum pump_result result = PUMP_MORE;

	assert_true(sent != NULL && got != NULL);
	for (size_t i = 0; i < n; i++)
		sent[i] = (char)random();
	while (result != PUMP_EOF || in < n) {
		ssize_t r = out < n ? send(bench->client, sent + out, n - out < most ? n - out : most, MSG_NOSIGNAL) : 0;

		if (r > 0)
			out += (size_t)r;
		if (out == n && !shut)
			shut = shutdown(bench->client, SHUT_WR) == 0;
		bench->pair.dir[SIDE_CLIENT].more = shut;
		now += 600000;
		if (result != PUMP_EOF)
			result = pump(bench);
		assert_true(result != PUMP_ERROR_IN && result != PUMP_ERROR_OUT && result != PUMP_STARVED);
		r = recv(bench->target, got + in, n + 1 - in < piece ? n + 1 - in : piece, 0);
		if (r > 0)
			in += (size_t)r;
	}
	assert_int_equal(in, n);
	assert_memory_equal(sent, got, n);
	assert_int_equal(bench->pair.dir[SIDE_CLIENT].total, n);
	assert_int_equal(bench->pair.dir[SIDE_CLIENT].pending, 0);
	assert_int_equal(bench->pair.dir[SIDE_CLIENT].pipe, NO_PIPE);
	assert_int_equal(bench->pair.dir[SIDE_CLIENT].block, NO_BLOCK);
	free(sent);
	free(got);
}

static void
test_bytes(void **state)
{
	static const size_t shapes[][3] = { { 1, 1, 1 }, { 5000, 1, 100 }, { 3000000, 100000, 1000000 }, { 4000000, 1000000, 7000 }, { 65536, 65536, 65536 },
		{ 2000000, 65536, 65536 }, { 131072, 131072, 4096 } };

	(void)state;
	for EACH_ENGINE (i) {
		for (size_t shape = 0; shape < sizeof(shapes) / sizeof(shapes[0]); shape++) {
			struct bench bench;

			set_up(&bench, engines[i]);
			transfer(&bench, shapes[shape][0], shapes[shape][1], shapes[shape][2]);
			tear_down(&bench);
		}
	}
}

static void
test_without_pipes(void **state)
{
	uint16_t taken[PIPES];
	struct bench bench;

	(void)state;
	for (int i = 0; i < PIPES; i++)
		taken[i] = pool_take_pipe();
	assert_int_equal(pool_take_pipe(), NO_PIPE);
	set_up(&bench, ENGINE_SPLICE);
	transfer(&bench, 1000000, 100000, 50000);
	tear_down(&bench);
	for (int i = 0; i < PIPES; i++)
		pool_give_pipe(taken[i]);
}

/* Every pipe is there again and holds nothing. */
static void
assert_pipes_clean(void)
{
	uint16_t taken[PIPES];
	int bytes = -1;

	for (int i = 0; i < PIPES; i++) {
		taken[i] = pool_take_pipe();
		assert_int_not_equal(taken[i], NO_PIPE);
		assert_int_equal(ioctl(pool_pipe(taken[i])->out, FIONREAD, &bytes), 0);
		assert_int_equal(bytes, 0);
	}
	for (int i = 0; i < PIPES; i++)
		pool_give_pipe(taken[i]);
}

static void
test_full_receiver(void **state)
{
	static char zeros[1 << 20];

	(void)state;
	for EACH_ENGINE (i) {
		struct bench bench;
		enum pump_result result = PUMP_MORE;
		int quiet = 0;

		set_up(&bench, engines[i]);
		for (int turn = 0; turn < 2000 && quiet < 20; turn++) {
			ssize_t r = send(bench.client, zeros, sizeof(zeros), MSG_NOSIGNAL);

			result = pump(&bench);
			quiet = r <= 0 && result == PUMP_BLOCKED_OUT ? quiet + 1 : 0;
		}
		/* The reader reads nothing: the pump stops, and holds no more than its bound. */
		assert_int_equal(result, PUMP_BLOCKED_OUT);
		assert_in_range(bench.pair.dir[SIDE_CLIENT].pending, 1, 1 << 20);
		tear_down(&bench);
		assert_pipes_clean();
	}
}

static void
test_reset(void **state)
{
	const struct linger reset = { 1, 0 };

	(void)state;
	for EACH_ENGINE (i) {
		for (int with_data = 0; with_data < 2; with_data++) {
			struct bench bench;
			enum pump_result result = PUMP_MORE;
			char got[8];

			set_up(&bench, engines[i]);
			if (with_data)
				assert_int_equal(send(bench.client, "abc", 3, 0), 3);
			(void)setsockopt(bench.client, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
			(void)close(bench.client);
			bench.client = -1;
			wait_for(bench.pair.fd[SIDE_CLIENT], POLLERR);
			bench.pair.dir[SIDE_CLIENT].more = true;
			for (int turn = 0; turn < 5 && result == PUMP_MORE; turn++)
				result = pump(&bench);
			/* Never an end in order, whether the bytes before it came through or not. */
			assert_int_equal(result, PUMP_ERROR_IN);
			assert_int_equal(errno, ECONNRESET);
			assert_true(recv(bench.target, got, sizeof(got), 0) <= 3);
			tear_down(&bench);
		}
	}
}

static void
test_urgent(void **state)
{
	(void)state;
	for EACH_ENGINE (i) {
		for (int where = 0; where < 3; where++) {
			struct bench bench;
			char got[16] = "";
			size_t in = 0;

			set_up(&bench, engines[i]);
			bench.pair.dir[SIDE_CLIENT].bulk = true;
			for (int part = 0; part < 3; part++)
				assert_true(send(bench.client, part == where ? "!" : "abc", part == where ? 1 : 3, part == where ? MSG_OOB : 0) > 0);
			for (int turn = 0; turn < 100 && in < 7; turn++) {
				ssize_t r;

				wait_for(bench.client, POLLOUT);
				bench.pair.dir[SIDE_CLIENT].more = true;
				(void)pump(&bench);
				r = recv(bench.target, got + in, sizeof(got) - in, 0);
				if (r > 0)
					in += (size_t)r;
			}
			assert_string_equal(got, where == 0 ? "!abcabc" : where == 1 ? "abc!abc" : "abcabc!");
			tear_down(&bench);
		}
	}
}

/* The end arrived behind an urgent byte: splice(2) says "end" before it, and whoever believes that loses the rest. */
static void
test_urgent_and_end(void **state)
{
	(void)state;
	for EACH_ENGINE (i) {
		struct bench bench;
		enum pump_result result = PUMP_MORE;
		char got[16] = "";

		set_up(&bench, engines[i]);
		bench.pair.dir[SIDE_CLIENT].bulk = true;
		assert_int_equal(send(bench.client, "abc", 3, 0), 3);
		assert_int_equal(send(bench.client, "!", 1, MSG_OOB), 1);
		assert_int_equal(send(bench.client, "def", 3, 0), 3);
		assert_int_equal(shutdown(bench.client, SHUT_WR), 0);
		wait_for(bench.pair.fd[SIDE_CLIENT], POLLRDHUP);
		bench.pair.dir[SIDE_CLIENT].more = true;
		for (int turn = 0; turn < 20 && result == PUMP_MORE; turn++)
			result = pump(&bench);
		assert_int_equal(result, PUMP_EOF);
		assert_int_equal(recv(bench.target, got, sizeof(got), 0), 7);
		assert_string_equal(got, "abc!def");
		tear_down(&bench);
	}
}

/* On a unix socket a descriptor that comes along ends a read, though more is there: such a read must not count as the last. */
static void
test_unix_descriptor(void **state)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = { .bytes = { 0 } };
	struct iovec iov = { (void *)(uintptr_t)"abc", 3 };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control) };
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);

	(void)state;
	*cmsg = (struct cmsghdr){ .cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS };
	memcpy(CMSG_DATA(cmsg), &(int){ STDERR_FILENO }, sizeof(int));
	for EACH_ENGINE (i) {
		struct bench bench;
		int ends[2];
		char got[16] = "";
		enum pump_result result = PUMP_MORE;

		set_up(&bench, engines[i]);
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends), 0);
		(void)close(bench.client);
		(void)close(bench.pair.fd[SIDE_CLIENT]);
		bench.client = ends[0];
		bench.pair.fd[SIDE_CLIENT] = ends[1];
		bench.pair.is_tcp[SIDE_CLIENT] = false;
		assert_int_equal(sendmsg(bench.client, &msg, 0), 3);
		assert_int_equal(send(bench.client, "def", 3, 0), 3);
		for (int turn = 0; turn < 20 && result == PUMP_MORE; turn++)
			result = pump(&bench);
		assert_int_equal(result, PUMP_BLOCKED_IN);
		assert_int_equal(recv(bench.target, got, sizeof(got), 0), 6);
		tear_down(&bench);
	}
}

static void
test_marks_come_and_go(void **state)
{
	static char zeros[1 << 20];
	struct bench bench;
	struct pair_dir *dir = &bench.pair.dir[SIDE_CLIENT];
	int value = 0;
	socklen_t size = sizeof(value);

	(void)state;
	set_up(&bench, ENGINE_ADAPTIVE);
	ticks_wanted = 0;
	for (int turn = 0; turn < 500 && !dir->marked; turn++) {
		(void)send(bench.client, zeros, 300000, MSG_NOSIGNAL);
		(void)pump(&bench);
		while (recv(bench.target, zeros, sizeof(zeros), 0) > 0)
			continue;
	}
	assert_true(dir->bulk && dir->marked && ticks_wanted > 0);
	assert_int_equal(getsockopt(bench.pair.fd[SIDE_CLIENT], SOL_SOCKET, SO_RCVLOWAT, &value, &size), 0);
	assert_true(value > 100000);
	/* Ticks that find nothing take the mark back. */
	for (int turn = 0; turn < 20 && dir->marked; turn++) {
		now += 1000000;
		assert_int_equal(bench.engine->tick(&bench.pair, SIDE_CLIENT), TICK_PUMP);
		(void)pump(&bench);
		(void)recv(bench.target, zeros, sizeof(zeros), 0);
	}
	assert_false(dir->marked);
	assert_int_equal(bench.engine->tick(&bench.pair, SIDE_CLIENT), TICK_DONE);
	assert_int_equal(getsockopt(bench.pair.fd[SIDE_CLIENT], SOL_SOCKET, SO_RCVLOWAT, &value, &size), 0);
	assert_int_equal(value, 1);
	/* Small messages make it copy again. */
	for (int turn = 0; turn < 20 && dir->bulk; turn++) {
		assert_int_equal(send(bench.client, "x", 1, 0), 1);
		wait_for(bench.pair.fd[SIDE_CLIENT], POLLIN);
		(void)pump(&bench);
	}
	assert_false(dir->bulk);
	tear_down(&bench);
}

static int
open_engines(void **state)
{
	(void)state;
	(void)signal(SIGPIPE, SIG_IGN);
	for (int i = 0; i < PIPES; i++) {
		int ends[2];

		if (pipe2(ends, O_NONBLOCK) == -1 || dup2(ends[0], FIRST_PIPE + 2 * i) == -1 || dup2(ends[1], FIRST_PIPE + 2 * i + 1) == -1)
			return -1;
		(void)close(ends[0]);
		(void)close(ends[1]);
	}
	return engines_open(&host, MAX_CONNS, FIRST_PIPE, PIPES);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bytes),
		cmocka_unit_test(test_without_pipes),
		cmocka_unit_test(test_full_receiver),
		cmocka_unit_test(test_reset),
		cmocka_unit_test(test_urgent),
		cmocka_unit_test(test_urgent_and_end),
		cmocka_unit_test(test_unix_descriptor),
		cmocka_unit_test(test_marks_come_and_go),
	};

	return cmocka_run_group_tests(tests, open_engines, NULL);
}
