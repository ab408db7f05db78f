/* SPDX-License-Identifier: ISC */
/*
 * -T: the configuration in effect, in the syntax of nsproxy.conf(5).
 * Runs in: parent
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "parent_conf.h"

static void
dump_quoted(const char *prefix, const char *text)
{
	const char *p;

	printf("\"%s", prefix);
	for (p = text; *p != '\0'; p++)
		printf(*p == '"' || *p == '\\' ? "\\%c" : "%c", *p);
	putchar('"');
}

static void
dump_string(const char *indent, const char *key, const char *text)
{
	printf("%s%s = ", indent, key);
	dump_quoted("", text);
	putchar('\n');
}

/* The largest unit that loses nothing. */
static void
dump_time(const char *indent, const char *key, uint64_t ms)
{
	static const struct {
		const char *unit;
		unsigned ms;
	} units[] = { { "h", 60 * 60 * 1000 }, { "min", 60 * 1000 }, { "s", 1000 }, { "ms", 1 } };
	size_t i = 0;

	if (ms == 0) {
		printf("%s%s = \"0\"\n", indent, key);
		return;
	}
	while (ms % units[i].ms != 0)
		i++;
	printf("%s%s = \"%" PRIu64 "%s\"\n", indent, key, ms / units[i].ms, units[i].unit);
}

static void
dump_bool(const char *indent, const char *key, bool flag)
{
	printf("%s%s = %s\n", indent, key, flag ? "true" : "false");
}

static void
dump_output(const char *indent, const char *key, const struct conf_output *output)
{
	static const char *const names[] = {
		[CONF_LOG_STDERR] = "stderr", [CONF_LOG_SYSLOG] = "syslog", [CONF_LOG_FILE] = "", [CONF_LOG_NONE] = "none", [CONF_LOG_SAME] = "log",
	};

	printf("%s%s = ", indent, key);
	dump_quoted(output->kind == CONF_LOG_FILE ? "file:" : names[output->kind], output->kind == CONF_LOG_FILE ? output->path : "");
	putchar('\n');
}

/* The first address stands for all of a host name's, which follow in the comment. */
static void
dump_endpoints(const struct conf *conf, const char *key, const struct conf_endpoint *endpoints, size_t n)
{
	char buf[ADDR_TEXT_MAX];
	size_t i;

	for (i = 0; i < n; i++) {
		const struct conf_endpoint *endpoint = &endpoints[i];

		if (i == 0 || strcmp(endpoint->text, endpoints[i - 1].text) != 0) {
			printf("%s    %s %s {", i == 0 ? "" : "\n", key, i == 0 ? "=" : "+=");
			dump_quoted("", endpoint->text);
			printf("}\t#");
		}
		printf(" %s", endpoint->any ? "all addresses, port" : addr_format(&endpoint->addr, buf));
		if (endpoint->any)
			printf(" %u", addr_port(&endpoint->addr));
		if (endpoint->port_last != addr_port(&endpoint->addr))
			printf("-%u", endpoint->port_last);
		if (endpoint->netns != 0)
			printf(" in %s", conf->netns[endpoint->netns].path);
	}
	putchar('\n');
}

/* As value_literal() reads it: without port and brackets. */
static void
dump_source(const struct addr *source)
{
	char buf[ADDR_TEXT_MAX];
	char *colon;

	addr_format(source, buf);
	colon = strrchr(buf, ':');
	if (colon != NULL)
		*colon = '\0';
	dump_string("    ", "source", buf);
}

static void
dump_service(const struct conf *conf, const struct conf_service *service)
{
	static const char in[] = "    ";

	printf("\nservice ");
	dump_quoted("", service->name);
	printf(" {\n");
	dump_endpoints(conf, "listen", service->listen, service->n_listen);
	dump_endpoints(conf, "connect", &service->connect, 1);
	dump_string(in, "engine", engine_name(service->engine));
	if (service->max_connections != 0)
		printf("%smax-connections = %u\n", in, service->max_connections);
	else
		printf("%s# max-connections: what the descriptors allow\n", in);
	printf("%sbacklog = %d\n", in, service->backlog);
	if (service->source.len != 0)
		dump_source(&service->source);
	dump_time(in, "connect-timeout", service->connect_timeout_ms);
	dump_time(in, "idle-timeout", service->idle_timeout_ms);
	dump_time(in, "half-close-timeout", service->half_close_timeout_ms);
	dump_bool(in, "keepalive", service->keepalive);
	dump_time(in, "user-timeout", service->user_timeout_ms);
	dump_bool(in, "log-empty", service->log_empty);
	dump_output(in, "access-log", &service->access);
	dump_bool(in, "wait-for-netns", service->wait_for_netns);
	printf("%sunix-mode = 0%03o\n", in, (unsigned)service->unix_mode);
	if (service->unix_owner != NULL)
		dump_string(in, "unix-owner", service->unix_owner);
	printf("}\n");
}

static void
dump_top(const struct conf *conf)
{
	printf("# the configuration in effect\n");
	if (conf->user != NULL)
		dump_string("", "user", conf->user);
	printf("# workers and reporter: uid %u, gid %u\n", conf->uid, conf->gid);
	if (conf->worker_uid_first <= conf->worker_uid_last)
		printf("worker-users = \"%u-%u\"\n", conf->worker_uid_first, conf->worker_uid_last);
	printf("workers = %u\n", conf->workers);
	dump_output("", "log", &conf->log);
	dump_string("", "log-level", log_level_name(conf->log_level));
	dump_output("", "access-log", &conf->access);
	dump_string("", "access-format", conf->access_format == ACCESS_JSON ? "json" : "pairs");
	dump_string("", "control", conf->control != NULL ? conf->control : "");
	printf("control-mode = 0%03o\n", (unsigned)conf->control_mode);
	if (conf->control_group != NULL)
		dump_string("", "control-group", conf->control_group);
	if (conf->metrics != NULL)
		dump_string("", "metrics", conf->metrics);
	dump_time("", "drain-timeout", conf->drain_timeout_ms);
	if (conf->pidfile != NULL)
		printf("# pid file: %s\n", conf->pidfile);
}

void
conf_dump(const struct conf *conf)
{
	size_t i;

	dump_top(conf);
	for (i = 0; i < conf->n_services; i++)
		dump_service(conf, &conf->services[i]);
}
