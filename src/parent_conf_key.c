/* SPDX-License-Identifier: ISC */
/*
 * The keys of nsproxy.conf(5): one small function a setting.
 * Runs in: parent
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "parent_conf_key.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "parent_conf_check.h"
#include "parent_conf_value.h"

/* Workers for each namespace; more only cost memory. */
#define WORKERS_MOST 1024
/* A hundred years: the loop counts nanoseconds in 64 bits. */
#define TIME_MOST_MS (UINT64_C(100) * 365 * 24 * 60 * 60 * 1000)

static void
bad(struct conf_draft *draft, const char *text, const struct conf_where *where, const char *why)
{
	draft_error(draft, where, EXIT_CMDLINE, "'%s': %s", text, why);
}

static uint64_t
number_of(struct conf_draft *draft, const char *text, const struct conf_where *where, uint64_t least, uint64_t most, uint64_t before)
{
	uint64_t number;
	const char *why;

	if (value_number(text, least, most, &number, &why) == 0)
		return number;
	bad(draft, text, where, why);
	return before;
}

static uint64_t
time_of(struct conf_draft *draft, const char *text, const struct conf_where *where, uint64_t most_ms, uint64_t before)
{
	uint64_t ms;
	const char *why;

	if (value_time(text, most_ms, &ms, &why) == 0)
		return ms;
	bad(draft, text, where, why);
	return before;
}

static void
set_bool(struct conf_draft *draft, const char *text, const struct conf_where *where, bool *flag)
{
	const char *why;

	if (value_bool(text, flag, &why) == -1)
		bad(draft, text, where, why);
}

static void
set_mode(struct conf_draft *draft, const char *text, const struct conf_where *where, mode_t *mode)
{
	const char *why;

	if (value_mode(text, mode, &why) == -1)
		bad(draft, text, where, why);
}

static void
set_user(struct conf_draft *draft, struct draft_service *service, const char *text, const struct conf_where *where)
{
	(void)service;
	draft_value_set(&draft->user, text, where);
}

static void
set_worker_users(struct conf_draft *draft, struct draft_service *service, const char *text, const struct conf_where *where)
{
	const char *why;

	(void)service;
	draft->worker_users_where = *where;
	if (value_uid_range(text, &draft->conf.worker_uid_first, &draft->conf.worker_uid_last, &why) == -1)
		bad(draft, text, where, why);
}

static void
set_workers(struct conf_draft *draft, struct draft_service *service, const char *text, const struct conf_where *where)
{
	(void)service;
	draft->conf.workers = (unsigned)number_of(draft, text, where, 0, WORKERS_MOST, draft->conf.workers);
}

static void
set_log(struct conf_draft *draft, struct draft_service *service, const char *text, const struct conf_where *where)
{
	const char *why;

	(void)service;
	if (value_log(text, &draft->conf.log, &why) == -1)
		bad(draft, text, where, why);
}

static void
set_log_level(struct conf_draft *draft, struct draft_service *service, const char *text, const struct conf_where *where)
{
	(void)service;
	if (!log_level_by_name(text, &draft->conf.log_level))
		bad(draft, text, where, "neither err, warning, notice, info nor debug");
}

static void
set_access_log(struct conf_draft *draft, struct draft_service *service, const char *text, const struct conf_where *where)
{
	const char *why;

	if (value_access(text, service != NULL ? &service->out.access : &draft->conf.access, &why) == -1)
		bad(draft, text, where, why);
	else if (service != NULL)
		service->has_access = true;
}

static void
set_access_format(struct conf_draft *draft, struct draft_service *service, const char *text, const struct conf_where *where)
{
	(void)service;
	if (strcmp(text, "pairs") == 0)
		draft->conf.access_format = ACCESS_PAIRS;
	else if (strcmp(text, "json") == 0)
		draft->conf.access_format = ACCESS_JSON;
	else
		bad(draft, text, where, "neither pairs nor json");
}

static void
set_log_empty(struct conf_draft *draft, struct draft_service *service, const char *text, const struct conf_where *where)
{
	set_bool(draft, text, where, service != NULL ? &service->out.log_empty : &draft->log_empty);
	if (service != NULL)
		service->has_log_empty = true;
}

static void
set_control(struct conf_draft *draft, struct draft_service *service, const char *text, const struct conf_where *where)
{
	(void)service;
	if (strlen(text) >= sizeof(((struct sockaddr_un *)0)->sun_path)) {
		bad(draft, text, where, "the path is longer than 107 bytes");
		return;
	}
	free(draft->conf.control);
	draft->conf.control = draft_copy(text);
	draft->conf.control_set = true;
}

