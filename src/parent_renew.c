/* SPDX-License-Identifier: ISC */
/*
 * The parent's part in a reload: what it hands over, and how it goes on with what it was handed.
 * Runs in: parent
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "parent_renew.h"

#include <errno.h>
#include <libgen.h>
#include <limits.h>
#include <linux/capability.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "log.h"
#include "parent_adopt.h"
#include "parent_caps.h"
#include "parent_command.h"
#include "parent_confine.h"
#include "parent_handoff.h"
#include "parent_keep.h"
#include "parent_signal.h"

/* After this the reload is said to be done all the same: what is missing then is started again like any worker that died. */
#define SETTLE_MOST (20 * NS_PER_S)

const char *
renew_status(const struct parent *parent, char buf[128])
{
	size_t n = 0;

	for (size_t i = 0; i < parent->conf->n_services; i++)
		n += !parent->conf->services[i].removed;
	(void)snprintf(buf, 128, "ready, %zu services, %u workers", n, pools_wanted(&parent->pools));
	return buf;
}

void
renew_tell_ready(struct parent *parent)
{
	char status[128];

	notify_reloaded(&parent->notify, renew_status(parent, status));
}

/* ---- capabilities ------------------------------------------------------------------------------------------------------------------- */

/* Root without CAP_DAC_OVERRIDE has no more rights to what belongs to others than they let everybody have. */
static void
want_for(const char *path)
{
	struct stat st;

	if (path != NULL && stat(path, &st) == 0 && st.st_uid != geteuid())
		caps_want(CAP_DAC_OVERRIDE);
}

/* A file is made anew after it was renamed, so its directory counts as well. */
static void
want_for_file(const char *path)
{
	char dir[PATH_MAX];

	if (path == NULL || path[0] != '/')
		return;
	want_for(path);
	(void)snprintf(dir, sizeof(dir), "%s", path);
	want_for(dirname(dir));
}

void
renew_want_capabilities(const struct conf *conf)
{
	if (conf->file != NULL) {
		caps_want(CAP_CHOWN);
		caps_want(CAP_NET_BIND_SERVICE);
	}
	want_for_file(conf->file);
	want_for_file(conf->log.path);
	want_for_file(conf->control);
	if (conf->metrics_at.addr.u.sa.sa_family == AF_UNIX)
		want_for_file(conf->metrics_at.addr.u.un.sun_path);
	for (size_t s = 0; s < conf->n_services; s++) {
		const struct conf_service *service = &conf->services[s];

		want_for_file(service->access.path);
		for (size_t i = 0; i < service->n_listen; i++) {
			if (service->listen[i].addr.u.sa.sa_family == AF_UNIX)
				want_for_file(service->listen[i].addr.u.un.sun_path);
		}
	}
}

/* ---- what the reload asks for ------------------------------------------------------------------------------------------------------- */

/* What is nobody's row. A part that has a descriptor to keep over a reload puts it here, and takes it again where it is made. */
static void
keep_descriptors(const struct parent *parent, struct state *state)
{
	notify_keep(&parent->notify, state);
	state_put_fd(state, "totals", parent->totals.parent_fd);
	state_put_fd(state, "sums", parent->totals.gone_fd);
	state_put_fd(state, "reporter", parent->reporter.chan.fd);
}

static void
keep(void *owner, struct state *state)
{
	const struct parent *parent = owner;
	char *path = strdup(parent->path);

	if (path == NULL)
		fatal(EXIT_MACHINE, "cannot allocate the state");
	keep_tables(state, &parent->pools, &parent->routes, &parent->listeners, parent->watch.netns);
	metrics_keep(&parent->metrics, state);
	command_keep(parent, state);
	state->self = path;
	state->head.next_id = parent->listeners.next_id;
	state->head.filter = confine_filter();
	state->head.reloads = parent->reloads;
	state->head.upgrades = parent->upgrades;
	/* A reload goes on with the programs that it was started with, whatever has been installed since. */
	if (!state->head.upgrade) {
		state_put_fd(state, "worker-program", parent->workers.program);
		state_put_fd(state, "reporter-program", parent->reporter.program);
	}
	if (state->head.purpose == STATE_REPLACE)
		keep_descriptors(parent, state);
}

static void
begun(void *owner)
{
	struct parent *parent = owner;

	notify_reloading(&parent->notify);
}

static void
refused(void *owner, uint64_t request, const char *why)
{
	struct parent *parent = owner;
	char status[300];

	if (request != 0)
		reporter_answer(&parent->reporter, request, CTL_REFUSED, why);
	totals_add(&parent->totals, parent->reload.upgrade ? TOTALS_UPGRADE_FAILURES : TOTALS_RELOAD_FAILURES, 1);
	totals_set(&parent->totals, TOTALS_RELOAD_GOOD, 0);
	(void)snprintf(status, sizeof(status), "serving as before; a reload was refused: %.200s", why);
	notify_reloaded(&parent->notify, status);
}

