/* SPDX-License-Identifier: ISC */
/*
 * Opening listeners, at start or again.
 * Runs in: parent
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "parent_open.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "parent_adopt.h"
#include "parent_bind.h"

/* What netns_run() carries into the namespace: one route, whose ports are opened in a row. */
struct open_job {
	struct listen_set *set;
	const struct conf_service *service;
	struct route *route;
	uint32_t first;			/* listener of its first port */
	struct bound bound;		/* out, of open_again() */
	struct state *state;		/* of the image before; NULL: there was none */
	bool again, renewed;
	/* out, of the port that failed */
	bool entered;
	uint16_t port;
	const char *step, *hint;
};

/* In the listener's namespace. */
static int
open_ports(void *arg)
{
	struct open_job *job = arg;

	job->entered = true;
	for (uint16_t i = 0; i < job->route->n_ports; i++) {
		struct listener *listener = &job->set->list[job->first + i];

		if (listener->bound.fd != -1 || listener->kept)
			continue;
		job->port = (uint16_t)(job->route->first_port + i);
		if (bind_tcp(job->service, job->route->listen, job->port, &listener->bound, &job->step) == -1)
			return -1;
	}
	return 0;
}

static void
say_hint(char *buf, size_t size, int err, const struct netns *netns, uint16_t port)
{
	char in[300] = "", ip[300] = "ip addr";
	bool named = netns->name[0] != '\0' && strchr(netns->name, '/') == NULL && strchr(netns->name, ':') == NULL;

	if (named) {
		(void)snprintf(in, sizeof(in), "ip netns exec %.255s ", netns->name);
		(void)snprintf(ip, sizeof(ip), "ip -n %.255s addr", netns->name);
	}
	buf[0] = '\0';
	if (err == EADDRINUSE)
		(void)snprintf(buf, size, "; see what has it with: %sss -ltnp sport = :%u", in, port);
	else if (err == EADDRNOTAVAIL)
		(void)snprintf(buf, size, "; no interface there has this address, see: %s", ip);
	else if (err == EACCES)
		(void)snprintf(buf, size, "; ports below 1024 need CAP_NET_BIND_SERVICE");
	else if (err == EROFS)
		(void)snprintf(buf, size, "; if that is the unit's doing: ReadWritePaths=, or a path in its RuntimeDirectory=");
	else if (err == EMFILE)
		(void)snprintf(buf, size, "; raise the limit of open files (ulimit -n, LimitNOFILE=)");
}

static void
say_failure(const struct open_job *job, const struct netns *netns)
{
	int err = errno;
	struct addr addr = job->route->listen->addr;
	char where[ROUTE_TEXT_MAX], at[ROUTE_TEXT_MAX], hint[700];

	if (addr.u.sa.sa_family != AF_UNIX)
		addr_set_port(&addr, job->port);
	if (!job->entered)
		(void)snprintf(hint, sizeof(hint), "; this needs CAP_SYS_ADMIN in the user namespace that owns it");
	else if (job->hint != NULL)
		(void)snprintf(hint, sizeof(hint), "; %s", job->hint);
	else
		say_hint(hint, sizeof(hint), err, netns, job->port);
	log_at(job->again || job->renewed ? LOG_L_WARNING : LOG_L_ERR, "%sservice %s: cannot %s %s%s: %s%s",
	    route_where(job->service, where), job->service->name, job->entered ? job->step : "enter the network namespace of",
	    route_format(netns->name, &addr, at),
	    job->again ? " (this is tried until it works)" : job->renewed ? " (it stays as it was)" : "", strerror(err), hint);
}

/* The trial was a moment ago: what does not go now is tried again, since there are connections to lose. */
static bool
is_taking_over(const struct open_job *job)
{
	return job->state != NULL && job->state->head.purpose == STATE_REPLACE;
}

static enum exit_code
want_ports(const struct open_job *job)
{
	for (uint16_t i = 0; i < job->route->n_ports; i++) {
		struct listener *listener = &job->set->list[job->first + i];

		listener->wanted = listener->bound.fd == -1;
	}
	return EXIT_OK;
}

