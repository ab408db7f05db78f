/* SPDX-License-Identifier: ISC */
/*
 * The configuration in effect: its stages from text to plain structs.
 * Runs in: parent
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "parent_conf.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "parent_conf_check.h"
#include "parent_conf_draft.h"
#include "parent_conf_file.h"
#include "parent_conf_place.h"
#include "parent_conf_read.h"
#include "parent_conf_try.h"
#include "parent_conf_user.h"

static bool
is_service_managers(const char *variable)
{
	static const char *const kept[] = { "NOTIFY_SOCKET=", "LISTEN_", "WATCHDOG_", "JOURNAL_STREAM=", "INVOCATION_ID=" };
	size_t i;

	for (i = 0; i < sizeof(kept) / sizeof(kept[0]); i++)
		if (strncmp(variable, kept[i], strlen(kept[i])) == 0)
			return true;
	return false;
}

/* Nothing that a caller left in the environment may change what a configuration means, or what libraries do with privilege. */
static void
clear_environment(void)
{
	char **kept = NULL, **variable;
	size_t i, n = 0;

	for (variable = environ; variable != NULL && *variable != NULL; variable++)
		if (is_service_managers(*variable)) {
			kept = draft_grow(kept, n, sizeof(*kept));
			kept[n++] = draft_copy(*variable);
		}
	(void)clearenv();
	for (i = 0; i < n; i++) {
		char *equals = strchr(kept[i], '=');

		if (equals != NULL) {
			*equals = '\0';
			if (setenv(kept[i], equals + 1, 1) == -1)
				fatal(EXIT_MACHINE, "cannot keep the environment");
		}
		free(kept[i]);
	}
	free(kept);
}

/* All services become part of conf; where they were written is forgotten with the draft. */
static void
move_out(struct conf_draft *draft, struct conf *conf)
{
	size_t i;

	for (i = 0; i < draft->n_services; i++) {
		draft->conf.services = draft_grow(draft->conf.services, i, sizeof(*draft->conf.services));
		draft->conf.services[i] = draft->services[i].out;
		memset(&draft->services[i].out, 0, sizeof(draft->services[i].out));
	}
	draft->conf.n_services = draft->n_services;
	*conf = draft->conf;
	memset(&draft->conf, 0, sizeof(draft->conf));
}

enum exit_code
conf_load(const struct conf_options *options, struct conf *conf)
{
	struct conf_draft draft;
	struct conf_places places;
	enum exit_code code;

	clear_environment();
	memset(conf, 0, sizeof(*conf));
	draft_init(&draft);
	places_init(&places);
	draft.check = options->check;
	if (options->n_pairs == 0) {
		draft.conf.file = draft_copy(options->file != NULL ? options->file : SYSCONFDIR "/nsproxy/nsproxy.conf");
		conf_file_read(&draft, draft.conf.file);
	}
	conf_read_pairs(&draft, options);
	conf_read_finish(&draft, options);
	conf_user_resolve(&draft);
	conf_place_services(&draft, &places);
	conf_check_resolved(&draft);
	if (options->check)
		conf_try(&draft, &places);
	places_free(&places);
	code = draft.first;
	if (code == EXIT_OK)
		move_out(&draft, conf);
	draft_free(&draft);
	return code;
}

static void
free_endpoint(struct conf_endpoint *endpoint)
{
	free(endpoint->text);
}

static void
free_service(struct conf_service *service)
{
	size_t i;

	for (i = 0; i < service->n_listen; i++)
		free_endpoint(&service->listen[i]);
	free(service->listen);
	free_endpoint(&service->connect);
	free(service->name);
	free((char *)service->file);
	free(service->access.path);
	free(service->unix_owner);
}

void
conf_free(struct conf *conf)
{
	size_t i;

	for (i = 0; i < conf->n_services; i++)
		free_service(&conf->services[i]);
	free(conf->services);
	for (i = 0; i < conf->n_netns; i++) {
		free(conf->netns[i].name);
		free(conf->netns[i].path);
	}
	free(conf->netns);
	free(conf->user);
	free(conf->log.path);
	free(conf->access.path);
	free(conf->control);
	free(conf->control_group);
	free(conf->metrics);
	free_endpoint(&conf->metrics_at);
	free(conf->pidfile);
	free(conf->file);
	memset(conf, 0, sizeof(*conf));
}
