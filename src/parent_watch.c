/* SPDX-License-Identifier: ISC */
/*
 * Network namespaces over time.
 * Runs in: parent
 *
 * Theory of operation: a name means a namespace only as long as nobody deletes it and makes it anew; our descriptor and our workers stay in the old
 * one, where nobody is any more. So each name is opened again and compared by device and inode: when something happens in its directory (inotify),
 * and every few seconds in any case, since a path in /proc and a mount tell nothing. A name that comes back is a plain file first and becomes a
 * namespace by a mount that no event tells; then a timer looks again, after 1 ms to 1 s, and likewise while listeners cannot be opened, since a new
 * namespace has no addresses at first.
 *
 * Missing: clients are reset, listeners and workers stay. Another one than before: workers are started in it, those that there are finish
 * (parent_worker.c), listeners are opened anew, and only then the old ones are closed.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "parent_watch.h"

#include <errno.h>
#include <libgen.h>
#include <limits.h>
#include <linux/capability.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "fdutil.h"
#include "log.h"
#include "parent_caps.h"
#include "parent_open.h"
#include "parent_retire.h"

#define RETRY_FIRST (1 * NS_PER_MS)
#define RETRY_MOST (1 * NS_PER_S)
/* Between two lines about clients that were reset. */
#define REFUSED_QUIET (60 * NS_PER_S)
#define FIRST_UNPRIVILEGED_PORT 1024

void
watch_init(struct watch *watch, const struct conf *conf, struct loop *loop)
{
	*watch = (struct watch){ .conf = conf, .loop = loop, .inotify_fd = -1 };
}

/* ---- at start ----------------------------------------------------------------------------------------------------------------------- */

static bool
service_uses(const struct conf_service *service, unsigned of)
{
	bool uses = !service->removed && service->connect.netns == of;

	for (size_t i = 0; i < service->n_listen; i++)
		uses |= service->listen[i].netns == of;
	return uses;
}

/* Do workers live in it? */
static bool
is_private(const struct conf *conf, unsigned of)
{
	bool is = false;

	for (size_t s = 0; s < conf->n_services; s++)
		is |= !conf->services[s].removed && conf->services[s].connect.netns == of;
	return is;
}

/* Where the first service that names this namespace was written, for messages. */
static void
netns_where(const struct conf *conf, unsigned of, char where[ROUTE_TEXT_MAX])
{
	where[0] = '\0';
	for (size_t s = 0; s < conf->n_services; s++) {
		if (service_uses(&conf->services[s], of)) {
			(void)route_where(&conf->services[s], where);
			return;
		}
	}
}

/* Do all that use it wait for it? Then who does, "web, mail". */
static bool
is_awaited(const struct conf *conf, unsigned of, char *who, size_t size)
{
	size_t used = 0;

	who[0] = '\0';
	if (conf->metrics_at.addr.len != 0 && conf->metrics_at.netns == of && !conf->metrics_waits)
		return false;
	for (size_t s = 0; s < conf->n_services; s++) {
		const struct conf_service *service = &conf->services[s];

		if (!service_uses(service, of))
			continue;
		if (!service->wait_for_netns)
			return false;
		if (used < size)
			used += (size_t)snprintf(who + used, size - used, "%s%s", used > 0 ? ", " : "", service->name);
	}
	return of != 0;
}

static int
pin(struct watch *watch, unsigned of, bool soft)
{
	const struct conf_netns *conf = &watch->conf->netns[of];
	struct netns *netns = &watch->netns[of];
	char where[ROUTE_TEXT_MAX], who[256];

	if (netns_find(netns, conf->name, conf->path) == 0)
		return 0;
	if (soft) {
		log_warn("network namespace '%s' (%s) cannot be opened: it is awaited, and what goes on in it may finish", conf->name, conf->path);
		watch->list[of].missing = true;
		return 0;
	}
	if (netns_is_missing(errno) && is_awaited(watch->conf, of, who, sizeof(who))) {
		log_warnx("network namespace '%s' (%s) is missing; waiting for it: %s (%s)", conf->name, conf->path, who,
		    is_private(watch->conf, of) ? "clients are reset meanwhile" : "listeners are opened when it is there");
		watch->list[of].missing = true;
		return 0;
	}
	netns_where(watch->conf, of, where);
	return netns_open(netns, conf->name, conf->path, where);
}

