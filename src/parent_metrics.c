/* SPDX-License-Identifier: ISC */
/*
 * Where metrics are served, and what the parent measures.
 * Runs in: parent
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "parent_metrics.h"

#include <dirent.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "fdutil.h"
#include "log.h"
#include "parent_adopt.h"
#include "parent_route.h"

/* Scrapers that wait for being accepted. */
#define METRICS_BACKLOG 64
/* Listeners that are asked for their backlog at one look: each costs a call. */
#define LOOK_MOST 256u

struct job {
	const struct conf_endpoint *at;
	struct bound bound;
	bool entered;
	const char *step, *hint;
};

/* Everybody may read what a page in the browser shows; a unix path can be put where not everybody gets. */
static const struct conf_service as_service = { .backlog = METRICS_BACKLOG, .unix_mode = 0666 };

/* In its namespace. */
static int
open_there(void *arg)
{
	struct job *job = arg;

	struct linger orderly = { .l_onoff = 0 };

	job->entered = true;
	if (bind_tcp(&as_service, job->at, addr_port(&job->at->addr), &job->bound, &job->step) == -1)
		return -1;
	/* A client of a service is reset unless told otherwise; one of ours shall get all of its answer. */
	(void)setsockopt(job->bound.fd, SOL_SOCKET, SO_LINGER, &orderly, sizeof(orderly));
	return 0;
}

static void
say_failure(const struct metrics *metrics, const struct job *job, bool again)
{
	char at[ROUTE_TEXT_MAX];

	log_at(again ? LOG_L_WARNING : LOG_L_ERR, "metrics: cannot %s %s%s: %s%s%s", job->entered ? job->step : "enter the network namespace of",
	    route_format(metrics->conf->netns[job->at->netns].name, &job->at->addr, at), again ? " (this is tried until it works)" : "",
	    strerror(errno), job->hint != NULL ? "; " : "", job->hint != NULL ? job->hint : "");
}

static int
open_one(const struct metrics *metrics, struct job *job)
{
	const struct netns *there = &metrics->netns[job->at->netns];

	if (job->at->addr.u.sa.sa_family != AF_UNIX)
		return netns_run(there, &metrics->netns[0], open_there, job);
	job->entered = true;
	return bind_unix(&as_service, job->at, SOCK_STREAM, &job->bound, &job->step, &job->hint);
}

static void
take(struct metrics *metrics, const struct bound *bound)
{
	const struct netns *there = &metrics->netns[metrics->conf->metrics_at.netns];

	metrics->bound = *bound;
	metrics->dev = there->dev;
	metrics->ino = there->ino;
	metrics->number++;
	metrics->said = false;
}

static void
announce(const struct metrics *metrics)
{
	char at[ROUTE_TEXT_MAX];

	log_notice("metrics: listening on %s", route_format(metrics->conf->netns[metrics->conf->metrics_at.netns].name, &metrics->bound.addr, at));
}

/* True: the image before has it; *bound is ours then, unless this is a trial. */
static bool
adopt(const struct metrics *metrics, struct state *before, struct bound *bound)
{
	const struct conf_endpoint *at = &metrics->conf->metrics_at;

	*bound = (struct bound){ .fd = -1 };
	return before != NULL && adopt_metrics(before, &metrics->netns[at->netns], at->addr.len > 0 ? at : NULL, bound);
}

enum exit_code
metrics_open(struct metrics *metrics, const struct conf *conf, const struct netns *netns, struct state *before)
{
	struct job job = { .at = &conf->metrics_at, .step = "listen on" };
	bool had;

	*metrics = (struct metrics){ .conf = conf, .netns = netns, .bound = { .fd = -1 } };
	had = adopt(metrics, before, &job.bound);
	if (had && job.bound.fd == -1)
		metrics->conf = NULL;	/* a trial leaves it where it is */
	if (had && job.bound.fd != -1)
		take(metrics, &job.bound);
	if (had || job.at->addr.len == 0 || netns[job.at->netns].fd == -1)
		return EXIT_OK;
	if (open_one(metrics, &job) == -1) {
		say_failure(metrics, &job, false);
		return job.entered ? EXIT_MACHINE : EXIT_NAMESPACE;
	}
	take(metrics, &job.bound);
	announce(metrics);
	return EXIT_OK;
}

