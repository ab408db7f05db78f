/* SPDX-License-Identifier: ISC */
/*
 * The access log: struct conn_record -> one line.
 * Runs in: reporter
 *
 * Theory of operation: most of a line is known as soon as the route is: five pieces of text, made once, between which go the client's address,
 * ports of a range, the private side's address, and what follows the worker's number. Both formats are written by the same functions; a
 * struct format says how they differ. Lines are formatted straight into the buffer of their output, which is written once a turn of the loop.
 *
 * What is not there (no connection was made, the namespace is the one nsproxy was started in) is "-" in pairs and null in JSON. Lines of the
 * access log carry their own time and are complete, so on a plain stream they have no prefix, also when they go where the log goes.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "reporter_access.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "loop.h"

/* Longest value before escaping: a namespace, "@", an address. */
#define VALUE_MAX 640

struct format {
	const char *open, *close;	/* of a whole line */
	const char *none;		/* a value that is not there */
	const char *before, *after;	/* around a text that needs no escapes */
	const char *engine, *start, *connect, *duration, *up, *down, *end;	/* keys of what follows the worker's number */
};

static const struct format formats[] = {
	[ACCESS_PAIRS] = { .open = "", .close = "", .none = "-", .before = "", .after = "", .engine = " engine=", .start = " start=",
	    .connect = " connect_ms=", .duration = " duration_ms=", .up = " up=", .down = " down=", .end = " end=" },
	[ACCESS_JSON] = { .open = "{", .close = "\"}", .none = "null", .before = "\"", .after = "\"", .engine = ",\"engine\":\"",
	    .start = "\",\"start\":\"", .connect = "\",\"connect_ms\":", .duration = ",\"duration_ms\":", .up = ",\"up\":", .down = ",\"down\":",
	    .end = ",\"end\":\"" },
};

/* A route's pieces while they are made. */
struct maker {
	struct access_route *route;
	const struct format *format;
	struct text text;
	const char *begin;		/* of text */
	const char *after;		/* what closes the value that is open */
};

static bool
is_json(const struct maker *maker)
{
	return maker->format == &formats[ACCESS_JSON];
}

static void
end_piece(struct maker *maker, enum access_piece piece)
{
	maker->route->end[piece] = (uint16_t)(maker->text.at - maker->begin);
}

static void
put_key(struct maker *maker, const char *key, bool first)
{
	bool json = is_json(maker);

	text_str(&maker->text, first ? "" : json ? "," : " ");
	text_str(&maker->text, json ? "\"" : "");
	text_str(&maker->text, key);
	text_str(&maker->text, json ? "\":" : "=");
}

/* In pairs a value is quoted when it would otherwise be taken apart, or taken for one that is not there. */
static bool
wants_quotes(const char *value)
{
	if (value[0] == '\0' || strcmp(value, "-") == 0)
		return true;
	for (const unsigned char *c = (const unsigned char *)value; *c != '\0'; c++) {
		if (*c <= ' ' || *c >= 0x7f || strchr("\"'\\=", *c) != NULL)
			return true;
	}
	return false;
}

/* The value, or its beginning: then close_value() comes after what is added for each connection, which never needs quotes. */
static void
open_value(struct maker *maker, const char *value, bool quoted)
{
	maker->after = quoted || is_json(maker) ? "\"" : "";
	text_str(&maker->text, maker->after);
	if (is_json(maker))
		text_json(&maker->text, value, VALUE_MAX);
	else
		text_quoted(&maker->text, value, VALUE_MAX);
}

static void
close_value(struct maker *maker)
{
	text_str(&maker->text, maker->after);
}

static void
put_value(struct maker *maker, const char *key, const char *value, bool first)
{
	put_key(maker, key, first);
	open_value(maker, value, wants_quotes(value));
	close_value(maker);
}

/* "NETNS@" for an address; nothing when it is the namespace nsproxy was started in, or the address is a path. */
static void
format_netns(char value[VALUE_MAX], const char *netns, bool is_unix)
{
	value[0] = '\0';
	if (netns[0] != '\0' && !is_unix)
		(void)snprintf(value, VALUE_MAX, "%s@", netns);
}

/* Appends the address; without the port itself when that varies. */
static void
format_address(char value[VALUE_MAX], const struct wire_addr *addr, const char *unix_name, bool varies)
{
	size_t used = strlen(value);
	char text[ADDR_TEXT_MAX], *colon;

	if (addr->family == AF_UNIX) {
		(void)snprintf(value + used, VALUE_MAX - used, "unix:%s", unix_name);
		return;
	}
	(void)addr_format_wire(addr, text);
	colon = strrchr(text, ':');
	if (varies && colon != NULL)
		colon[1] = '\0';
	(void)snprintf(value + used, VALUE_MAX - used, "%s", text);
}

