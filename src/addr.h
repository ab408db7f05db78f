/* SPDX-License-Identifier: ISC */
/*
 * Socket addresses: the text users write, sockaddr, the fixed form on the wire, and text again for logs.
 * Runs in: any
 */
#ifndef ADDR_H
#define ADDR_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>

/* A socket address that says its length. For an abstract unix name u.un.sun_path[0] is NUL and len counts the name exactly. */
struct addr {
	socklen_t len;			/* 0: none */
	union {
		struct sockaddr sa;
		struct sockaddr_in in;
		struct sockaddr_in6 in6;
		struct sockaddr_un un;
		struct sockaddr_storage ss;
	} u;
};

/* The fixed form in messages and in the scoreboard: no pointers, 24 bytes. A unix address is only its family here. */
struct wire_addr {
	uint16_t family;		/* AF_INET, AF_INET6, AF_UNIX; 0: none */
	uint16_t port;			/* host order */
	uint32_t scope;			/* zone of a link-local address, else 0 */
	uint8_t bytes[16];		/* network order; IPv4 in the first four */
};
_Static_assert(sizeof(struct wire_addr) == 24, "wire_addr is part of the protocol");

/* An address as written: [NETNS@]HOST:PORT[-PORT] or unix:PATH, taken apart but not resolved. */
struct addr_spec {
	char netns[256];		/* "" when left out */
	char host[256];			/* without brackets; "*" is every address; unix: the path, or "@name" */
	bool is_unix;
	bool is_v6_literal;		/* was in brackets */
	uint16_t port_first, port_last;	/* equal when no range was given; 0 lets the kernel choose */
};

/* Room for any text made here, terminator included. */
#define ADDR_TEXT_MAX 384

/* 0, or -1 with *why set to a static sentence part such as "port out of range (0-65535)". Never touches the network. */
int addr_parse(const char *text, struct addr_spec *spec, const char **why);
/*
 * Literal hosts, "*" (as the IPv6 any address; listeners make it dual-stack) and unix names to a sockaddr, with port_first.
 * The zone of "fe80::1%eth0" is looked up in the current network namespace. 1: host is a name that needs resolving; 0 done; -1 with *why.
 */
int addr_from_spec(const struct addr_spec *spec, struct addr *addr, const char **why);
uint16_t addr_port(const struct addr *addr);
void addr_set_port(struct addr *addr, uint16_t port);
bool addr_equal(const struct addr *a, const struct addr *b);
/* "10.10.10.10:80", "[fd00::2]:80", "[fe80::1%3]:80", "unix:/path", "unix:@name"; IPv4-mapped IPv6 is shown as IPv4. Returns buf. */
const char *addr_format(const struct addr *addr, char buf[ADDR_TEXT_MAX]);
/* IPv4-mapped IPv6 becomes IPv4. */
void addr_to_wire(const struct addr *addr, struct wire_addr *wire);
/* 0, or -1 when family is not one of ours (what came over a channel is not trusted). AF_UNIX gives an unnamed address. */
int addr_from_wire(const struct wire_addr *wire, struct addr *addr);
/* As addr_format; a unix address is "unix:"; an unknown family is "?". */
const char *addr_format_wire(const struct wire_addr *wire, char buf[ADDR_TEXT_MAX]);

#endif
