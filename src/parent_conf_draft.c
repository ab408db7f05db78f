/* SPDX-License-Identifier: ISC */
/*
 * A configuration being read: its defaults, its growing lists, its errors.
 * Runs in: parent
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "parent_conf_draft.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "parent_netns.h"

void *
draft_grow(void *array, size_t n, size_t size)
{
	void *grown = reallocarray(array, n + 1, size);

	if (grown == NULL)
		fatal(EXIT_MACHINE, "cannot keep the configuration");
	memset((char *)grown + n * size, 0, size);
	return grown;
}

char *
draft_copy(const char *text)
{
	char *copy = strdup(text);

	if (copy == NULL)
		fatal(EXIT_MACHINE, "cannot keep the configuration");
	return copy;
}

void
draft_init(struct conf_draft *draft)
{
	struct conf *conf = &draft->conf;
	static const struct conf_where nowhere;

	memset(draft, 0, sizeof(*draft));
	draft->log_empty = true;
	draft->engine = ENGINE_ADAPTIVE;
	conf->worker_uid_first = 1;	/* first > last: none */
	conf->log.kind = CONF_LOG_STDERR;
	conf->log_level = LOG_L_NOTICE;
	conf->access.kind = CONF_LOG_SAME;
	conf->access_format = ACCESS_PAIRS;
	conf->control = draft_copy(RUNSTATEDIR "/nsproxy/control.sock");
	conf->control_mode = 0660;
	conf->drain_timeout_ms = 30 * 1000;
	(void)draft_netns(draft, "", &nowhere);
}

static void
free_endpoints(struct draft_endpoint *endpoints, size_t n)
{
	size_t i;

	for (i = 0; i < n; i++)
		free(endpoints[i].value.text);
	free(endpoints);
}

static void
free_services(struct conf_draft *draft)
{
	struct conf rest = { .n_services = 0 };
	size_t i;

	for (i = 0; i < draft->n_services; i++) {
		struct draft_service *service = &draft->services[i];

		free_endpoints(service->listen, service->n_listen);
		free_endpoints(service->connect, service->n_connect);
		free(service->listen_where);
		free(service->source.text);
		free(service->unix_owner.text);
		/* conf_free() knows how to free what has become a conf_service. */
		rest.services = draft_grow(rest.services, rest.n_services, sizeof(*rest.services));
		rest.services[rest.n_services++] = service->out;
	}
	free(draft->services);
	conf_free(&rest);
}

void
draft_free(struct conf_draft *draft)
{
	size_t i;

	free_services(draft);
	conf_free(&draft->conf);
	free(draft->user.text);
	free(draft->control_group.text);
	free(draft->metrics.value.text);
	free(draft->netns_where);
	for (i = 0; i < draft->n_files; i++)
		free(draft->files[i]);
	free(draft->files);
	memset(draft, 0, sizeof(*draft));
}

void
draft_failed(struct conf_draft *draft, const struct conf_where *where, enum exit_code code)
{
	if (where->file != NULL && (draft->check || code == EXIT_CMDLINE))
		code = EXIT_CONFIG;
	if (draft->first == EXIT_OK)
		draft->first = code;
}

const char *
draft_where_text(const struct conf_where *where, char *buf, size_t size)
{
	buf[0] = '\0';
	if (where->file != NULL && where->line > 0)
		snprintf(buf, size, "%s:%d: ", where->file, where->line);
	else if (where->file != NULL)
		snprintf(buf, size, "%s: ", where->file);
	return buf;
}

void
draft_error(struct conf_draft *draft, const struct conf_where *where, enum exit_code code, const char *fmt, ...)
{
	char place[512], text[LOG_TEXT_MAX];
	char *p;
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	/* What the user wrote may hold anything; one error is one line. */
	for (p = text; *p != '\0'; p++)
		if ((unsigned char)*p < ' ' || *p == 0x7f)
			*p = '?';
	draft_where_text(where, place, sizeof(place));
	log_errx("%s%s%s%s", place, where->what != NULL ? where->what : "", where->what != NULL ? ": " : "", text);
	draft_failed(draft, where, code);
}

const char *
draft_file(struct conf_draft *draft, const char *name)
{
	size_t i;

	for (i = 0; i < draft->n_files; i++)
		if (strcmp(draft->files[i], name) == 0)
			return draft->files[i];
	draft->files = draft_grow(draft->files, draft->n_files, sizeof(*draft->files));
	draft->files[draft->n_files] = draft_copy(name);
	return draft->files[draft->n_files++];
}

struct draft_service *
draft_service_find(struct conf_draft *draft, const char *name)
{
	size_t i;

	for (i = 0; i < draft->n_services; i++)
		if (strcmp(draft->services[i].out.name, name) == 0)
			return &draft->services[i];
	return NULL;
}

struct draft_service *
draft_service_add(struct conf_draft *draft, const char *name, const struct conf_where *where)
{
	struct draft_service *service;

	draft->services = draft_grow(draft->services, draft->n_services, sizeof(*draft->services));
	service = &draft->services[draft->n_services++];
	service->where = *where;
	service->out.name = draft_copy(name);
	service->out.file = where->file != NULL ? draft_copy(where->file) : NULL;
	service->out.line = where->line;
	service->out.backlog = 4096;
	service->out.connect_timeout_ms = 5 * 1000;
	service->out.idle_timeout_ms = 60 * 60 * 1000;
	service->out.half_close_timeout_ms = 5 * 60 * 1000;
	service->out.keepalive = true;
	service->out.unix_mode = 0666;
	return service;
}

void
draft_value_set(struct draft_value *value, const char *text, const struct conf_where *where)
{
	free(value->text);
	value->text = draft_copy(text);
	value->where = *where;
}

int
draft_netns(struct conf_draft *draft, const char *name, const struct conf_where *where)
{
	struct conf *conf = &draft->conf;
	char *path = netns_path(name);
	size_t i;

	if (path == NULL) {
		draft_error(draft, where, EXIT_CMDLINE,
		    "'%s' is no namespace: write a name as in /run/netns, an absolute path without '..', or pid:N", name);
		return -1;
	}
	/* The same namespace written in two ways is one: its services share their workers. */
	for (i = 0; i < conf->n_netns; i++)
		if (strcmp(conf->netns[i].path, path) == 0) {
			free(path);
			return (int)i;
		}
	conf->netns = draft_grow(conf->netns, conf->n_netns, sizeof(*conf->netns));
	draft->netns_where = draft_grow(draft->netns_where, conf->n_netns, sizeof(*draft->netns_where));
	conf->netns[conf->n_netns].name = draft_copy(name);
	conf->netns[conf->n_netns].path = path;
	draft->netns_where[conf->n_netns] = *where;
	return (int)conf->n_netns++;
}
