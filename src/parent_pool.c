/* SPDX-License-Identifier: ISC */
/*
 * Pools of workers: one for each private namespace.
 * Runs in: parent
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "parent_pool.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "child_fds.h"
#include "fdutil.h"
#include "log.h"

/* Descriptors of a worker that are no connections: pipes, those of a message just received, channels, epoll, a ring, /dev/null. */
#define WORKER_RESERVE (2 * WORKER_PIPES + MSG_MAX_FDS + 64)
/* Of these the ones for directories of unix targets; more of them are reserved in steps, so that one more seldom changes anything. */
#define DIRS_RESERVED 32u
#define DIRS_STEP 64u
/* Most connections of a pool: each has its place in memory from the start (which the kernel only fills in once it is used). */
#define POOL_MOST 65536u
/* A worker of a pool of many should still take a burst. */
#define WORKER_LEAST_MOST 4096u
/* Less is no proxy. */
#define WORKER_LEAST 16u
/* Dead workers kept for a reporter that does not serve, beside one for each slot; only workers that keep dying meanwhile need these. */
#define DEAD_MORE 16u

/* Unix targets are all of one pool, and a worker has a directory for each service. */
static size_t
dirs_beyond_reserve(const struct conf *conf)
{
	size_t n = 0;

	for (size_t i = 0; i < conf->n_services; i++)
		n += !conf->services[i].removed && conf->services[i].connect.addr.u.sa.sa_family == AF_UNIX;
	return n > DIRS_RESERVED ? (n - DIRS_RESERVED + DIRS_STEP - 1) / DIRS_STEP * DIRS_STEP : 0;
}

static uint32_t
conns_for(size_t files, const struct conf *conf)
{
	size_t reserve = WORKER_RESERVE + dirs_beyond_reserve(conf), fit = files > reserve ? (files - reserve) / 2 : 0;
	uint32_t most = POOL_MOST / (conf->workers > 0 ? conf->workers : 1);

	if (most < WORKER_LEAST_MOST)
		most = WORKER_LEAST_MOST;
	return fit < most ? (uint32_t)fit : most;
}

/* The pool of conf's namespace number `of`; a new one when there is none yet. */
static unsigned
pool_of(struct pools *pools, const struct netns *netns, unsigned of)
{
	for (unsigned i = 0; i < pools->n; i++) {
		if (pools->list[i].of_netns == of)
			return i;
	}
	pools->list[pools->n] = (struct pool){ .netns = netns[of], .of_netns = of, .name = netns[of].name[0] != '\0' ? netns[of].name : "here",
		.first = pools->n * pools->conf->workers, .n = pools->conf->workers, .missing = netns[of].fd == -1 };
	return pools->n++;
}

unsigned
pools_add_former(struct pools *pools, const char *name)
{
	pools->list[pools->n] = (struct pool){ .netns = { .name = name, .fd = -1 }, .of_netns = POOL_NONE, .name = name[0] != '\0' ? name : "here" };
	return pools->n++;
}

static int
make_slots(struct pools *pools, uint32_t more)
{
	pools->n_workers = pools->n * pools->conf->workers;
	pools->n_slots = 2 * pools->n_workers + more;
	pools->workers = calloc(pools->n_slots, sizeof(*pools->workers));
	pools->dead = calloc(pools->n_slots + DEAD_MORE, sizeof(*pools->dead));
	if (pools->workers == NULL || pools->dead == NULL)
		return -1;
	for (uint32_t i = 0; i < pools->n_slots; i++) {
		struct worker *worker = &pools->workers[i];

		worker->pools = pools;
		worker->index = i;
		worker->pool = i < 2 * pools->n_workers ? i % pools->n_workers / pools->conf->workers : 0;
		worker->failure_fd = worker->report_fd = worker->board_fd = worker->chan.fd = -1;
		worker->sent_by_service = calloc(pools->n_services, sizeof(*worker->sent_by_service));
		if (worker->sent_by_service == NULL)
			return -1;
	}
	return 0;
}