/* Nothing may be under way when we go. Clients that wait go to their workers; a worker that is not ready has none. */
static void
come_to_rest(struct parent *parent)
{
	struct pools *pools = &parent->pools;

	for (unsigned i = 0; i < pools->n; i++)
		(void)handoff_retry(pools, i);
	for (uint32_t i = 0; i < pools->n_slots; i++) {
		struct worker *worker = &pools->workers[i];

		if (worker->foreign)
			handoff_push(worker);
		if (worker->state == WORKER_STARTING && !worker->ended)
			worker_end(worker, true);
	}
}

/* Returns when the program could not be executed, with errno. */
static void
replace(void *owner, int program, int conf_fd)
{
	struct parent *parent = owner;
	const struct reload *reload = &parent->reload;
	struct state state = { .head = { .purpose = STATE_REPLACE, .upgrade = reload->upgrade, .request = reload->request,
		.again = (reload->again ? STATE_AGAIN_RELOAD : 0) | (reload->again_upgrade ? STATE_AGAIN_UPGRADE : 0) } };
	int error;

	come_to_rest(parent);
	keep(parent, &state);
	state_put_fd(&state, "configuration", conf_fd);
	state.head.reporter_pid = (int32_t)parent->reporter.pid;
	reload_exec(program, reload->argv, &state);
	error = errno;
	state_free(&state);
	errno = error;
}

void
renew_init(struct parent *parent, char *const argv[])
{
	static const struct reload_ops ops = { .keep = keep, .begun = begun, .refused = refused, .replace = replace };

	reload_init(&parent->reload, &parent->loop, KIND_RELOAD, &ops, parent, argv, parent->path);
	if (parent_is_trial(parent))
		reload_stop(&parent->reload);
}

/* ---- the new image ------------------------------------------------------------------------------------------------------------------ */

static void
settle_on_timer(void *owner, void *arg)
{
	struct parent *parent = arg;

	(void)owner;
	log_warnx("not all workers are ready after %llu seconds; what is missing is started again", (unsigned long long)(SETTLE_MOST / NS_PER_S));
	parent->late = true;
}

void
renew_take_over(struct parent *parent)
{
	struct pools *pools = &parent->pools;

	parent->workers.phase = WORKERS_SERVING;
	reporter_succeed(&parent->reporter, parent->state);
	for (uint32_t i = 0; i < pools->n_workers; i++) {
		struct worker *worker = &pools->workers[i];

		if (pools->list[worker->pool].netns.fd != -1 && worker->state == WORKER_DEAD && worker->respawn.pos == 0)
			worker_start_again(worker);
	}
	adopt_rest(&parent->workers, &parent->listeners, parent->state);
	signals_reap(parent);
}

void
renew_settle(struct parent *parent)
{
	const struct state_head *head = &parent->state->head;

	totals_add(&parent->totals, head->upgrade ? TOTALS_UPGRADES : TOTALS_RELOADS, 1);
	totals_set(&parent->totals, TOTALS_RELOAD_GOOD, 1);
	totals_set(&parent->totals, TOTALS_RELOADED, loop_realtime());
	parent->reload.phase = RELOAD_SETTLING;
	parent->reload.upgrade = head->upgrade != 0;
	parent->reload.again = (head->again & STATE_AGAIN_RELOAD) != 0;
	parent->reload.again_upgrade = (head->again & STATE_AGAIN_UPGRADE) != 0;
	parent->settle_timer = (struct loop_timer){ .fn = settle_on_timer, .arg = parent };
	loop_timer_set(&parent->loop, &parent->settle_timer, parent->loop.now + SETTLE_MOST);
}

/* Connections of workers that get no clients any more. */
static uint64_t
count_retired(const struct pools *pools, unsigned *n)
{
	uint64_t load = 0;

	*n = 0;
	for (uint32_t i = 0; i < pools->n_slots; i++) {
		const struct worker *worker = &pools->workers[i];

		if (!worker->retired || worker->state == WORKER_DEAD)
			continue;
		load += worker_load(worker);
		*n += worker_load(worker) > 0;
	}
	return load;
}

static void
say_settled(struct parent *parent)
{
	bool upgrade = parent->reload.upgrade;
	unsigned n_retired;
	uint64_t load = count_retired(&parent->pools, &n_retired);
	char status[128], rest[160] = "";

	if (load > 0)
		(void)snprintf(rest, sizeof(rest), "; %llu connections of before finish in %u workers of their own", (unsigned long long)load, n_retired);
	log_notice("%s: %s%s%s%s", upgrade ? "upgraded to " PACKAGE_VERSION : "reloaded", upgrade || parent->conf->file == NULL ? "" : parent->conf->file,
	    upgrade || parent->conf->file == NULL ? "" : ": ", renew_status(parent, status), rest);
	renew_tell_ready(parent);
}

void
renew_check(struct parent *parent)
{
	if (parent->reload.phase != RELOAD_SETTLING || parent->stopping)
		return;
	if (!parent->late && (parent->reporter.state != REPORTER_SERVING || pools_serving(&parent->pools) < pools_wanted(&parent->pools)))
		return;
	loop_timer_clear(&parent->loop, &parent->settle_timer);
	say_settled(parent);
	reload_settled(&parent->reload);
}