/* What it takes to follow a namespace after the start. */
static void
want_capabilities(const struct conf *conf)
{
	for (size_t i = 1; i < conf->n_netns; i++) {
		if (strncmp(conf->netns[i].path, "/proc/", strlen("/proc/")) == 0)
			caps_want(CAP_SYS_PTRACE);
	}
	if (conf->metrics_at.netns != 0 && addr_port(&conf->metrics_at.addr) < FIRST_UNPRIVILEGED_PORT)
		caps_want(CAP_NET_BIND_SERVICE);
	for (size_t s = 0; s < conf->n_services; s++) {
		for (size_t i = 0; i < conf->services[s].n_listen; i++) {
			const struct conf_endpoint *listen = &conf->services[s].listen[i];

			if (listen->netns != 0 && addr_port(&listen->addr) < FIRST_UNPRIVILEGED_PORT)
				caps_want(CAP_NET_BIND_SERVICE);
		}
	}
}

enum exit_code
watch_pin(struct watch *watch, bool soft)
{
	const struct conf *conf = watch->conf;

	watch->netns = calloc(conf->n_netns, sizeof(*watch->netns));
	watch->list = calloc(conf->n_netns, sizeof(*watch->list));
	if (watch->netns == NULL || watch->list == NULL) {
		log_err("cannot allocate the table of %zu namespaces", conf->n_netns);
		return EXIT_MACHINE;
	}
	for (; watch->n < conf->n_netns; watch->n++) {
		watch->list[watch->n] = (struct watched){ .watch = watch, .of = (unsigned)watch->n };
		if (pin(watch, (unsigned)watch->n, soft) == -1)
			return EXIT_NAMESPACE;
	}
	want_capabilities(conf);
	/* Here, since the filter of the parent has no call that makes a watch. */
	watch->inotify_fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	for (size_t i = 1; i < conf->n_netns && watch->inotify_fd != -1; i++) {
		char path[PATH_MAX];

		(void)snprintf(path, sizeof(path), "%s", conf->netns[i].path);
		if (strncmp(path, "/proc/", strlen("/proc/")) != 0 && inotify_add_watch(watch->inotify_fd, dirname(path),
		    IN_CREATE | IN_DELETE | IN_MOVED_TO | IN_MOVED_FROM | IN_ONLYDIR) == -1)
			log_debug("start", "no watch on the directory of %s: %s", conf->netns[i].path, strerror(errno));
	}
	return EXIT_OK;
}

/* ---- changes ------------------------------------------------------------------------------------------------------------------------ */

/* Says it to the pool, if there is one: the names are unique in conf, so there is one at most. Returns the clients that were reset until now. */
static uint64_t
set_missing(struct watched *watched, bool missing)
{
	struct pools *pools = watched->watch->pools;
	uint64_t refused = 0;

	watched->missing = missing;
	for (unsigned i = 0; i < pools->n; i++) {
		struct pool *pool = &pools->list[i];

		if (pool->of_netns != watched->of)
			continue;
		refused = pool->refused;
		pool->missing = missing;
		pool->refused = 0;
	}
	watched->refused_said = 0;
	watched->quiet_until = watched->watch->loop->now + REFUSED_QUIET;
	pools->changed = true;
	return refused;
}

static void
on_missing(struct watched *watched)
{
	const struct conf_netns *conf = &watched->watch->conf->netns[watched->of];

	if (watched->missing)
		return;
	(void)set_missing(watched, true);
	log_warnx("network namespace '%s' (%s) is gone: %s until it is there again, and what goes on in it may finish", conf->name, conf->path,
	    is_private(watched->watch->conf, watched->of) ? "new clients are reset" : "nobody reaches its listeners");
}