int
pools_init(struct pools *pools, const struct conf *conf, struct loop *loop, const struct netns *netns, size_t files, struct totals *totals, uint32_t more)
{
	*pools = (struct pools){ .conf = conf, .loop = loop, .totals = totals, .max_conns = conns_for(files, conf),
		.n_services = sb_services_room((uint32_t)conf->n_services) };
	if (pools->max_conns < WORKER_LEAST) {
		log_errx("the limit of %zu open descriptors leaves no room for connections; raise it to 1024 at least: ulimit -n, LimitNOFILE=", files);
		return -1;
	}
	pools->list = calloc(conf->n_services + more, sizeof(*pools->list));
	pools->of_service = calloc(conf->n_services, sizeof(*pools->of_service));
	if (pools->list != NULL && pools->of_service != NULL) {
		for (size_t i = 0; i < conf->n_services; i++)
			pools->of_service[i] = conf->services[i].removed ? POOL_NONE : pool_of(pools, netns, conf->services[i].connect.netns);
		if (make_slots(pools, more) == 0)
			return 0;
	}
	log_err("cannot allocate the tables of %zu services", conf->n_services);
	return -1;
}

void
pools_free(struct pools *pools)
{
	for (uint32_t i = 0; pools->workers != NULL && i < pools->n_slots; i++)
		free(pools->workers[i].sent_by_service);
	pools_forget_dead(pools, pools->n_dead);
	free(pools->dead);
	free(pools->workers);
	free(pools->list);
	free(pools->of_service);
	*pools = (struct pools){ 0 };
}

uint64_t
worker_service_load(const struct worker *worker, unsigned service)
{
	uint64_t sent = worker->sent_by_service[service];
	uint64_t finished = service < worker->board.n_services ? sb_get(&worker->board.services[service].finished) : 0;

	return finished < sent ? sent - finished : 0;
}

uint32_t
pools_count(const struct pools *pools, enum worker_state state)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < pools->n_slots; i++)
		n += pools->workers[i].state == state && !pools->workers[i].ended;
	return n;
}

uint32_t
pools_serving(const struct pools *pools)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < pools->n_slots; i++) {
		const struct worker *worker = &pools->workers[i];

		n += worker->state == WORKER_SERVING && !worker->ended && !worker->retired;
	}
	return n;
}

uint32_t
pools_wanted(const struct pools *pools)
{
	uint32_t n = 0;

	for (unsigned i = 0; i < pools->n; i++)
		n += pools->list[i].netns.fd != -1 ? pools->list[i].n : 0;
	return n;
}

void
pools_forget_dead(struct pools *pools, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		fd_close(&pools->dead[i].report_fd);
		fd_close(&pools->dead[i].board_fd);
	}
	if (n > 0)
		memmove(pools->dead, pools->dead + n, sizeof(*pools->dead) * (pools->n_dead - n));
	pools->n_dead -= n;
}

void
pools_keep_dead(struct worker *worker)
{
	struct pools *pools = worker->pools;
	struct dead_worker *dead;

	if (worker->pid <= 0)
		return;
	if (pools->n_dead == pools->n_slots + DEAD_MORE) {
		log_warnx("worker %u died a while ago and there still is no reporter: connections that it lost will have no access line",
		    pools->dead[0].msg.index);
		pools_forget_dead(pools, 1);
	}
	dead = &pools->dead[pools->n_dead++];
	totals_add(pools->totals, TOTALS_DEATHS, 1);
	*dead = (struct dead_worker){ .msg = { .index = worker->index, .max_conns = worker->board.max_conns, .n_services = worker->board.n_services,
		.pid = (uint32_t)worker->pid }, .report_fd = fd_take(&worker->report_fd), .board_fd = fd_take(&worker->board_fd),
		.death = sb_get(&pools->totals->parent->values[TOTALS_DEATHS]),
		.announced = worker->announced == worker->generation };
	worker->announced = 0;
}

uint64_t
pools_load(const struct pools *pools)
{
	uint64_t load = 0;

	for (uint32_t i = 0; i < pools->n_slots; i++)
		load += worker_load(&pools->workers[i]);
	return load;
}

const char *
worker_name(const struct worker *worker, char buf[128])
{
	(void)snprintf(buf, 128, "worker %u [%s] (process %d)", worker->index, worker->pools->list[worker->pool].name, (int)worker->pid);
	return buf;
}
