/* SPDX-License-Identifier: ISC */
/*
 * What the reporter is told so that it can answer.
 * Runs in: parent
 *
 * Theory of operation: as in parent_reporter.c, state and no events. What was told last is kept; tell_sync() makes each message anew and sends those
 * that differ. It is called when something has changed, and every few seconds, which is soon enough for what only people look at.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "parent_tell.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "log.h"
#include "parent_caps.h"

int
tell_init(struct tell *tell, const struct pools *pools, const struct listen_set *listeners, const struct orders *orders)
{
	const struct conf *conf = pools->conf;
	struct stat place;

	*tell = (struct tell){ .pools = pools, .listeners = listeners, .orders = orders };
	tell->services_told = calloc(conf->n_services, sizeof(*tell->services_told));
	tell->workers_told = calloc(pools->n_slots, sizeof(*tell->workers_told));
	if (tell->services_told == NULL || tell->workers_told == NULL) {
		log_err("cannot allocate what the reporter knows of %u workers", pools->n_slots);
		return -1;
	}
	if (stat("/proc/self/ns/net", &place) == 0)
		tell->parent.netns = place.st_ino;
	(void)snprintf(tell->parent.version, sizeof(tell->parent.version), "%s", PACKAGE_VERSION);
	(void)snprintf(tell->parent.file, sizeof(tell->parent.file), "%s", conf->file != NULL ? conf->file : "");
	return 0;
}

void
tell_confined(struct tell *tell, const struct sandbox_result *confined)
{
	struct msg_parent *parent = &tell->parent;

	parent->pid = (uint32_t)getpid();
	parent->uid = geteuid();
	parent->gid = getegid();
	caps_read(&parent->permitted, &parent->effective, &parent->bounding);
	parent->layers = confined->layers | 1u << LAYER_NNP;
	parent->syscalls = confined->syscalls;
	parent->syscalls_checked = confined->syscalls_checked;
}

void
tell_listener(struct tell *tell, const struct msg_listen *msg, int fd)
{
	if (tell->n_listens < TELL_LISTENERS)
		tell->listens[tell->n_listens++] = (struct tell_listener){ .msg = *msg, .fd = fd };
	else
		log_errx("more than %u sockets for the reporter to serve: one is left out", TELL_LISTENERS);
}

void
tell_result(struct tell *tell, uint64_t number, enum ctl_code code, const char *text)
{
	struct msg_result *result;

	if (tell->n_results == TELL_RESULTS) {
		log_warnx("the reporter does not take the result of a request: %s", text);
		return;
	}
	result = &tell->results[tell->n_results++];
	*result = (struct msg_result){ .number = number, .code = code };
	(void)snprintf(result->text, sizeof(result->text), "%s", text);
}

void
tell_forget(struct tell *tell)
{
	tell->parent_told = (struct msg_parent){ 0 };
	memset(tell->services_told, 0, sizeof(*tell->services_told) * tell->pools->conf->n_services);
	memset(tell->workers_told, 0, sizeof(*tell->workers_told) * tell->pools->n_slots);
	tell->level_told = (uint32_t)log_level();
	tell->n_results = 0;
	for (unsigned i = 0; i < tell->n_listens; i++)
		tell->listens[i].told = false;
}

/* ---- what is ---------------------------------------------------------------------------------------------------------------------------- */

static void
parent_now(struct tell *tell, struct msg_parent *msg)
{
	const struct pools *pools = tell->pools;

	*msg = tell->parent;
	msg->log_level = (uint32_t)log_level();
	msg->workers = pools_wanted(pools);
	if (pools->totals->parent != NULL) {
		msg->started = sb_get(&pools->totals->parent->values[TOTALS_STARTED]);
		msg->loaded = sb_get(&pools->totals->parent->values[TOTALS_RELOADED]);
		msg->reloads = (uint32_t)sb_get(&pools->totals->parent->values[TOTALS_RELOADS]);
		msg->upgrades = (uint32_t)sb_get(&pools->totals->parent->values[TOTALS_UPGRADES]);
	}
	if (msg->loaded == 0)
		msg->loaded = msg->started;
}

static void
service_now(const struct tell *tell, uint32_t i, struct msg_service *msg)
{
	const struct conf_service *conf = &tell->pools->conf->services[i];
	const struct order_drain *drain = &tell->orders->drains[i];
	unsigned pool = tell->pools->of_service[i];

	*msg = (struct msg_service){ .number = i, .engine = (uint32_t)conf->engine, .pool = pool, .limit = conf->max_connections };
	(void)snprintf(msg->name, sizeof(msg->name), "%s", conf->name);
	if (conf->removed) {
		msg->flags = SERVICE_REMOVED;
		return;
	}
	if (drain->drained)
		msg->flags |= SERVICE_DRAINED;
	if (drain->drained && drain->until != LOOP_NEVER)
		msg->drain_until = drain->until;
	if (tell->pools->list[pool].missing)
		msg->flags |= SERVICE_MISSING;
	if (listen_is_paused(tell->listeners, i))
		msg->flags |= SERVICE_PAUSED;
}

