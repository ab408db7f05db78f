/* SPDX-License-Identifier: ISC */
/*
 * Listeners from the service manager.
 * Runs in: parent
 *
 * Theory of operation: the manager's sockets are the descriptors from 3 on. A socket's name says which service it is for: NAME, or NAME-N for
 * its Nth `listen` address. Where nobody chose a name (systemd then takes the unit's, or "unknown") the address alone decides. A socket is
 * never taken for something that it is not: its kind, its address and its network namespace must be what the service listens on. One that
 * fits nowhere is an error, because the manager would go on listening on it and its clients would wait for ever.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "parent_activate.h"

#include <errno.h>
#include <limits.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fdutil.h"
#include "log.h"
#include "parent_bind.h"

#define FIRST_PASSED 3
/* More than anybody passes, and few enough to be numbers of descriptors. */
#define PASSED_MOST 65536
/* FileDescriptorName= has at most 255 bytes. */
#define NAME_ROOM 256

struct activated {
	int fd;				/* owned; -1: given away */
	int number;			/* as it was passed, for messages */
	char name[NAME_ROOM];		/* "": nobody chose one */
	struct addr addr;
	bool v6_only;
	uint64_t netns;			/* cookie of its network namespace; 0: this kernel does not tell */
};

/* Where a place is looked for. */
struct places {
	struct listen_set *set;
	const struct conf *conf;
	const struct routes *routes;
	const struct netns *netns;	/* [conf->n_netns]; the first is ours */
};

/* What is looked for, and how far the search came: for the message when nothing fits. */
struct fit {
	const struct conf_service *named;	/* NULL: any service */
	size_t nth;				/* 1...: only this `listen` address; 0: any */
	const struct conf_endpoint *elsewhere;	/* right address, but another namespace */
	bool taken;				/* right, but another socket has it */
	bool v6_only;				/* right, but for this option */
};

/* ---- what was passed ---------------------------------------------------------------------------------------------------------------- */

static unsigned long
number_in(const char *variable, unsigned long most)
{
	const char *text = getenv(variable);
	unsigned long value;
	char *end;

	if (text == NULL || text[0] < '0' || text[0] > '9')
		return 0;
	errno = 0;
	value = strtoul(text, &end, 10);
	return errno != 0 || *end != '\0' || value > most ? 0 : value;
}

static bool
is_chosen(const char *name)
{
	size_t len = strlen(name);

	return strcmp(name, "unknown") != 0 && (len < 7 || strcmp(name + len - 7, ".socket") != 0);
}

/* The names are in the order of the descriptors, with colons between them. */
static void
take_names(struct activation *activation, const char *names)
{
	for (size_t i = 0; names != NULL && i < activation->n; i++) {
		struct activated *activated = &activation->list[i];
		const char *colon = strchr(names, ':');
		size_t len = colon != NULL ? (size_t)(colon - names) : strlen(names);

		(void)snprintf(activated->name, sizeof(activated->name), "%.*s", len < INT_MAX ? (int)len : 0, names);
		if (!is_chosen(activated->name))
			activated->name[0] = '\0';
		names = colon != NULL ? colon + 1 : NULL;
	}
}

int
activate_init(struct activation *activation, int *first_other)
{
	size_t n = number_in("LISTEN_PID", INT_MAX) == (unsigned long)getpid() ? number_in("LISTEN_FDS", PASSED_MOST) : 0;

	*activation = (struct activation){ .n = n };
	*first_other = FIRST_PASSED + (int)n;
	if (n > 0) {
		activation->list = calloc(n, sizeof(*activation->list));
		if (activation->list == NULL) {
			log_err("cannot allocate the table of %zu sockets of the service manager", n);
			return -1;
		}
		for (size_t i = 0; i < n; i++)
			activation->list[i] = (struct activated){ .fd = FIRST_PASSED + (int)i, .number = FIRST_PASSED + (int)i };
		take_names(activation, getenv("LISTEN_FDNAMES"));
		for (size_t i = 0; i < n; i++)
			(void)fd_set_cloexec(activation->list[i].fd, 1);
	}
	/* They are true once: what is executed in our place finds its listeners otherwise. */
	(void)unsetenv("LISTEN_PID");
	(void)unsetenv("LISTEN_FDS");
	(void)unsetenv("LISTEN_FDNAMES");
	return 0;
}

void
activate_free(struct activation *activation)
{
	for (size_t i = 0; i < activation->n && activation->list != NULL; i++)
		fd_close(&activation->list[i].fd);
	free(activation->list);
	*activation = (struct activation){ .n = 0 };
}

