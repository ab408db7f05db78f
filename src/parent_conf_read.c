/* SPDX-License-Identifier: ISC */
/*
 * The first half of conf_load(): everything that looks at nothing but the texts themselves.
 * Runs in: parent
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "parent_conf_read.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "parent_conf_check.h"
#include "parent_conf_key.h"

static void
set_by_option(struct conf_draft *draft, struct draft_service *service, const char *key, const char *option, const char *text)
{
	struct conf_where where = { NULL, 0, option };

	conf_key_find(key, service != NULL ? KEY_SERVICE : KEY_TOP)->set(draft, service, text, &where);
}

void
conf_read_pairs(struct conf_draft *draft, const struct conf_options *options)
{
	struct conf_where where = { NULL, 0, "-l" };
	size_t i;

	for (i = 0; i < options->n_pairs; i++) {
		const struct conf_pair *pair = &options->pairs[i];
		/* Equal names are fine where the kernel chooses the port; elsewhere the listeners overlap, which is said later. */
		struct draft_service *service = draft_service_add(draft, pair->listen, &where);

		service->written = true;
		set_by_option(draft, service, "listen", "-l", pair->listen);
		set_by_option(draft, service, "connect", "-c", pair->connect);
		/* A malformed address is said to be that, not to be a bad name. */
		if (service->listen[0].good)
			(void)conf_key_check_service(draft, pair->listen, &where);
	}
}

static void
forget_engines(struct conf_draft *draft)
{
	size_t i;

	for (i = 0; i < draft->n_services; i++)
		draft->services[i].has_engine = false;
}

static void
forget_access_logs(struct conf_draft *draft)
{
	size_t i;

	for (i = 0; i < draft->n_services; i++)
		draft->services[i].has_access = false;
}

/* The command line wins over the file, over its services too. */
static void
apply_options(struct conf_draft *draft, const struct conf_options *options)
{
	struct conf *conf = &draft->conf;

	if (options->access != NULL) {
		forget_access_logs(draft);
		set_by_option(draft, NULL, "access-log", "-a", options->access);
	}
	if (options->engine != NULL) {
		forget_engines(draft);
		set_by_option(draft, NULL, "engine", "-e", options->engine);
	}
	if (options->socket != NULL)
		set_by_option(draft, NULL, "control", "-s", options->socket);
	if (options->user != NULL)
		set_by_option(draft, NULL, "user", "-u", options->user);
	if (options->workers != NULL)
		set_by_option(draft, NULL, "workers", "-w", options->workers);
	if (options->verbose > 0)
		conf->log_level = options->verbose > 1 ? LOG_L_DEBUG : LOG_L_INFO;
	conf->background = options->background;
	if (options->pidfile != NULL && options->pidfile[0] != '\0')
		conf->pidfile = draft_copy(options->pidfile);
}

static unsigned
allowed_cpus(void)
{
	cpu_set_t set;
	int n;

	/* EINVAL: more CPUs than a cpu_set_t knows (sched_setaffinity(2)); one worker for each of those it knows will do. */
	if (sched_getaffinity(0, sizeof(set), &set) == -1)
		return CPU_SETSIZE;
	n = CPU_COUNT(&set);
	return n > 0 ? (unsigned)n : 1;
}

static void
inherit(const struct conf_draft *draft, struct draft_service *service)
{
	struct conf_service *out = &service->out;

	if (!service->has_engine)
		out->engine = draft->engine;
	if (!service->has_access) {
		free(out->access.path);
		out->access.kind = draft->conf.access.kind;
		out->access.path = draft->conf.access.path != NULL ? draft_copy(draft->conf.access.path) : NULL;
	}
	if (!service->has_log_empty)
		out->log_empty = draft->log_empty;
	if (!service->has_wait)
		out->wait_for_netns = draft->wait_for_netns;
}

void
conf_read_finish(struct conf_draft *draft, const struct conf_options *options)
{
	struct conf_where nowhere = { draft->conf.file, 0, NULL };
	size_t i;

	apply_options(draft, options);
	if (draft->conf.workers == 0)
		draft->conf.workers = allowed_cpus();
	for (i = 0; i < draft->n_services; i++)
		inherit(draft, &draft->services[i]);
	/* After another error this might not be true. */
	if (draft->n_services == 0 && draft->first == EXIT_OK)
		draft_error(draft, &nowhere, EXIT_CMDLINE, "there is no service; write at least one");
	conf_check_services(draft);
}
