/* SPDX-License-Identifier: ISC */
/*
 * Socket addresses: taken apart, turned into sockaddr, compared and shown.
 * Runs in: any
 */
#include "addr.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool
is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool
is_name_char(char c)
{
	return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' || c == '.' || c == '_';
}

static int
parse_fail(const char **why, const char *text)
{
	*why = text;
	return -1;
}

/* Decimal digits up to `end`, which must be all of the text. */
static int
parse_port(const char *text, const char *end, uint16_t *port, const char **why)
{
	unsigned long value = 0;
	const char *p;

	if (text == end)
		return parse_fail(why, "the port is missing");
	for (p = text; p < end; p++) {
		if (!is_digit(*p))
			return parse_fail(why, "the port is not a number");
		value = value * 10 + (unsigned long)(*p - '0');
		if (value > UINT16_MAX)
			return parse_fail(why, "port out of range (0-65535)");
	}
	*port = (uint16_t)value;
	return 0;
}

static int
parse_ports(const char *text, struct addr_spec *spec, const char **why)
{
	const char *end = text + strlen(text), *dash = strchr(text, '-');

	if (dash == NULL) {
		if (parse_port(text, end, &spec->port_first, why) == -1)
			return -1;
		spec->port_last = spec->port_first;
		return 0;
	}
	if (parse_port(text, dash, &spec->port_first, why) == -1 || parse_port(dash + 1, end, &spec->port_last, why) == -1)
		return -1;
	if (spec->port_first == 0)
		return parse_fail(why, "port 0 cannot begin a range");
	if (spec->port_first > spec->port_last)
		return parse_fail(why, "the port range runs backwards");
	return 0;
}

/* The address in brackets, its zone aside. */
static int
check_v6_literal(const char *host, const char **why)
{
	char literal[INET6_ADDRSTRLEN + 1];
	const char *zone = strchr(host, '%');
	size_t len = zone != NULL ? (size_t)(zone - host) : strlen(host);
	struct in6_addr in6;

	if (zone != NULL && (zone[1] == '\0' || strlen(zone + 1) >= IF_NAMESIZE))
		return parse_fail(why, "the zone after '%' is not an interface");
	if (len >= sizeof(literal))
		return parse_fail(why, "not an IPv6 address");
	memcpy(literal, host, len);
	literal[len] = '\0';
	if (inet_pton(AF_INET6, literal, &in6) != 1)
		return parse_fail(why, "not an IPv6 address");
	return 0;
}

/* A host whose last label begins with a digit and is a number to inet_aton(3) was meant as IPv4 and must not go to a resolver. */
static bool
looks_numeric(const char *host)
{
	const char *label = strrchr(host, '.');

	label = label != NULL ? label + 1 : host;
	if (label[0] == '0' && (label[1] == 'x' || label[1] == 'X'))
		return true;
	return label[strspn(label, "0123456789")] == '\0';
}

static int
check_host(const char *host, const char **why)
{
	struct in_addr in;
	const char *p;

	if (host[0] == '\0')
		return parse_fail(why, "the host is missing");
	if (strcmp(host, "*") == 0 || inet_pton(AF_INET, host, &in) == 1)
		return 0;
	for (p = host; *p != '\0'; p++)
		if (!is_name_char(*p))
			return parse_fail(why, "the host is neither an address nor a name");
	if (looks_numeric(host))
		return parse_fail(why, "not an IPv4 address");
	if (host[0] == '-' || host[0] == '.' || strstr(host, "..") != NULL || strlen(host) > 253)
		return parse_fail(why, "the host is neither an address nor a name");
	return 0;
}

static int
parse_bracketed(const char *text, struct addr_spec *spec, const char **why)
{
	const char *close = strchr(text, ']');

	if (close == NULL)
		return parse_fail(why, "']' is missing");
	if ((size_t)(close - text) > sizeof(spec->host) || close[1] != ':')
		return parse_fail(why, close[1] != ':' ? "the port is missing" : "not an IPv6 address");
	memcpy(spec->host, text + 1, (size_t)(close - text - 1));
	spec->is_v6_literal = true;
	if (check_v6_literal(spec->host, why) == -1)
		return -1;
	return parse_ports(close + 2, spec, why);
}

static int
parse_host_port(const char *text, struct addr_spec *spec, const char **why)
{
	const char *colon = strchr(text, ':');

	if (text[0] == '[')
		return parse_bracketed(text, spec, why);
	if (colon == NULL)
		return parse_fail(why, "the port is missing");
	if (strchr(colon + 1, ':') != NULL)
		return parse_fail(why, "an IPv6 address needs brackets, as in [fd00::2]:80");
	if ((size_t)(colon - text) >= sizeof(spec->host))
		return parse_fail(why, "the host is too long");
	memcpy(spec->host, text, (size_t)(colon - text));
	if (check_host(spec->host, why) == -1)
		return -1;
	return parse_ports(colon + 1, spec, why);
}