/* ---- what it is --------------------------------------------------------------------------------------------------------------------- */

/* "socket 3 'web'" */
static const char *
called(const struct activated *activated, char buf[NAME_ROOM + 32])
{
	if (activated->name[0] != '\0')
		(void)snprintf(buf, NAME_ROOM + 32, "socket %d '%s'", activated->number, activated->name);
	else
		(void)snprintf(buf, NAME_ROOM + 32, "socket %d", activated->number);
	return buf;
}

static int
option_of(int fd, int level, int name)
{
	int value = -1;
	socklen_t len = sizeof(value);

	return getsockopt(fd, level, name, &value, &len) == -1 ? -1 : value;
}

/* Cookie of the namespace that a socket belongs to; 0 where the kernel does not tell (before 5.14). */
static uint64_t
netns_of(int fd)
{
#ifdef SO_NETNS_COOKIE
	uint64_t cookie = 0;
	socklen_t len = sizeof(cookie);

	return getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &len) == -1 ? 0 : cookie;
#else
	(void)fd;
	return 0;
#endif
}

/* NULL, or why it is no listener of ours, whatever the configuration. */
static const char *
look_at(struct activated *activated)
{
	int fd = activated->fd, family, type = option_of(fd, SOL_SOCKET, SO_TYPE);

	if (type == -1)
		return errno == EBADF ? "is not open" : "is no socket";
	if (type != SOCK_STREAM)
		return "is no stream socket; use ListenStream=";
	if (option_of(fd, SOL_SOCKET, SO_ACCEPTCONN) != 1)
		return "does not listen; use Accept=no";
	family = option_of(fd, SOL_SOCKET, SO_DOMAIN);
	if (family != AF_UNIX && ((family != AF_INET && family != AF_INET6) || option_of(fd, SOL_SOCKET, SO_PROTOCOL) != IPPROTO_TCP))
		return "is neither a TCP socket nor a unix socket";
	activated->addr.len = sizeof(activated->addr.u);
	if (getsockname(fd, &activated->addr.u.sa, &activated->addr.len) == -1)
		return "has no address";
	/* With its terminator, as ours are; the kernel may or may not count it (unix(7)). */
	if (family == AF_UNIX && activated->addr.u.un.sun_path[0] != '\0')
		activated->addr.len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strnlen(activated->addr.u.un.sun_path,
		    sizeof(activated->addr.u.un.sun_path)) + 1);
	activated->v6_only = family == AF_INET6 && option_of(fd, IPPROTO_IPV6, IPV6_V6ONLY) == 1;
	activated->netns = netns_of(fd);
	return NULL;
}

/* ---- what it is for ----------------------------------------------------------------------------------------------------------------- */

/* In the namespace of a listener. */
static int
cookie_here(void *arg)
{
	FD_AUTO int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	*(uint64_t *)arg = fd == -1 ? 0 : netns_of(fd);
	return fd == -1 ? -1 : 0;
}

/* A path is not in any network namespace. */
static bool
netns_fits(const struct activated *activated, const struct netns *netns, const struct netns *home)
{
	uint64_t cookie = 0;

	if (activated->netns == 0 || (activated->addr.u.sa.sa_family == AF_UNIX && activated->addr.u.un.sun_path[0] != '\0'))
		return true;
	return netns->fd != -1 && netns_run(netns, home, cookie_here, &cookie) == 0 && cookie == activated->netns;
}

static bool
addr_fits(const struct activated *activated, const struct route *route, uint16_t offset)
{
	struct addr wanted = route->listen->addr;

	if (wanted.u.sa.sa_family != activated->addr.u.sa.sa_family)
		return false;
	if (wanted.u.sa.sa_family != AF_UNIX)
		addr_set_port(&wanted, route->first_port == 0 ? addr_port(&activated->addr) : (uint16_t)(route->first_port + offset));
	return addr_equal(&wanted, &activated->addr);
}

/* "*" is both families; "[::]" is IPv6 alone. It can be chosen before bind() only. */
static bool
v6_fits(const struct activated *activated, const struct conf_endpoint *listen)
{
	if (activated->addr.u.sa.sa_family != AF_INET6 || !IN6_IS_ADDR_UNSPECIFIED(&activated->addr.u.in6.sin6_addr))
		return true;
	return activated->v6_only != listen->any;
}