/* An address whose port, when it varies, goes between this piece and the next. */
static void
put_address(struct maker *maker, const char *key, const char *value, bool varies, enum access_piece piece)
{
	put_key(maker, key, false);
	open_value(maker, value, wants_quotes(value));
	if (varies)
		end_piece(maker, piece);
	close_value(maker);
}

static void
put_client(struct maker *maker, const char *netns)
{
	bool is_unix = maker->route->unix_client;
	char value[VALUE_MAX];

	format_netns(value, netns, is_unix);
	put_key(maker, "client", false);
	open_value(maker, is_unix ? "unix:" : value, value[0] != '\0' && wants_quotes(value));
	end_piece(maker, PIECE_CLIENT);
	close_value(maker);
}

static void
make_pieces(struct maker *maker, const struct msg_names *names)
{
	struct access_route *route = maker->route;
	char value[VALUE_MAX];

	text_str(&maker->text, maker->format->open);
	put_value(maker, "service", names->service, true);
	put_client(maker, names->public_netns);

	format_netns(value, names->public_netns, route->unix_client);
	format_address(value, &names->listener, names->listener_unix, route->listener_varies);
	put_address(maker, "listener", value, route->listener_varies, PIECE_LISTENER);
	put_key(maker, "local", false);
	end_piece(maker, PIECE_LOCAL);

	value[0] = '\0';
	format_address(value, &names->target, names->target_unix, route->target_varies);
	put_address(maker, "target", value, route->target_varies, PIECE_TARGET);
	if (names->private_netns[0] != '\0') {
		put_value(maker, "netns", names->private_netns, false);
	} else {
		put_key(maker, "netns", false);
		text_str(&maker->text, maker->format->none);
	}
	put_key(maker, "worker", false);
	end_piece(maker, PIECE_WORKER);
}

static int
route_set(const struct access *access, struct access_route *route, const struct msg_names *names)
{
	/* The longest names, all of them escaped, leave room in a line for what differs from one connection to the next. */
	char buf[SINK_LINE_MAX - 1024];
	struct maker maker = { .route = route, .format = &formats[access->format], .text = { buf, buf + sizeof(buf) }, .begin = buf };
	size_t size;

	route->output = names->output;
	route->service = names->service_number;
	route->n_ports = names->n_ports > 0 ? names->n_ports : 1;
	route->listener_port = names->listener.port;
	route->target_port = names->target.port;
	route->unix_client = names->listener.family == AF_UNIX;
	route->listener_varies = route->n_ports > 1 && !route->unix_client;
	route->target_varies = route->n_ports > 1 && names->target.family != AF_UNIX;
	route->skip_empty = names->flags & NAMES_SKIP_EMPTY;
	make_pieces(&maker, names);
	size = (size_t)(maker.text.at - buf);
	free(route->text);
	route->text = malloc(size);
	if (route->text == NULL)
		return -1;
	memcpy(route->text, buf, size);
	return 0;
}

int
access_init(struct access *access, struct sink *sink, uint32_t format, uint32_t n_routes)
{
	struct msg_names unknown = { .output = OUTPUT_LOG, .n_ports = 1, .service_number = UINT32_MAX, .service = "?",
		.public_netns = "", .private_netns = "" };

	memset(access, 0, sizeof(*access));
	access->sink = sink;
	access->format = format == ACCESS_JSON ? ACCESS_JSON : ACCESS_PAIRS;
	access->n_routes = n_routes;
	access->routes = calloc((size_t)n_routes + 1, sizeof(*access->routes));
	if (access->routes == NULL)
		return -1;
	return route_set(access, &access->routes[n_routes], &unknown);
}

void
access_free(struct access *access)
{
	for (size_t i = 0; access->routes != NULL && i <= access->n_routes; i++)
		free(access->routes[i].text);
	free(access->routes);
	access->routes = NULL;
}

static bool
names_end(const struct msg_names *names)
{
	return memchr(names->service, '\0', sizeof(names->service)) != NULL &&
	    memchr(names->public_netns, '\0', sizeof(names->public_netns)) != NULL &&
	    memchr(names->private_netns, '\0', sizeof(names->private_netns)) != NULL &&
	    memchr(names->listener_unix, '\0', sizeof(names->listener_unix)) != NULL &&
	    memchr(names->target_unix, '\0', sizeof(names->target_unix)) != NULL;
}