static int
parse_unix(const char *path, struct addr_spec *spec, const char **why)
{
	spec->is_unix = true;
	if (path[0] == '\0' || strcmp(path, "@") == 0)
		return parse_fail(why, "the path is missing");
	/* The '@' of an abstract name stands for the leading NUL; a path needs its terminator. Both leave 107 bytes. */
	if (strlen(path) - (path[0] == '@' ? 1 : 0) > sizeof(((struct sockaddr_un *)0)->sun_path) - 1)
		return parse_fail(why, "the path is longer than 107 bytes");
	memcpy(spec->host, path, strlen(path) + 1);
	return 0;
}

int
addr_parse(const char *text, struct addr_spec *spec, const char **why)
{
	const char *at;

	memset(spec, 0, sizeof(*spec));
	if (strncmp(text, "unix:", 5) == 0)
		return parse_unix(text + 5, spec, why);
	at = strchr(text, '@');
	if (at == NULL)
		return parse_host_port(text, spec, why);
	if (at == text)
		return parse_fail(why, "the namespace before '@' is missing");
	if ((size_t)(at - text) >= sizeof(spec->netns))
		return parse_fail(why, "the namespace is too long");
	memcpy(spec->netns, text, (size_t)(at - text));
	return parse_host_port(at + 1, spec, why);
}

static void
from_unix(const struct addr_spec *spec, struct addr *addr)
{
	size_t len = strlen(spec->host);

	addr->u.un.sun_family = AF_UNIX;
	memcpy(addr->u.un.sun_path, spec->host, len < sizeof(addr->u.un.sun_path) ? len : sizeof(addr->u.un.sun_path) - 1);
	addr->len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
	if (spec->host[0] == '@')
		addr->u.un.sun_path[0] = '\0';
	else
		addr->len++;
}

static int
from_zone(const char *zone, const struct in6_addr *in6, uint32_t *scope, const char **why)
{
	bool local = IN6_IS_ADDR_LINKLOCAL(in6) || IN6_IS_ADDR_MC_LINKLOCAL(in6);
	char *end;
	unsigned long number;

	if (zone == NULL)
		return local ? parse_fail(why, "a link-local address needs a zone, as in [fe80::1%eth0]:80") : 0;
	if (!local)
		return parse_fail(why, "only a link-local address takes a zone");
	*scope = if_nametoindex(zone);
	if (*scope != 0)
		return 0;
	number = is_digit(zone[0]) ? strtoul(zone, &end, 10) : 0;
	if (number == 0 || *end != '\0' || number > INT32_MAX)
		return parse_fail(why, "there is no such interface in this namespace");
	*scope = (uint32_t)number;
	return 0;
}

static void
set_v4(struct addr *addr, const void *bytes)
{
	addr->u.in.sin_family = AF_INET;
	memcpy(&addr->u.in.sin_addr, bytes, sizeof(addr->u.in.sin_addr));
	addr->len = sizeof(addr->u.in);
}

static int
from_v6(const struct addr_spec *spec, struct addr *addr, const char **why)
{
	char literal[INET6_ADDRSTRLEN + 1];
	const char *zone = strchr(spec->host, '%');
	size_t len = zone != NULL ? (size_t)(zone - spec->host) : strlen(spec->host);
	struct in6_addr in6;

	if (len >= sizeof(literal))
		return parse_fail(why, "not an IPv6 address");
	memcpy(literal, spec->host, len);
	literal[len] = '\0';
	if (inet_pton(AF_INET6, literal, &in6) != 1)
		return parse_fail(why, "not an IPv6 address");
	if (from_zone(zone != NULL ? zone + 1 : NULL, &in6, &addr->u.in6.sin6_scope_id, why) == -1)
		return -1;
	/* One address, one form: a listener on ::ffff:10.0.0.1 is one on 10.0.0.1. */
	if (IN6_IS_ADDR_V4MAPPED(&in6)) {
		set_v4(addr, &in6.s6_addr[12]);
		return 0;
	}
	addr->u.in6.sin6_family = AF_INET6;
	addr->u.in6.sin6_addr = in6;
	addr->len = sizeof(addr->u.in6);
	return 0;
}

int
addr_from_spec(const struct addr_spec *spec, struct addr *addr, const char **why)
{
	struct in_addr in;

	memset(addr, 0, sizeof(*addr));
	if (spec->is_unix) {
		from_unix(spec, addr);
		return 0;
	}
	if (strcmp(spec->host, "*") == 0) {
		addr->u.in6.sin6_family = AF_INET6;
		addr->len = sizeof(addr->u.in6);
	} else if (spec->is_v6_literal) {
		if (from_v6(spec, addr, why) == -1)
			return -1;
	} else if (inet_pton(AF_INET, spec->host, &in) == 1) {
		set_v4(addr, &in);
	} else {
		return 1;
	}
	addr_set_port(addr, spec->port_first);
	return 0;
}

uint16_t
addr_port(const struct addr *addr)
{
	if (addr->len == 0)
		return 0;
	if (addr->u.sa.sa_family == AF_INET)
		return ntohs(addr->u.in.sin_port);
	if (addr->u.sa.sa_family == AF_INET6)
		return ntohs(addr->u.in6.sin6_port);
	return 0;
}