/* What the image before has open stays open. True when that is all of it. */
static bool
keep_ports(struct open_job *job, const struct netns *netns)
{
	uint16_t kept = 0;

	for (uint16_t i = 0; i < job->route->n_ports && job->state != NULL; i++) {
		struct listener *listener = &job->set->list[job->first + i];

		job->port = (uint16_t)(job->route->first_port + i);
		listener->kept = adopt_listener(job->state, netns, job->route->listen, job->port, &listener->bound);
		kept += listener->kept;
		if (listener->bound.fd == -1 || bind_renew(job->service, &listener->bound, &job->step) == 0)
			continue;
		job->entered = job->renewed = true;
		say_failure(job, netns);
		job->renewed = false;
	}
	job->port = job->route->first_port;
	job->step = "listen on";
	return kept == job->route->n_ports;
}

/* Those that are open already are the service manager's. */
static bool
is_open(const struct listen_set *set, uint32_t first, uint16_t n)
{
	for (uint16_t i = 0; i < n; i++) {
		if (set->list[first + i].bound.fd == -1)
			return false;
	}
	return true;
}

static enum exit_code
open_route(struct open_job *job, const struct netns *netns, const struct netns *home)
{
	struct listener *first = &job->set->list[job->first];
	int r = 0;

	if (keep_ports(job, netns) || is_open(job->set, job->first, job->route->n_ports)) {
		job->entered = true;
	} else if (job->route->listen->addr.u.sa.sa_family == AF_UNIX) {
		job->entered = true;
		r = bind_unix(job->service, job->route->listen, SOCK_STREAM, &first->bound, &job->step, &job->hint);
	} else {
		r = netns_run(netns, home, open_ports, job);
	}
	if (r == -1) {
		job->again = is_taking_over(job);
		say_failure(job, netns);
		if (job->again)
			return want_ports(job);
		return job->entered ? EXIT_MACHINE : EXIT_NAMESPACE;
	}
	if (first->bound.addr.len > 0 && first->bound.addr.u.sa.sa_family != AF_UNIX)
		addr_to_wire(&first->bound.addr, &job->route->names.listener);
	return EXIT_OK;
}

static int
allocate(struct listen_set *set, const struct conf *conf, const struct routes *routes, struct pools *pools)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < routes->n; i++)
		n += routes->list[i].n_ports;
	*set = (struct listen_set){ .conf = conf, .pools = pools };
	set->list = calloc(n, sizeof(*set->list));
	set->gates = calloc(pools->n, sizeof(*set->gates));
	set->limits = calloc(conf->n_services, sizeof(*set->limits));
	if (set->list == NULL || set->gates == NULL || set->limits == NULL) {
		log_err("cannot allocate the table of %u listeners", n);
		return -1;
	}
	return 0;
}

/* An explicit max-connections holds; what does not fit is lowered and said. Where nothing is said the workers' own bound is enough. */
static void
set_limit(struct listen_limit *limit, const struct conf_service *service, const struct pools *pools, unsigned pool)
{
	char where[ROUTE_TEXT_MAX];
	uint64_t fits;

	limit->most = service->max_connections > 0 ? service->max_connections : UINT32_MAX;
	if (service->removed)
		return;
	fits = (uint64_t)pools->max_conns * pools->list[pool].n;
	if (service->max_connections <= fits)
		return;
	limit->most = UINT32_MAX;
	log_warnx("%sservice %s: max-connections %u is lowered to %llu, which is what %u workers can hold with this limit of open files",
	    route_where(service, where), service->name, service->max_connections, (unsigned long long)fits, pools->list[pool].n);
}

static void
add_listeners(struct listen_set *set, const struct route *route, bool wanted)
{
	for (uint16_t i = 0; i < route->n_ports; i++) {
		set->list[set->n++] = (struct listener){ .bound = { .fd = -1 }, .route = route->msg.index, .service = route->service,
			.pool = route->pool, .port_offset = i, .wanted = wanted };
	}
}

enum exit_code
open_listeners(struct listen_set *set, const struct conf *conf, struct routes *routes, struct pools *pools, const struct netns *netns,
    struct activation *activation, struct state *state)
{
	enum exit_code code = EXIT_OK, first_code = EXIT_OK;
	uint32_t next = 0;