void
metrics_keep(const struct metrics *metrics, struct state *state)
{
	const struct conf_endpoint *at = metrics->conf != NULL ? &metrics->conf->metrics_at : NULL;

	state->metrics = (struct state_listener){ .fd = -1 };
	if (at == NULL || metrics->bound.fd == -1)
		return;
	state->metrics = (struct state_listener){ .fd = metrics->bound.fd, .any = at->any, .netns_dev = metrics->dev, .netns_ino = metrics->ino,
		.dev = metrics->bound.dev, .ino = metrics->bound.ino, .configured = at->addr, .bound = metrics->bound.addr };
	if (at->addr.u.sa.sa_family != AF_UNIX)
		state->metrics.port = addr_port(&at->addr);
	state_put_fd(state, "metrics", metrics->bound.fd);
}

/* The port that the kernel chose is kept. */
bool
metrics_supervise(struct metrics *metrics)
{
	const struct conf_endpoint *at = metrics->conf != NULL ? &metrics->conf->metrics_at : NULL;
	struct job job = { .at = at, .step = "listen on" };
	struct conf_endpoint again;
	const struct netns *there;
	int old;

	if (at == NULL || at->addr.len == 0 || at->addr.u.sa.sa_family == AF_UNIX)
		return false;
	there = &metrics->netns[at->netns];
	if (there->fd == -1 || (metrics->bound.fd != -1 && there->dev == metrics->dev && there->ino == metrics->ino))
		return false;
	again = *at;
	if (metrics->bound.fd != -1)
		addr_set_port(&again.addr, addr_port(&metrics->bound.addr));
	job.at = &again;
	if (open_one(metrics, &job) == -1) {
		if (!metrics->said)
			say_failure(metrics, &job, true);
		metrics->said = true;
		return false;
	}
	old = metrics->bound.fd;
	take(metrics, &job.bound);
	announce(metrics);
	fd_close(&old);
	return true;
}

void
metrics_close(struct metrics *metrics)
{
	if (metrics->conf == NULL)
		return;
	if (metrics->bound.fd != -1)
		bind_unlink(&metrics->bound);
	fd_close(&metrics->bound.fd);
}

/* ---- measures ----------------------------------------------------------------------------------------------------------------------- */

/* What waits in the kernel for being accepted: for a listening socket it stands where others have unacknowledged segments (tcp_get_info()). */
static uint64_t
backlog_of(const struct listener *listener)
{
	struct tcp_info info;
	socklen_t size = sizeof(info);

	if (listener->bound.addr.u.sa.sa_family == AF_UNIX || getsockopt(listener->bound.fd, IPPROTO_TCP, TCP_INFO, &info, &size) == -1)
		return 0;
	return info.tcpi_unacked;
}

static void
measure_listeners(struct totals *totals, const struct listen_set *listeners)
{
	uint64_t open = 0, paused = 0, backlog = 0;

	for (uint32_t i = 0; i < listeners->n; i++) {
		const struct listener *listener = &listeners->list[i];

		if (listener->bound.fd == -1)
			continue;
		if (open++ < LOOK_MOST)
			backlog += backlog_of(listener);
		paused += listener->paused;
	}
	totals_set(totals, TOTALS_LISTENERS, open);
	totals_set(totals, TOTALS_LISTENERS_PAUSED, paused);
	totals_set(totals, TOTALS_BACKLOG, backlog);
}

/* Linux 6.2 and later tell how many there are by the size of the directory. */
static uint64_t
count_files(void)
{
	struct stat st;
	uint64_t n = 0;
	DIR *dir;

	if (stat("/proc/self/fd", &st) == 0 && st.st_size > 0)
		return (uint64_t)st.st_size;
	dir = opendir("/proc/self/fd");
	while (dir != NULL && readdir(dir) != NULL)
		n++;
	if (dir != NULL)
		(void)closedir(dir);
	/* Without ".", ".." and the one that was open for counting. */
	return n > 3 ? n - 3 : 0;
}

void
metrics_measure(struct totals *totals, const struct listen_set *listeners, const struct pools *pools, size_t files)
{
	uint64_t untaken = 0;

	for (uint32_t i = 0; i < pools->n_slots; i++)
		untaken += worker_untaken(&pools->workers[i]);
	totals_set(totals, TOTALS_UNTAKEN, untaken);
	totals_set(totals, TOTALS_WORKERS_WANTED, pools_wanted(pools));
	totals_set(totals, TOTALS_FDS, count_files());
	totals_set(totals, TOTALS_FDS_MOST, files);
	measure_listeners(totals, listeners);
}