static void
on_same(struct watched *watched)
{
	const struct conf_netns *conf = &watched->watch->conf->netns[watched->of];

	if (!watched->missing)
		return;
	log_notice("network namespace '%s' (%s) is there again, the same as before; %llu clients were reset meanwhile", conf->name, conf->path,
	    (unsigned long long)set_missing(watched, false));
}

/* Takes `now`. */
static void
on_other(struct watched *watched, const struct netns *now)
{
	struct watch *watch = watched->watch;
	struct netns old = watch->netns[watched->of];
	uint64_t refused = set_missing(watched, false), load = 0;
	uint32_t n_listeners;
	char said[128] = "";

	watch->netns[watched->of] = *now;
	for (unsigned i = 0; i < watch->pools->n; i++) {
		if (watch->pools->list[i].of_netns == watched->of)
			load = workers_switch(watch->workers, &watch->pools->list[i], now);
	}
	n_listeners = open_want(watch->listeners, watch->routes, watched->of);
	watched->opening = n_listeners > 0;
	watched->fresh = old.fd == -1;
	watched->said = false;
	watched->wait = 0;
	loop_timer_clear(watch->loop, &watched->retry);
	if (is_private(watch->conf, watched->of))
		(void)snprintf(said, sizeof(said), "; %llu clients were reset meanwhile, %llu connections in the one before may finish",
		    (unsigned long long)refused, (unsigned long long)load);
	log_notice("network namespace '%s' (%s) %s%s%s%s", now->name, now->path, old.fd == -1 ? "is there" : "was made anew",
	    is_private(watch->conf, watched->of) ? ": new workers are started in it" : "", n_listeners > 0 ? ": its listeners are opened in it" : "", said);
	netns_close(&old);
}

/* Such as in a directory that only its owner may search: then nothing changes, and nothing is noticed. A shortage goes by, the next look tells. */
static void
on_blind(struct watched *watched)
{
	const struct conf_netns *conf = &watched->watch->conf->netns[watched->of];

	if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == EINTR)
		return;
	if (!watched->blind)
		log_warn("cannot see whether network namespace '%s' (%s) still is the same", conf->name, conf->path);
	watched->blind = true;
}

/* What does the name mean now? False: it is about to be something, or that cannot be told. */
static bool
look(struct watched *watched)
{
	const struct conf_netns *conf = &watched->watch->conf->netns[watched->of];
	const struct netns *had = &watched->watch->netns[watched->of];
	struct netns now;

	if (netns_find(&now, conf->name, conf->path) == -1) {
		bool half = errno == EINVAL;

		if (netns_is_missing(errno))
			on_missing(watched);
		else
			on_blind(watched);
		return !half;
	}
	watched->blind = false;
	if (had->fd == -1 || now.dev != had->dev || now.ino != had->ino) {
		on_other(watched, &now);
	} else {
		netns_close(&now);
		on_same(watched);
	}
	return true;
}

/* One warning, when it takes longer than a namespace that is being set up needs. */
static void
open_what_is_wanted(struct watched *watched)
{
	struct watch *watch = watched->watch;
	bool say = !watched->said && watched->wait >= RETRY_MOST;

	watched->opening = open_wanted(watch->listeners, watch->routes, watched->of, &watch->netns[watched->of], &watch->netns[0], say) > 0;
	/* Before anybody is accepted there the reporter has to know where it is. */
	watch->pools->changed |= watch->routes->n_moved > 0;
	if (watched->opening)
		watched->said |= say;
	else
		log_notice("the listeners in network namespace '%s' are open%s", watch->conf->netns[watched->of].name, watched->fresh ? "" : " again");
}

static void
look_and_open(struct watched *watched)
{
	bool settled = look(watched);

	if (watched->opening && !watched->missing)
		open_what_is_wanted(watched);
	if (settled && (!watched->opening || watched->missing)) {
		watched->wait = 0;
		loop_timer_clear(watched->watch->loop, &watched->retry);
	} else if (watched->retry.pos == 0) {
		watched->wait = watched->wait == 0 ? RETRY_FIRST : watched->wait * 2 < RETRY_MOST ? watched->wait * 2 : RETRY_MOST;
		loop_timer_set(watched->watch->loop, &watched->retry, watched->watch->loop->now + watched->wait);
	}
}