int
access_names(struct access *access, const struct msg_names *names)
{
	char label[sizeof(access->sink->outputs[0].label)];

	if (names->route >= access->n_routes || access->routes[names->route].text != NULL || !names_end(names) ||
	    (names->output >= OUTPUTS_MAX && names->output != OUTPUT_NONE)) {
		errno = EINVAL;
		return -1;
	}
	if (route_set(access, &access->routes[names->route], names) == -1)
		return -1;
	if (names->output != OUTPUT_LOG && names->output != OUTPUT_NONE) {
		(void)snprintf(label, sizeof(label), "access log of service '%s'", names->service);
		sink_label(access->sink, names->output, label);
	}
	access->n_named++;
	return 0;
}

int
access_rename(struct access *access, const struct msg_names *names)
{
	if (names->route >= access->n_routes || access->routes[names->route].text == NULL || !names_end(names) ||
	    names->output != access->routes[names->route].output) {
		errno = EINVAL;
		return -1;
	}
	return route_set(access, &access->routes[names->route], names);
}

/* Pieces from *from up to the end of `piece`, which *from becomes. */
static void
put_pieces(struct text *text, const struct access_route *route, uint16_t *from, enum access_piece piece)
{
	text_bytes(text, route->text + *from, (size_t)(route->end[piece] - *from));
	*from = route->end[piece];
}

/* From the service to the worker's number. */
static void
put_places(struct text *text, const struct access_route *route, const struct format *format, const struct conn_record *rec)
{
	unsigned offset = rec->port_offset < route->n_ports ? rec->port_offset : route->n_ports - 1;
	uint16_t from = 0;

	put_pieces(text, route, &from, PIECE_CLIENT);
	if (!route->unix_client)
		text_addr(text, &rec->client);
	if (route->listener_varies) {
		put_pieces(text, route, &from, PIECE_LISTENER);
		text_u64(text, (uint16_t)(route->listener_port + offset));
	}
	put_pieces(text, route, &from, PIECE_LOCAL);
	if (rec->local.family == 0) {
		text_str(text, format->none);
	} else {
		text_str(text, format->before);
		text_addr(text, &rec->local);
		text_str(text, format->after);
	}
	if (route->target_varies) {
		put_pieces(text, route, &from, PIECE_TARGET);
		text_u64(text, (uint16_t)(route->target_port + offset));
	}
	put_pieces(text, route, &from, PIECE_WORKER);
}

static uint64_t
elapsed(uint64_t from, uint64_t to)
{
	return to > from ? to - from : 0;
}

/* From the engine to the end. */
static void
put_facts(struct text *text, struct text_clock *clock, const struct format *format, const struct conn_record *rec)
{
	text_str(text, format->engine);
	text_str(text, engine_name(rec->engine));
	text_str(text, format->start);
	text_time(text, clock, rec->start);
	text_str(text, format->connect);
	if (rec->connected == 0)
		text_str(text, format->none);
	else
		text_ms(text, elapsed(rec->begun, rec->connected));
	text_str(text, format->duration);
	text_ms(text, elapsed(rec->begun, rec->ended));
	text_str(text, format->up);
	text_u64(text, rec->bytes[0]);
	text_str(text, format->down);
	text_u64(text, rec->bytes[1]);
	text_str(text, format->end);
	text_str(text, conn_end_name(rec->end == END_NONE ? END_ERROR : rec->end));
	text_str(text, format->close);
}

void
access_on_closed(struct access *access, uint32_t worker, const struct conn_record *rec)
{
	const struct access_route *route = &access->routes[rec->route < access->n_routes ? rec->route : access->n_routes];
	const struct format *format = &formats[access->format];
	struct text text;

	if (route->text == NULL || route->output == OUTPUT_NONE)
		return;
	if (route->skip_empty && rec->bytes[0] == 0 && rec->bytes[1] == 0)
		return;
	if (!sink_line_begin(access->sink, route->output, LOG_L_INFO, &text))
		return;
	put_places(&text, route, format, rec);
	text_u64(&text, worker);
	put_facts(&text, &access->clock, format, rec);
	sink_line_end(access->sink, route->output, &text);
}

uint32_t
access_service(const struct access *access, uint32_t route)
{
	return route < access->n_routes && access->routes[route].text != NULL ? access->routes[route].service : UINT32_MAX;
}