static struct listener *
find_listener(const struct activated *activated, struct fit *fit, const struct places *places)
{
	for (uint32_t i = 0; i < places->set->n; i++) {
		struct listener *listener = &places->set->list[i];
		const struct route *route = &places->routes->list[listener->route];
		const struct conf_service *service = &places->conf->services[listener->service];

		if ((fit->named != NULL && service != fit->named) || (fit->nth > 0 && route->listen != &service->listen[fit->nth - 1]) ||
		    !addr_fits(activated, route, listener->port_offset))
			continue;
		if (listener->bound.fd != -1)
			fit->taken = true;
		else if (!netns_fits(activated, &places->netns[route->listen->netns], &places->netns[0]))
			fit->elsewhere = route->listen;
		else if (!v6_fits(activated, route->listen))
			fit->v6_only = true;
		else
			return listener;
	}
	return NULL;
}

/* "web", or "web-2" for its second `listen` address. False: there is no such service. */
static bool
find_named(const char *name, const struct conf *conf, struct fit *fit)
{
	*fit = (struct fit){ .named = NULL };
	if (name[0] == '\0')
		return true;
	for (size_t s = 0; s < conf->n_services; s++) {
		if (strcmp(conf->services[s].name, name) == 0)
			fit->named = &conf->services[s];
	}
	for (size_t s = 0; s < conf->n_services && fit->named == NULL; s++) {
		size_t len = strlen(conf->services[s].name);
		char *end;

		if (strncmp(conf->services[s].name, name, len) != 0 || name[len] != '-' || name[len + 1] < '1' || name[len + 1] > '9')
			continue;
		fit->nth = strtoul(name + len + 1, &end, 10);
		if (*end == '\0' && fit->nth <= conf->services[s].n_listen)
			fit->named = &conf->services[s];
	}
	return fit->named != NULL;
}

static void
say_misfit(const struct activated *activated, const struct fit *fit, const struct conf *conf)
{
	char who[NAME_ROOM + 32], at[ADDR_TEXT_MAX];

	(void)called(activated, who);
	(void)addr_format(&activated->addr, at);
	if (fit->taken)
		log_errx("%s of the service manager (%s): another socket was passed for the same listener", who, at);
	else if (fit->elsewhere != NULL)
		log_errx("%s of the service manager (%s) is in another network namespace than '%s'; set NetworkNamespacePath=%s in its unit", who, at,
		    fit->elsewhere->text, conf->netns[fit->elsewhere->netns].path);
	else if (fit->v6_only)
		log_errx("%s of the service manager (%s): '*' needs BindIPv6Only=both in its unit, '[::]' needs BindIPv6Only=ipv6-only", who, at);
	else if (fit->named == NULL)
		log_errx("%s of the service manager (%s) is none of the addresses listened on; give it a FileDescriptorName= that is a service's name, "
		    "and the same address as its 'listen'", who, at);
	else
		log_errx("%s of the service manager is %s, but service %s listens on %s; make ListenStream= and 'listen' agree", who, at, fit->named->name,
		    fit->named->listen[fit->nth > 0 ? fit->nth - 1 : 0].text);
}

static enum exit_code
give(struct activated *activated, const struct places *places)
{
	const struct conf *conf = places->conf;
	const char *why = look_at(activated);
	char who[NAME_ROOM + 32];
	struct listener *listener;
	struct fit fit;

	(void)called(activated, who);
	if (why != NULL) {
		log_errx("%s of the service manager %s", who, why);
		return EXIT_MACHINE;
	}
	if (!find_named(activated->name, conf, &fit)) {
		log_errx("%s of the service manager: no service has this name; FileDescriptorName= is a service's name, or NAME-N for its Nth address", who);
		return EXIT_MACHINE;
	}
	listener = find_listener(activated, &fit, places);
	if (listener == NULL) {
		say_misfit(activated, &fit, conf);
		return EXIT_MACHINE;
	}
	if (bind_inherited(&conf->services[listener->service], activated->fd, activated->addr.u.sa.sa_family) == -1) {
		log_err("service %s: cannot set the options of %s of the service manager", conf->services[listener->service].name, who);
		return EXIT_MACHINE;
	}
	/* No inode: its path is the manager's, who keeps listening when we end. */
	listener->bound = (struct bound){ .fd = fd_take(&activated->fd), .addr = activated->addr, .shared = true };
	log_info("service %s: %s of the service manager is used", conf->services[listener->service].name, who);
	return EXIT_OK;
}

enum exit_code
activate_listeners(struct activation *activation, struct listen_set *set, const struct conf *conf, const struct routes *routes,
    const struct netns *netns)
{
	const struct places places = { .set = set, .conf = conf, .routes = routes, .netns = netns };
	enum exit_code first = EXIT_OK;

	for (size_t i = 0; i < activation->n; i++) {
		enum exit_code code = give(&activation->list[i], &places);

		if (first == EXIT_OK)
			first = code;
	}
	return first;
}