	if (allocate(set, conf, routes, pools) == -1)
		return EXIT_MACHINE;
	for (unsigned s = 0; s < conf->n_services; s++)
		set_limit(&set->limits[s], &conf->services[s], pools, pools->of_service[s]);
	for (uint32_t i = 0; i < routes->n; i++) {
		if (!routes->list[i].removed)
			add_listeners(set, &routes->list[i], netns[routes->list[i].listen->netns].fd == -1);
	}
	first_code = activate_listeners(activation, set, conf, routes, netns);
	for (uint32_t i = 0; i < routes->n; i++) {
		struct route *route = &routes->list[i];
		struct open_job job = { .set = set, .service = &conf->services[route->service], .route = route, .first = next,
			.state = state, .port = route->first_port, .step = "listen on" };

		if (route->removed)
			continue;
		next += route->n_ports;
		if (netns[route->listen->netns].fd == -1)
			continue;
		code = open_route(&job, &netns[route->listen->netns], &netns[0]);
		if (first_code == EXIT_OK)
			first_code = code;
	}
	return first_code;
}

static void
announce(const struct listen_set *set, const struct routes *routes, const struct listener *listener)
{
	char at[ROUTE_TEXT_MAX];

	log_notice("service %s: listening on %s", set->conf->services[listener->service].name,
	    route_format(routes->list[listener->route].names.public_netns, &listener->bound.addr, at));
}

uint32_t
open_want(struct listen_set *set, const struct routes *routes, unsigned of)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < set->n; i++) {
		const struct conf_endpoint *listen = routes->list[set->list[i].route].listen;

		if (listen->netns == of && listen->addr.u.sa.sa_family != AF_UNIX)
			set->list[i].wanted = true;
		n += listen->netns == of && set->list[i].wanted;
	}
	return n;
}

/* In the listener's namespace. */
static int
open_again(void *arg)
{
	struct open_job *job = arg;

	job->entered = true;
	if (job->route->listen->addr.u.sa.sa_family == AF_UNIX)
		return bind_unix(job->service, job->route->listen, SOCK_STREAM, &job->bound, &job->step, &job->hint);
	return bind_tcp(job->service, job->route->listen, job->port, &job->bound, &job->step);
}

/* The port that the kernel chose once is known by now, and kept. */
static uint16_t
port_again(const struct listener *listener, const struct route *route)
{
	uint16_t had = listener->bound.addr.len > 0 ? addr_port(&listener->bound.addr) : 0;

	return had != 0 ? had : (uint16_t)(route->first_port + listener->port_offset);
}

uint32_t
open_count_wanted(const struct listen_set *set, const struct routes *routes, unsigned of)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < set->n; i++)
		n += set->list[i].wanted && routes->list[set->list[i].route].listen->netns == of;
	return n;
}

uint32_t
open_wanted(struct listen_set *set, struct routes *routes, unsigned of, const struct netns *netns, const struct netns *home, bool say)
{
	uint32_t n = 0;
	bool first;

	for (uint32_t i = 0; i < set->n; i++) {
		struct listener *listener = &set->list[i];
		struct route *route = &routes->list[listener->route];
		struct open_job job = { .set = set, .service = &set->conf->services[listener->service], .route = route, .again = true,
			.step = "listen on" };

		if (!listener->wanted || route->listen->netns != of)
			continue;
		job.port = port_again(listener, route);
		first = listener->bound.fd == -1;
		if (netns_run(netns, home, open_again, &job) == 0 && listen_replace(set, listener, &job.bound) == 0) {
			if (listener->port_offset == 0)
				route_is_at(routes, route, &listener->bound.addr);
			if (first)
				announce(set, routes, listener);
			continue;
		}
		if (say)
			say_failure(&job, netns);
		say = false;
		n++;
	}
	return n;
}

void
open_announce(const struct listen_set *set, const struct routes *routes)
{
	for (uint32_t i = 0; i < set->n; i++) {
		if (set->list[i].bound.fd != -1 && !set->list[i].kept)
			announce(set, routes, &set->list[i]);
	}
}
