/* SPDX-License-Identifier: ISC */
/*
 * The configuration in effect, as plain structs: from the command line, from nsproxy.conf(5), or both.
 * Runs in: parent
 */
#ifndef PARENT_CONF_H
#define PARENT_CONF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "addr.h"
#include "log.h"
#include "msg.h"

/* A network namespace that the configuration names. Index 0 of conf.netns is always the one nsproxy was started in (name ""). */
struct conf_netns {
	char *name;			/* as written: "private", "/proc/4242/ns/net", "pid:7"; "" */
	char *path;			/* "/run/netns/private", ...; "/proc/self/ns/net" for "" */
};

/* One `listen` or `connect` value; a host name that has several addresses gives several listeners. */
struct conf_endpoint {
	char *text;			/* as written */
	unsigned netns;			/* index into conf.netns */
	struct addr addr;		/* resolved, with the first port */
	uint16_t port_last;		/* >= the port in addr */
	bool any;			/* "*": both families */
};

enum conf_log { CONF_LOG_STDERR, CONF_LOG_SYSLOG, CONF_LOG_FILE, CONF_LOG_NONE, CONF_LOG_SAME };	/* SAME: access log goes where the log goes */

struct conf_output {
	enum conf_log kind;
	char *path;			/* for CONF_LOG_FILE */
};

struct conf_service {
	char *name;			/* at most ROUTE_SERVICE_MAX - 1 bytes */
	bool removed;			/* of an earlier configuration: only its number, name and log count, for workers that still know it */
	const char *file;		/* where it was written, for messages; NULL: command line */
	int line;
	struct conf_endpoint *listen;
	size_t n_listen;
	struct conf_endpoint connect;
	enum engine_id engine;
	uint32_t max_connections;	/* 0: what fits */
	int backlog;
	struct addr source;		/* len 0: chosen by the kernel */
	uint32_t connect_timeout_ms;
	uint64_t idle_timeout_ms, half_close_timeout_ms;	/* 0: none */
	bool keepalive;
	uint32_t user_timeout_ms;	/* 0: none */
	bool log_empty;
	struct conf_output access;
	bool wait_for_netns;
	mode_t unix_mode;
	uid_t unix_uid;
	gid_t unix_gid;
	char *unix_owner;		/* as written; NULL: root */
};

struct conf {
	char *user;			/* as written, "USER" or "USER:GROUP"; NULL: none given */
	uid_t uid;			/* of workers and reporter */
	gid_t gid;
	bool one_id;			/* this user namespace maps a single id: identities cannot change */
	uid_t worker_uid_first, worker_uid_last;	/* worker-users; first > last: none */
	unsigned workers;		/* for each private namespace, at least 1 once checked */
	struct conf_output log;
	enum log_level log_level;
	struct conf_output access;	/* default of the services */
	enum access_format access_format;
	char *control;			/* socket path; NULL or "": none */
	mode_t control_mode;
	bool control_set;		/* it was asked for; otherwise it is the default */
	char *control_group;		/* NULL: the workers' group */
	gid_t control_gid;
	char *metrics;			/* as written; NULL: none */
	struct conf_endpoint metrics_at;	/* addr.len 0: none */
	bool metrics_waits;		/* for its namespace, which may be missing */
	uint64_t drain_timeout_ms;
	bool background;
	char *pidfile;			/* NULL: none */
	char *file;			/* configuration file read; NULL: command line only */
	struct conf_netns *netns;
	size_t n_netns;
	struct conf_service *services;
	size_t n_services;
};

/* What the command line said; strings belong to argv. */
struct conf_options {
	const char *file;		/* -f */
	const char *engine, *workers, *user, *access, *socket, *pidfile;	/* NULL: not given */
	bool background, check, dump;
	unsigned verbose;		/* how often -v */
	struct conf_pair {
		const char *listen, *connect;
	} *pairs;			/* owned by the caller */
	size_t n_pairs;
};

/*
 * Reads, resolves, checks. Says every error it finds (one line each, with file:line where there is one). EXIT_OK and *conf filled in, to be freed with
 * conf_free(); else the exit code of the first error found and *conf is freed already.
 * With options->check also tries what a start would need (namespaces open, addresses present), without binding a configured port.
 */
enum exit_code conf_load(const struct conf_options *options, struct conf *conf);
void conf_free(struct conf *conf);
/* -T: the configuration in effect in nsproxy.conf(5) syntax, with defaults and resolved addresses as comments. */
void conf_dump(const struct conf *conf);

#endif
