/* SPDX-License-Identifier: ISC */
/*
 * The access log: one line for each connection that has ended, as key=value pairs or JSON.
 * Runs in: reporter
 */
#ifndef REPORTER_ACCESS_H
#define REPORTER_ACCESS_H

#include <stdbool.h>
#include <stdint.h>

#include "msg.h"
#include "reporter_sink.h"
#include "reporter_text.h"

/* Pieces of a line that are the same for every connection of a route, in the order in which they are written. */
enum access_piece { PIECE_CLIENT, PIECE_LISTENER, PIECE_LOCAL, PIECE_TARGET, PIECE_WORKER, PIECES };

struct access_route {
	uint32_t output;		/* OUTPUT_NONE: no line */
	uint32_t service;		/* its number; UINT32_MAX: none */
	uint32_t n_ports;		/* at least 1 */
	uint16_t listener_port, target_port;	/* the first ones of ranges */
	bool listener_varies, target_varies;	/* the port is not part of the text, but written for each connection */
	bool unix_client;		/* clients have no address; the text says so */
	bool skip_empty;
	char *text;			/* all pieces, one after the other; owned; NULL: this route's names have not come */
	uint16_t end[PIECES];		/* of each piece in text */
};

struct access {
	struct sink *sink;		/* not owned */
	enum access_format format;
	struct access_route *routes;	/* [n_routes + 1]; the last is for records that name none; owned */
	uint32_t n_routes;
	uint32_t n_named;		/* routes whose names have come */
	struct text_clock clock;
};

/* 0, or -1 with errno. Allocates everything but the routes' texts, which access_names() does: both before the filter is on. */
int access_init(struct access *access, struct sink *sink, uint32_t format, uint32_t n_routes);
void access_free(struct access *access);
/* 0, or -1 with errno (EINVAL: no such route, a route that has its names already, names without end). */
int access_names(struct access *access, const struct msg_names *names);
/* The same for a route that has names; where it is logged stays. */
int access_rename(struct access *access, const struct msg_names *names);
/* Number of the route's service; UINT32_MAX: no such route, or its names have not come. */
uint32_t access_service(const struct access *access, uint32_t route);
/* The connection has ended: at most one line. What a worker sent is believed in nothing: numbers are clamped, times that run backwards are 0. */
void access_on_closed(struct access *access, uint32_t worker, const struct conn_record *rec);

#endif
