/* SPDX-License-Identifier: ISC */
/*
 * What one image of the parent leaves to the next: it comes back as it was written, and nothing that was cut, changed or made up is taken for it.
 * Runs in: any
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "parent_conf_pack.h"
#include "parent_state.h"

#define RANDOM_ROUNDS 20000

/* A small generator, so that a failure can be had again. */
static uint32_t
next_random(uint32_t *seed)
{
	*seed = *seed * 1664525u + 1013904223u;
	return *seed >> 8;
}

static void *
zeroed(size_t n, size_t size)
{
	void *memory = calloc(n, size);

	assert_non_null(memory);
	return memory;
}

static struct state
make_state(void)
{
	struct state state = { .head = { .purpose = STATE_REPLACE, .next_id = 4711 } };

	state.self = strdup("/usr/sbin/nsproxy");
	state.n_services = 2;
	state.services = zeroed(2, sizeof(*state.services));
	(void)snprintf(state.services[0].name, sizeof(state.services[0].name), "web");
	(void)snprintf(state.services[1].name, sizeof(state.services[1].name), "mail");
	state.n_routes = 1;
	state.routes = zeroed(1, sizeof(*state.routes));
	(void)snprintf(state.routes[0].names.service, sizeof(state.routes[0].names.service), "web");
	state.n_listeners = 1;
	state.listeners = zeroed(1, sizeof(*state.listeners));
	state.listeners[0].fd = 10;
	state.n_workers = 2;
	state.workers = zeroed(2, sizeof(*state.workers));
	for (int i = 0; i < 2; i++)
		state.workers[i] = (struct state_worker){ .pid = 100 + i, .chan_fd = 11 + 3 * i, .report_fd = 12 + 3 * i, .board_fd = 13 + 3 * i };
	state.n_sent = 4;
	state.sent = zeroed(4, sizeof(*state.sent));
	state.sent[3] = 99;
	state.n_conns = 1;
	state.conns = zeroed(1, sizeof(*state.conns));
	state.conns[0] = (struct state_conn){ .worker = 1, .service = 1, .fd = 20 };
	state.n_dead = 1;
	state.dead = zeroed(1, sizeof(*state.dead));
	state.dead[0] = (struct state_dead){ .death = 5, .report_fd = 21, .board_fd = 22 };
	state_put_fd(&state, "totals", 23);
	state_put_fd(&state, "nobody", -1);
	return state;
}

static void
test_comes_back(void **unused)
{
	struct state state = make_state(), back;
	char why[128];
	size_t size;
	void *data = state_pack(&state, &size);

	(void)unused;
	assert_int_equal(state_unpack(data, size, &back, why), 0);
	assert_string_equal(back.self, "/usr/sbin/nsproxy");
	assert_int_equal(back.head.next_id, 4711);
	assert_string_equal(back.services[1].name, "mail");
	assert_int_equal(back.workers[1].pid, 101);
	assert_int_equal(back.sent[3], 99);
	assert_int_equal(back.conns[0].fd, 20);
	assert_int_equal(back.dead[0].death, 5);
	assert_int_equal(back.n_fds, 1);
	assert_int_equal(state_take_fd(&back, "nobody"), -1);
	assert_int_equal(state_take_fd(&back, "totals"), 23);
	assert_int_equal(state_take_fd(&back, "totals"), -1);
	free(data);
	state_free(&back);
	state_free(&state);
}

static void
test_every_cut(void **unused)
{
	struct state state = make_state(), back;
	char why[128];
	size_t size;
	uint8_t *data = state_pack(&state, &size);

	(void)unused;
	for (size_t n = 0; n < size; n++) {
		/* In memory of exactly that size, so that a look beyond it is found out. */
		uint8_t *cut = zeroed(1, n + 1);

		memcpy(cut, data, n);
		assert_int_equal(state_unpack(cut, n, &back, why), -1);
		free(cut);
	}
	data = realloc(data, size + 1);
	assert_non_null(data);
	data[size] = 0;
	assert_int_equal(state_unpack(data, size + 1, &back, why), -1);
	free(data);
	state_free(&state);
}

/* Whatever comes back is safe to use: indexes point into their tables, texts end. */
static void
check_safe(const struct state *state)
{
	for (uint32_t i = 0; i < state->n_listeners; i++) {
		assert_true(state->listeners[i].fd > 2);
		assert_true(state->listeners[i].service < state->n_services && state->listeners[i].route < state->n_routes);
		assert_true(state->listeners[i].bound.len <= sizeof(state->listeners[i].bound.u));
	}
	for (uint32_t i = 0; i < state->n_conns; i++)
		assert_true(state->conns[i].worker < state->n_workers && state->conns[i].service < state->n_services);
	for (uint32_t i = 0; i < state->n_services; i++)
		assert_non_null(memchr(state->services[i].name, '\0', sizeof(state->services[i].name)));
	assert_int_equal(state->n_sent, (uint64_t)state->n_workers * state->n_services);
}

static void
test_random_changes(void **unused)
{
	struct state state = make_state(), back;
	uint32_t seed = 1, taken = 0;
	char why[128];
	size_t size;
	uint8_t *data = state_pack(&state, &size), *changed = zeroed(1, size);

	(void)unused;
	for (int round = 0; round < RANDOM_ROUNDS; round++) {
		memcpy(changed, data, size);
		for (uint32_t n = next_random(&seed) % 4 + 1; n > 0; n--)
			changed[next_random(&seed) % size] = (uint8_t)next_random(&seed);
		if (state_unpack(changed, size, &back, why) == -1)
			continue;
		check_safe(&back);
		state_free(&back);
		taken++;
	}
	/* Most bytes are plain numbers, which may be anything. */
	assert_true(taken > 0 && taken < RANDOM_ROUNDS);
	free(changed);
	free(data);
	state_free(&state);
}

