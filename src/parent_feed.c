/* SPDX-License-Identifier: ISC */
/*
 * What a worker is told before it serves.
 * Runs in: parent
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "parent_feed.h"

#include <sys/stat.h>

#include "child_fds.h"
#include "log.h"
#include "parent_digest.h"

#define ROUTES_AT_ONCE 16

static struct msg_hello
make_hello(const struct pools *pools, unsigned pool, const struct routes *routes)
{
	struct msg_hello hello = { .n_services = pools->n_services, .max_conns = pools->max_conns, .n_pipes = WORKER_PIPES,
		.flags = pools->conf->one_id ? HELLO_ONE_ID : 0 };

	for (uint32_t i = 0; i < routes->n; i++) {
		if (routes->list[i].pool == pool) {
			hello.n_routes++;
			hello.n_dirs += routes->list[i].dir != -1;
		}
	}
	return hello;
}

static int
send_hello(struct worker *worker, const struct routes *routes)
{
	struct msg_hello hello = make_hello(worker->pools, worker->pool, routes);

	hello.index = worker->index;
	hello.log_level = (uint32_t)log_level();
	return chan_send(&worker->chan, MSG_HELLO, &hello, 1, NULL, 0);
}

uint64_t
feed_digest(const struct pools *pools, unsigned pool, const struct routes *routes)
{
	struct msg_hello hello = make_hello(pools, pool, routes);
	uint64_t digest = digest_add(DIGEST_FIRST, &hello, sizeof(hello));

	for (uint32_t i = 0; i < routes->n; i++) {
		const struct route *route = &routes->list[i];
		struct stat st;

		if (route->pool != pool)
			continue;
		digest = digest_add(digest, &route->msg, sizeof(route->msg));
		if (route->dir != -1 && fstat(route->dir, &st) == 0) {
			digest = digest_add(digest, &st.st_dev, sizeof(st.st_dev));
			digest = digest_add(digest, &st.st_ino, sizeof(st.st_ino));
		}
	}
	return digest;
}

/* The routes of its pool from number `first` on that fit one message; *next is where to go on. */
static int
send_routes(struct worker *worker, const struct routes *routes, uint32_t first, uint32_t *next)
{
	struct msg_route items[ROUTES_AT_ONCE];
	unsigned n = 0;

	for (*next = first; *next < routes->n && n < ROUTES_AT_ONCE; (*next)++) {
		if (routes->list[*next].pool == worker->pool)
			items[n++] = routes->list[*next].msg;
	}
	return n > 0 ? chan_send(&worker->chan, MSG_ROUTE, items, n, NULL, 0) : 0;
}

static int
send_dir(struct worker *worker, const struct routes *routes, uint32_t i)
{
	const struct route *route = &routes->list[i];
	struct msg_dir dir = { .route = route->msg.index };

	return route->pool == worker->pool && route->dir != -1 ? chan_send(&worker->chan, MSG_DIR, &dir, 1, &route->dir, 1) : 0;
}

/* HELLO is number 0, then each route counts one, then each route counts one again for its directory. */
int
feed_worker(struct worker *worker, const struct routes *routes)
{
	uint32_t n = routes->n;

	while (worker->fed < 1 + 2 * n) {
		uint32_t next = worker->fed + 1, after;
		int r;

		if (worker->fed == 0) {
			r = send_hello(worker, routes);
		} else if (worker->fed < 1 + n) {
			r = send_routes(worker, routes, worker->fed - 1, &after);
			next = 1 + after;
		} else {
			r = send_dir(worker, routes, worker->fed - 1 - n);
		}
		if (r == -1)
			return -1;
		worker->fed = next;
	}
	return 0;
}