static enum worker_show
state_of(const struct worker *worker)
{
	if (worker->state == WORKER_STARTING)
		return SHOW_STARTING;
	if (worker->retired)
		return SHOW_RETIRED;
	return worker->state == WORKER_STOPPING ? SHOW_STOPPING : SHOW_SERVING;
}

static void
worker_now(const struct tell *tell, const struct worker *worker, struct msg_worker_state *msg)
{
	const struct pool *pool = &tell->pools->list[worker->pool];

	*msg = (struct msg_worker_state){ .index = worker->index, .pid = (uint32_t)worker->pid, .uid = worker->uid, .gid = worker->gid,
		.state = state_of(worker), .flags = worker->late ? WORKER_LATE : 0, .started = worker->started, .netns = worker->netns_ino,
		.ready = worker->ready };
	(void)snprintf(msg->pool, sizeof(msg->pool), "%s", tell->pools->conf->netns[pool->of_netns].name);
}

/* ---- what is told ----------------------------------------------------------------------------------------------------------------------- */

/* Sends *now unless it is what was told. */
static int
tell_change(struct chan *chan, enum msg_type type, const void *now, void *told, size_t size)
{
	if (memcmp(now, told, size) == 0)
		return 0;
	if (chan_send(chan, type, now, 1, NULL, 0) == -1)
		return -1;
	memcpy(told, now, size);
	return 0;
}

static int
tell_services(struct tell *tell, struct chan *chan)
{
	for (uint32_t i = 0; i < tell->pools->conf->n_services; i++) {
		struct msg_service now;

		service_now(tell, i, &now);
		if (tell_change(chan, MSG_SERVICE, &now, &tell->services_told[i], sizeof(now)) == -1)
			return -1;
	}
	return 0;
}

/* Those that the reporter knows: each was announced to it before. */
static int
tell_workers(struct tell *tell, struct chan *chan)
{
	for (uint32_t i = 0; i < tell->pools->n_slots; i++) {
		const struct worker *worker = &tell->pools->workers[i];
		struct msg_worker_state now;

		if (worker->state == WORKER_DEAD || worker->announced != worker->generation)
			continue;
		worker_now(tell, worker, &now);
		if (tell_change(chan, MSG_WORKER_STATE, &now, &tell->workers_told[i], sizeof(now)) == -1)
			return -1;
	}
	return 0;
}

static int
tell_listens(struct tell *tell, struct chan *chan)
{
	for (unsigned i = 0; i < tell->n_listens; i++) {
		struct tell_listener *listen = &tell->listens[i];

		if (!listen->told && chan_send(chan, MSG_LISTEN, &listen->msg, 1, &listen->fd, 1) == -1)
			return -1;
		listen->told = true;
	}
	return 0;
}

static int
tell_level(struct tell *tell, struct chan *chan)
{
	struct msg_level msg = { .level = (uint32_t)log_level() };

	if (tell->level_told == msg.level)
		return 0;
	if (chan_send(chan, MSG_LEVEL, &msg, 1, NULL, 0) == -1)
		return -1;
	tell->level_told = msg.level;
	return 0;
}

static int
tell_results(struct tell *tell, struct chan *chan)
{
	while (tell->n_results > 0) {
		if (chan_send(chan, MSG_RESULT, &tell->results[0], 1, NULL, 0) == -1)
			return -1;
		memmove(&tell->results[0], &tell->results[1], sizeof(tell->results[0]) * --tell->n_results);
	}
	return 0;
}

int
tell_sync(struct tell *tell, struct chan *chan)
{
	struct msg_parent parent;

	parent_now(tell, &parent);
	if (tell_change(chan, MSG_PARENT, &parent, &tell->parent_told, sizeof(parent)) == -1 || tell_services(tell, chan) == -1 ||
	    tell_workers(tell, chan) == -1 || tell_level(tell, chan) == -1 || tell_results(tell, chan) == -1)
		return -1;
	/* Last: whoever asks gets an answer to which nothing is missing. */
	return tell_listens(tell, chan);
}

void
tell_free(struct tell *tell)
{
	free(tell->services_told);
	free(tell->workers_told);
	*tell = (struct tell){ 0 };
}
