/* SPDX-License-Identifier: ISC */
/*
 * The metrics listener: HTTP by libmicrohttpd, in the reporter's loop and behind its filter. It knows paths, not what is written there.
 * Runs in: reporter
 */
#ifndef REPORTER_HTTP_H
#define REPORTER_HTTP_H

#include <stdbool.h>
#include <stdint.h>

#include "loop.h"
#include "reporter_doc.h"
#include "sandbox.h"

struct MHD_Daemon;
struct http;

/* Clients at the same time; more wait until one of them has had its time. */
#define HTTP_CLIENTS_MAX 64u
/* Descriptors beside clients and listener. */
#define HTTP_FILES 8u
/* Timers that it may have armed at the same time. */
#define HTTP_TIMERS 1u

enum http_path { HTTP_METRICS, HTTP_METRICS_PLAIN, HTTP_PAGE, HTTP_PATHS };

/* Writes what is at the path into the doc. */
typedef void http_write_fn(void *owner, enum http_path path, struct doc *doc);

struct http_client {
	struct http *http;
	int fd;				/* of the library; -1: free */
	uint64_t since;			/* loop time */
};

/* It may not be moved once initialised. */
struct http {
	struct loop *loop;
	struct MHD_Daemon *daemon;	/* owned; NULL: not wanted, or not in this build */
	uint8_t kind_listener, kind_clients;	/* of loop references */
	int fd;				/* listener, owned; -1: none */
	bool open;			/* it is polled */
	bool deaf;			/* the kernel was out of something: not polled until the timer */
	struct http_client clients[HTTP_CLIENTS_MAX];
	unsigned n_clients;
	uint64_t look_at;		/* loop time: who has been here for too long? LOOP_NEVER: there is nobody to look at */
	struct loop_timer timer;
	http_write_fn *write;
	void *owner;
	struct doc *docs[HTTP_PATHS];	/* what was written last, held; NULL: nothing */
	uint64_t written[HTTP_PATHS];	/* loop time */
};

/* For a struct that is freed without having been started. */
void http_init(struct http *http);
/* Before the filter is on. 0 or -1 with errno (ENOSYS: this build cannot). */
int http_start(struct http *http, struct loop *loop, uint8_t kind_listener, uint8_t kind_clients, http_write_fn *write, void *owner);
/* The listening socket, taken; an earlier one is closed. */
void http_listen(struct http *http, int *fd);
/* Answers would be complete from now on: accept. May be called again. */
void http_open(struct http *http);
void http_free(struct http *http);

/* System calls that it needs beyond the reporter's list, ended by name == NULL. */
extern const struct sandbox_rule http_syscalls[];

#endif