void
addr_set_port(struct addr *addr, uint16_t port)
{
	if (addr->len == 0)
		return;
	if (addr->u.sa.sa_family == AF_INET)
		addr->u.in.sin_port = htons(port);
	else if (addr->u.sa.sa_family == AF_INET6)
		addr->u.in6.sin6_port = htons(port);
}

bool
addr_equal(const struct addr *a, const struct addr *b)
{
	struct wire_addr wire_a, wire_b;

	if (a->len == 0 || b->len == 0)
		return a->len == b->len;
	if (a->u.sa.sa_family == AF_UNIX || b->u.sa.sa_family == AF_UNIX)
		return a->len == b->len && memcmp(&a->u, &b->u, a->len) == 0;
	addr_to_wire(a, &wire_a);
	addr_to_wire(b, &wire_b);
	return memcmp(&wire_a, &wire_b, sizeof(wire_a)) == 0;
}

/* A peer chooses its own abstract name: nothing of it may reach a terminal or a log as it is. */
static const char *
format_unix(const struct addr *addr, char buf[ADDR_TEXT_MAX])
{
	size_t len = addr->len > offsetof(struct sockaddr_un, sun_path) ? addr->len - offsetof(struct sockaddr_un, sun_path) : 0;
	const char *path = addr->u.un.sun_path;
	char *out = buf + 5;
	size_t i;

	memcpy(buf, "unix:", 5);
	if (len > sizeof(addr->u.un.sun_path))
		len = sizeof(addr->u.un.sun_path);
	if (len > 0 && path[0] != '\0')
		len = strnlen(path, len);
	for (i = 0; i < len; i++)
		*out++ = i == 0 && path[i] == '\0' ? '@' : path[i] > ' ' && path[i] < 0x7f ? path[i] : '?';
	*out = '\0';
	return buf;
}

const char *
addr_format(const struct addr *addr, char buf[ADDR_TEXT_MAX])
{
	struct wire_addr wire;

	if (addr->len != 0 && addr->u.sa.sa_family == AF_UNIX)
		return format_unix(addr, buf);
	addr_to_wire(addr, &wire);
	return addr_format_wire(&wire, buf);
}

void
addr_to_wire(const struct addr *addr, struct wire_addr *wire)
{
	memset(wire, 0, sizeof(*wire));
	if (addr->len == 0)
		return;
	wire->family = addr->u.sa.sa_family;
	wire->port = addr_port(addr);
	if (wire->family == AF_INET) {
		memcpy(wire->bytes, &addr->u.in.sin_addr, 4);
	} else if (wire->family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&addr->u.in6.sin6_addr)) {
		wire->family = AF_INET;
		memcpy(wire->bytes, &addr->u.in6.sin6_addr.s6_addr[12], 4);
	} else if (wire->family == AF_INET6) {
		memcpy(wire->bytes, &addr->u.in6.sin6_addr, 16);
		wire->scope = addr->u.in6.sin6_scope_id;
	}
}

int
addr_from_wire(const struct wire_addr *wire, struct addr *addr)
{
	memset(addr, 0, sizeof(*addr));
	switch (wire->family) {
	case AF_INET:
		set_v4(addr, wire->bytes);
		break;
	case AF_INET6:
		addr->u.in6.sin6_family = AF_INET6;
		memcpy(&addr->u.in6.sin6_addr, wire->bytes, 16);
		addr->u.in6.sin6_scope_id = wire->scope;
		addr->len = sizeof(addr->u.in6);
		break;
	case AF_UNIX:
		addr->u.un.sun_family = AF_UNIX;
		addr->len = offsetof(struct sockaddr_un, sun_path);
		break;
	default:
		return -1;
	}
	addr_set_port(addr, wire->port);
	return 0;
}

const char *
addr_format_wire(const struct wire_addr *wire, char buf[ADDR_TEXT_MAX])
{
	char host[INET6_ADDRSTRLEN], zone[16] = "";
	bool mapped = wire->family == AF_INET6 && memcmp(wire->bytes, "\0\0\0\0\0\0\0\0\0\0\xff\xff", 12) == 0;

	if (wire->family == AF_INET || mapped) {
		inet_ntop(AF_INET, wire->bytes + (mapped ? 12 : 0), host, sizeof(host));
		snprintf(buf, ADDR_TEXT_MAX, "%s:%u", host, wire->port);
	} else if (wire->family == AF_INET6) {
		inet_ntop(AF_INET6, wire->bytes, host, sizeof(host));
		if (wire->scope != 0)
			snprintf(zone, sizeof(zone), "%%%u", wire->scope);
		snprintf(buf, ADDR_TEXT_MAX, "[%s%s]:%u", host, zone, wire->port);
	} else {
		snprintf(buf, ADDR_TEXT_MAX, "%s", wire->family == AF_UNIX ? "unix:" : "?");
	}
	return buf;
}