static void
retry_on_timer(void *owner, void *arg)
{
	(void)owner;
	look_and_open(arg);
}

static void
say_refused(struct watched *watched)
{
	struct watch *watch = watched->watch;

	for (unsigned i = 0; i < watch->pools->n; i++) {
		const struct pool *pool = &watch->pools->list[i];

		if (pool->of_netns != watched->of || !watched->missing || pool->refused == watched->refused_said ||
		    watch->loop->now < watched->quiet_until)
			continue;
		log_warnx("network namespace '%s' still is missing: %llu clients were reset", pool->name,
		    (unsigned long long)(pool->refused - watched->refused_said));
		watched->refused_said = pool->refused;
		watched->quiet_until = watch->loop->now + REFUSED_QUIET;
	}
}

/* Number 0 is where this process lives: that one cannot change. */
static void
look_at_all(struct watch *watch)
{
	for (size_t i = watch->n > 0 && watch->list[0].opening ? 0 : 1; i < watch->n; i++)
		look_and_open(&watch->list[i]);
}

/* What it says does not matter: that it says something is a reason to look. */
static void
on_inotify(void *owner, struct loop_ref ref, uint32_t events)
{
	struct watch *watch = owner;
	char buf[4096] __attribute__((aligned(__alignof__(struct inotify_event))));
	bool any = false;

	(void)ref, (void)events;
	while (read(watch->inotify_fd, buf, sizeof(buf)) > 0)
		any = true;
	if (any)
		look_at_all(watch);
}

void
watch_start(struct watch *watch, uint8_t kind, struct pools *pools, struct routes *routes, struct listen_set *listeners, struct workers *workers)
{
	watch->pools = pools;
	watch->routes = routes;
	watch->listeners = listeners;
	watch->workers = workers;
	for (size_t i = 0; i < watch->n; i++)
		watch->list[i].retry = (struct loop_timer){ .fn = retry_on_timer, .arg = &watch->list[i] };
	for (size_t i = 0; i < watch->n; i++)
		watch->list[i].opening = !watch->list[i].missing && open_count_wanted(listeners, routes, (unsigned)i) > 0;
	watch->running = true;
	loop_on(watch->loop, kind, on_inotify, watch);
	if (watch->inotify_fd != -1 && loop_add(watch->loop, watch->inotify_fd, EPOLLIN, (struct loop_ref){ .kind = kind }) == -1)
		log_debug("start", "the directories of namespaces are not polled: %s", strerror(errno));
	/* What happened since they were pinned. */
	look_at_all(watch);
}

void
watch_supervise(struct watch *watch)
{
	if (!watch->running)
		return;
	look_at_all(watch);
	for (size_t i = 1; i < watch->n; i++)
		say_refused(&watch->list[i]);
}

void
watch_recheck(struct watch *watch)
{
	for (unsigned i = 0; watch->running && i < watch->pools->n; i++) {
		struct pool *pool = &watch->pools->list[i];
		bool serves = false;

		for (uint32_t j = 0; pool->switching && j < 2 * pool->n; j++) {
			const struct worker *worker = pool_slot(watch->pools, pool, j);

			serves |= worker->state == WORKER_SERVING && !worker->ended && !worker->retired;
		}
		if (!serves)
			continue;
		pool->switching = false;
		log_notice("clients are served in network namespace '%s' as it is now", pool->name);
	}
}

void
watch_stop(struct watch *watch)
{
	if (watch->running && watch->inotify_fd != -1)
		(void)loop_remove(watch->loop, watch->inotify_fd);
	for (size_t i = 0; watch->running && i < watch->n; i++)
		loop_timer_clear(watch->loop, &watch->list[i].retry);
	watch->running = false;
}

void
watch_free(struct watch *watch)
{
	fd_close(&watch->inotify_fd);
	for (size_t i = 0; i < watch->n; i++)
		netns_close(&watch->netns[i]);
	free(watch->netns);
	free(watch->list);
	watch->netns = NULL;
	watch->list = NULL;
	watch->n = 0;
}