static void
set_control_mode(struct conf_draft *draft, struct draft_service *service, const char *text, const struct conf_where *where)
{
	(void)service;
	set_mode(draft, text, where, &draft->conf.control_mode);
}

static void
set_control_group(struct conf_draft *draft, struct draft_service *service, const char *text, const struct conf_where *where)
{
	(void)service;
	draft_value_set(&draft->control_group, text, where);
}

static void
set_metrics(struct conf_draft *draft, struct draft_service *service, const char *text, const struct conf_where *where)
{
	struct draft_endpoint *metrics = &draft->metrics;
	const char *why;

	(void)service;
	draft_value_set(&metrics->value, text, where);
	metrics->good = false;
	if (addr_parse(text, &metrics->spec, &why) == -1)
		bad(draft, text, where, why);
	else if (!metrics->spec.is_unix && metrics->spec.port_first != metrics->spec.port_last)
		bad(draft, text, where, "one port is enough");
	else if (!metrics_compiled_in())
		bad(draft, text, where, "this build serves no metrics: it was configured without libmicrohttpd");
	else
		metrics->good = true;
}

static void
set_drain_timeout(struct conf_draft *draft, struct draft_service *service, const char *text, const struct conf_where *where)
{
	(void)service;
	draft->conf.drain_timeout_ms = time_of(draft, text, where, TIME_MOST_MS, draft->conf.drain_timeout_ms);
}

static void
set_wait_for_netns(struct conf_draft *draft, struct draft_service *service, const char *text, const struct conf_where *where)
{
	set_bool(draft, text, where, service != NULL ? &service->out.wait_for_netns : &draft->wait_for_netns);
	if (service != NULL)
		service->has_wait = true;
}

static void
set_engine(struct conf_draft *draft, struct draft_service *service, const char *text, const struct conf_where *where)
{
	int engine = engine_by_name(text);

	if (engine == -1) {
		bad(draft, text, where, "no such engine; there are adaptive, copy, splice, io_uring and sockmap");
		return;
	}
	if (!engine_compiled_in((enum engine_id)engine)) {
		draft_error(draft, where, EXIT_CMDLINE, "engine %s is not compiled in", text);
		return;
	}
	if (service != NULL) {
		service->out.engine = (enum engine_id)engine;
		service->has_engine = true;
	} else {
		draft->engine = (enum engine_id)engine;
	}
}

static void
add_endpoint(struct conf_draft *draft, struct draft_endpoint **list, size_t *n, const char *text, const struct conf_where *where)
{
	struct draft_endpoint *endpoint;
	const char *why;

	*list = draft_grow(*list, *n, sizeof(**list));
	endpoint = &(*list)[(*n)++];
	draft_value_set(&endpoint->value, text, where);
	endpoint->good = addr_parse(text, &endpoint->spec, &why) == 0;
	if (!endpoint->good)
		bad(draft, text, where, why);
}

static void
add_listen(struct conf_draft *draft, struct draft_service *service, const char *text, const struct conf_where *where)
{
	add_endpoint(draft, &service->listen, &service->n_listen, text, where);
}

static void
add_connect(struct conf_draft *draft, struct draft_service *service, const char *text, const struct conf_where *where)
{
	add_endpoint(draft, &service->connect, &service->n_connect, text, where);
}

static void
set_max_connections(struct conf_draft *draft, struct draft_service *service, const char *text, const struct conf_where *where)
{
	service->out.max_connections = (uint32_t)number_of(draft, text, where, 1, INT32_MAX, service->out.max_connections);
}

static void
set_backlog(struct conf_draft *draft, struct draft_service *service, const char *text, const struct conf_where *where)
{
	service->out.backlog = (int)number_of(draft, text, where, 1, INT32_MAX, (uint64_t)service->out.backlog);
}

static void
set_source(struct conf_draft *draft, struct draft_service *service, const char *text, const struct conf_where *where)
{
	struct addr_spec spec;
	const char *why;

	if (value_literal(text, &spec, &why) == -1)
		bad(draft, text, where, why);
	else
		draft_value_set(&service->source, text, where);
}

static void
set_connect_timeout(struct conf_draft *draft, struct draft_service *service, const char *text, const struct conf_where *where)
{
	uint64_t ms = time_of(draft, text, where, INT32_MAX, service->out.connect_timeout_ms);

	if (ms == 0)
		bad(draft, text, where, "a connection takes longer than no time");
	else
		service->out.connect_timeout_ms = (uint32_t)ms;
}