static void
test_nonsense(void **unused)
{
	uint8_t bytes[4096];
	struct state back;
	uint32_t seed = 2;
	char why[128];

	(void)unused;
	for (int round = 0; round < RANDOM_ROUNDS; round++) {
		size_t size = next_random(&seed) % sizeof(bytes);

		for (size_t i = 0; i < size; i++)
			bytes[i] = (uint8_t)next_random(&seed);
		assert_int_equal(state_unpack(bytes, size, &back, why), -1);
	}
}

static void
test_other_version_is_named(void **unused)
{
	struct state state = make_state(), back;
	char why[128], expected[32];
	size_t size;
	uint8_t *data = state_pack(&state, &size);

	(void)unused;
	((struct state_head *)(void *)data)->version = 77;
	assert_int_equal(state_unpack(data, size, &back, why), -1);
	(void)snprintf(expected, sizeof(expected), "version 77.%u", MSG_VERSION);
	assert_non_null(strstr(why, expected));
	(void)snprintf(expected, sizeof(expected), "knows %u.%u", STATE_VERSION, MSG_VERSION);
	assert_non_null(strstr(why, expected));
	free(data);
	state_free(&state);
}

static void
test_sealed(void **unused)
{
	struct state state = make_state();
	int fd = state_seal(&state);

	(void)unused;
	assert_true(fd >= 0);
	assert_int_equal(write(fd, "x", 1), -1);
	assert_int_equal(ftruncate(fd, 0), -1);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), -1);
	assert_int_equal(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
	(void)close(fd);
	state_free(&state);
}

/* ---- configuration ------------------------------------------------------------------------------------------------------------------ */

static struct conf
make_conf(void)
{
	struct conf conf = { .workers = 3, .n_netns = 2, .n_services = 1, .drain_timeout_ms = 30000 };
	struct conf_service *service = zeroed(1, sizeof(*service));

	conf.file = strdup("/etc/nsproxy/nsproxy.conf");
	conf.netns = zeroed(2, sizeof(*conf.netns));
	conf.netns[0] = (struct conf_netns){ strdup(""), strdup("/proc/self/ns/net") };
	conf.netns[1] = (struct conf_netns){ strdup("private"), strdup("/run/netns/private") };
	conf.services = service;
	service->name = strdup("web");
	service->idle_timeout_ms = 1234;
	service->n_listen = 2;
	service->listen = zeroed(2, sizeof(*service->listen));
	for (int i = 0; i < 2; i++)
		service->listen[i] = (struct conf_endpoint){ .text = strdup("10.0.0.1:80"), .addr = { .len = sizeof(struct sockaddr_in),
			.u = { .in = { .sin_family = AF_INET, .sin_port = htons(80) } } }, .port_last = 80 };
	service->connect = service->listen[0];
	service->connect.text = strdup("private@10.0.0.2:80");
	service->connect.netns = 1;
	service->access = (struct conf_output){ .kind = CONF_LOG_FILE, .path = strdup("/var/log/web") };
	return conf;
}

static void
test_conf_comes_back(void **unused)
{
	struct conf conf = make_conf(), back;
	int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	(void)unused;
	assert_true(fd >= 0);
	assert_false(conf_is_stored(fd));
	assert_int_equal(conf_restore(fd, &back), -1);
	assert_int_equal(conf_store(&conf, fd), 0);
	assert_true(conf_is_stored(fd));
	assert_int_equal(conf_restore(fd, &back), 0);
	assert_string_equal(back.services[0].listen[1].text, "10.0.0.1:80");
	assert_string_equal(back.services[0].access.path, "/var/log/web");
	assert_string_equal(back.netns[1].path, "/run/netns/private");
	assert_int_equal(back.services[0].idle_timeout_ms, 1234);
	assert_null(back.pidfile);
	conf_free(&back);
	conf_free(&conf);
	(void)close(fd);
}

static void
test_conf_cut_and_changed(void **unused)
{
	struct conf conf = make_conf(), back;
	uint32_t seed = 3;
	size_t size;
	uint8_t *data = conf_pack(&conf, &size);

	(void)unused;
	for (size_t n = 0; n < size; n++) {
		uint8_t *cut = zeroed(1, n + 1);

		memcpy(cut, data, n);
		assert_int_equal(conf_unpack(cut, n, &back), -1);
		free(cut);
	}
	for (int round = 0; round < RANDOM_ROUNDS; round++) {
		uint8_t *changed = zeroed(1, size);

		memcpy(changed, data, size);
		for (uint32_t n = next_random(&seed) % 4 + 1; n > 0; n--)
			changed[next_random(&seed) % size] = (uint8_t)next_random(&seed);
		if (conf_unpack(changed, size, &back) == 0) {
			assert_true(back.services[0].connect.netns < back.n_netns);
			conf_free(&back);
		}
		free(changed);
	}
	free(data);
	conf_free(&conf);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_comes_back),
		cmocka_unit_test(test_every_cut),
		cmocka_unit_test(test_random_changes),
		cmocka_unit_test(test_nonsense),
		cmocka_unit_test(test_other_version_is_named),
		cmocka_unit_test(test_sealed),
		cmocka_unit_test(test_conf_comes_back),
		cmocka_unit_test(test_conf_cut_and_changed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