static void
set_idle_timeout(struct conf_draft *draft, struct draft_service *service, const char *text, const struct conf_where *where)
{
	service->out.idle_timeout_ms = time_of(draft, text, where, TIME_MOST_MS, service->out.idle_timeout_ms);
}

static void
set_half_close_timeout(struct conf_draft *draft, struct draft_service *service, const char *text, const struct conf_where *where)
{
	service->out.half_close_timeout_ms = time_of(draft, text, where, TIME_MOST_MS, service->out.half_close_timeout_ms);
}

static void
set_keepalive(struct conf_draft *draft, struct draft_service *service, const char *text, const struct conf_where *where)
{
	set_bool(draft, text, where, &service->out.keepalive);
}

static void
set_user_timeout(struct conf_draft *draft, struct draft_service *service, const char *text, const struct conf_where *where)
{
	/* The kernel takes an int of milliseconds (tcp(7)). */
	service->out.user_timeout_ms = (uint32_t)time_of(draft, text, where, INT_MAX, service->out.user_timeout_ms);
}

static void
set_unix_mode(struct conf_draft *draft, struct draft_service *service, const char *text, const struct conf_where *where)
{
	set_mode(draft, text, where, &service->out.unix_mode);
}

static void
set_unix_owner(struct conf_draft *draft, struct draft_service *service, const char *text, const struct conf_where *where)
{
	(void)draft;
	draft_value_set(&service->unix_owner, text, where);
}

const struct conf_key conf_keys[] = {
	{ "user", KEY_TOP, false, set_user },
	{ "worker-users", KEY_TOP, false, set_worker_users },
	{ "workers", KEY_TOP, false, set_workers },
	{ "log", KEY_TOP, false, set_log },
	{ "log-level", KEY_TOP, false, set_log_level },
	{ "access-log", KEY_TOP | KEY_SERVICE, false, set_access_log },
	{ "access-format", KEY_TOP, false, set_access_format },
	{ "log-empty", KEY_TOP | KEY_SERVICE, false, set_log_empty },
	{ "control", KEY_TOP, false, set_control },
	{ "control-mode", KEY_TOP, false, set_control_mode },
	{ "control-group", KEY_TOP, false, set_control_group },
	{ "metrics", KEY_TOP, false, set_metrics },
	{ "drain-timeout", KEY_TOP, false, set_drain_timeout },
	{ "wait-for-netns", KEY_TOP | KEY_SERVICE, false, set_wait_for_netns },
	{ "engine", KEY_TOP | KEY_SERVICE, false, set_engine },
	{ "listen", KEY_SERVICE, true, add_listen },
	{ "connect", KEY_SERVICE, true, add_connect },
	{ "max-connections", KEY_SERVICE, false, set_max_connections },
	{ "backlog", KEY_SERVICE, false, set_backlog },
	{ "source", KEY_SERVICE, false, set_source },
	{ "connect-timeout", KEY_SERVICE, false, set_connect_timeout },
	{ "idle-timeout", KEY_SERVICE, false, set_idle_timeout },
	{ "half-close-timeout", KEY_SERVICE, false, set_half_close_timeout },
	{ "keepalive", KEY_SERVICE, false, set_keepalive },
	{ "user-timeout", KEY_SERVICE, false, set_user_timeout },
	{ "unix-mode", KEY_SERVICE, false, set_unix_mode },
	{ "unix-owner", KEY_SERVICE, false, set_unix_owner },
	{ NULL, 0, false, NULL },
};

const struct conf_key *
conf_key_find(const char *name, unsigned scope)
{
	const struct conf_key *key;

	for (key = conf_keys; key->name != NULL; key++)
		if ((key->scope & scope) != 0 && strcmp(key->name, name) == 0)
			return key;
	return NULL;
}

int
conf_key_check_service(struct conf_draft *draft, const char *name, const struct conf_where *where)
{
	const char *p;

	if (strlen(name) >= ROUTE_SERVICE_MAX) {
		draft_error(draft, where, EXIT_CMDLINE, "the service name '%s' is longer than %d bytes", name, ROUTE_SERVICE_MAX - 1);
		return -1;
	}
	for (p = name; *p != '\0'; p++)
		if (*p <= ' ' || *p >= 0x7f || *p == '"' || *p == '\\' || *p == '\'')
			break;
	if (*p == '\0' && p != name)
		return 0;
	draft_error(draft, where, EXIT_CMDLINE, "'%s' is no service name: use printable ASCII without blanks, quotes and backslashes", name);
	return -1;
}
