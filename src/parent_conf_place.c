/* SPDX-License-Identifier: ISC */
/*
 * Endpoints as written to namespaces and addresses.
 * Runs in: parent
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "parent_conf_place.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "parent_conf_value.h"
#include "parent_resolve.h"

void
places_init(struct conf_places *places)
{
	memset(places, 0, sizeof(*places));
}

void
places_free(struct conf_places *places)
{
	size_t i;

	for (i = 0; i < places->n; i++)
		netns_close(&places->open[i]);
	free(places->open);
	free(places->state);
	memset(places, 0, sizeof(*places));
}

const struct netns *
places_open(struct conf_places *places, struct conf_draft *draft, unsigned index, const struct conf_where *where, bool wait)
{
	const struct conf_netns *ns = &draft->conf.netns[index];
	char place[512];

	for (; places->n <= index; places->n++) {
		places->open = draft_grow(places->open, places->n, sizeof(*places->open));
		places->state = draft_grow(places->state, places->n, sizeof(*places->state));
		places->open[places->n].fd = -1;
	}
	if (places->state[index] == PLACE_OPEN)
		return &places->open[index];
	if (places->state[index] == PLACE_FAILED || (wait && access(ns->path, F_OK) == -1 && errno == ENOENT))
		return NULL;
	draft_where_text(where, place, sizeof(place));
	if (netns_open(&places->open[index], ns->name, ns->path, place) == 0) {
		places->state[index] = PLACE_OPEN;
		return &places->open[index];
	}
	places->state[index] = PLACE_FAILED;
	draft_failed(draft, where, EXIT_NAMESPACE);
	return NULL;
}

/* Does it take the right namespace to understand this host? */
static bool
needs_place(const struct addr_spec *spec)
{
	struct addr addr;
	const char *why;

	return !spec->is_unix && (strchr(spec->host, '%') != NULL || addr_from_spec(spec, &addr, &why) == 1);
}

/* Addresses of one endpoint; 0 after an error. */
static int
find_addresses(struct conf_draft *draft, struct conf_places *places, const struct draft_endpoint *endpoint, unsigned netns, bool wait,
    struct addr addrs[RESOLVE_MOST])
{
	const struct conf_where *where = &endpoint->value.where;
	const struct conf *conf = &draft->conf;
	struct resolve_job job = { .spec = &endpoint->spec, .uid = conf->uid, .gid = conf->gid, .one_id = conf->one_id };
	char why[160];
	int n;

	if (netns != 0 && needs_place(&endpoint->spec)) {
		job.ns = places_open(places, draft, netns, where, wait);
		if (job.ns == NULL && places->state[netns] == PLACE_UNTRIED)
			draft_error(draft, where, EXIT_NAMESPACE, "'%s': needs its namespace to be resolved; write a literal address to wait for one",
			    endpoint->value.text);
		if (job.ns == NULL)
			return 0;
	}
	n = resolve(&job, addrs, why, sizeof(why));
	if (n > 0)
		return n;
	draft_error(draft, where, EXIT_MACHINE, "cannot resolve '%s': %s", endpoint->value.text, why);
	return 0;
}

static void
fill_endpoint(struct conf_endpoint *out, const struct draft_endpoint *in, unsigned netns, const struct addr *addr)
{
	out->text = draft_copy(in->value.text);
	out->netns = netns;
	out->addr = *addr;
	out->port_last = in->spec.port_last;
	out->any = !in->spec.is_unix && strcmp(in->spec.host, "*") == 0;
}

static void
place_listen(struct conf_draft *draft, struct conf_places *places, struct draft_service *service, const struct draft_endpoint *endpoint)
{
	struct conf_service *out = &service->out;
	struct addr addrs[RESOLVE_MOST];
	int netns = endpoint->good ? draft_netns(draft, endpoint->spec.netns, &endpoint->value.where) : -1, n, i;

	if (netns == -1)
		return;
	n = find_addresses(draft, places, endpoint, (unsigned)netns, out->wait_for_netns, addrs);
	for (i = 0; i < n; i++) {
		out->listen = draft_grow(out->listen, out->n_listen, sizeof(*out->listen));
		service->listen_where = draft_grow(service->listen_where, out->n_listen, sizeof(*service->listen_where));
		service->listen_where[out->n_listen] = endpoint->value.where;
		fill_endpoint(&out->listen[out->n_listen++], endpoint, (unsigned)netns, &addrs[i]);
	}
}

static void
place_connect(struct conf_draft *draft, struct conf_places *places, struct draft_service *service)
{
	const struct draft_endpoint *endpoint = &service->connect[0];
	struct addr addrs[RESOLVE_MOST];
	int netns;

	if (service->n_connect == 0 || !endpoint->good)
		return;
	netns = draft_netns(draft, endpoint->spec.netns, &endpoint->value.where);
	/* Of several addresses the resolver's first choice is used (RFC 6724). */
	if (netns != -1 && find_addresses(draft, places, endpoint, (unsigned)netns, service->out.wait_for_netns, addrs) > 0)
		fill_endpoint(&service->out.connect, endpoint, (unsigned)netns, &addrs[0]);
}

/* A source lives where the target does. */
static void
place_source(struct conf_draft *draft, struct conf_places *places, struct draft_service *service)
{
	struct draft_endpoint endpoint = { .value = service->source, .good = true };
	struct addr addrs[RESOLVE_MOST];
	const char *why;

	if (service->source.text == NULL || service->out.connect.addr.len == 0)
		return;
	if (value_literal(service->source.text, &endpoint.spec, &why) == 0 &&
	    find_addresses(draft, places, &endpoint, service->out.connect.netns, service->out.wait_for_netns, addrs) > 0)
		service->out.source = addrs[0];
}

static void
place_metrics(struct conf_draft *draft, struct conf_places *places)
{
	const struct draft_endpoint *endpoint = &draft->metrics;
	struct addr addrs[RESOLVE_MOST];
	int netns;

	if (!endpoint->good)
		return;
	draft->conf.metrics_waits = draft->wait_for_netns;
	draft->conf.metrics = draft_copy(endpoint->value.text);
	netns = draft_netns(draft, endpoint->spec.netns, &endpoint->value.where);
	if (netns != -1 && find_addresses(draft, places, endpoint, (unsigned)netns, draft->wait_for_netns, addrs) > 0)
		fill_endpoint(&draft->conf.metrics_at, endpoint, (unsigned)netns, &addrs[0]);
}

void
conf_place_services(struct conf_draft *draft, struct conf_places *places)
{
	size_t i, j;

	for (i = 0; i < draft->n_services; i++) {
		struct draft_service *service = &draft->services[i];

		for (j = 0; j < service->n_listen; j++)
			place_listen(draft, places, service, &service->listen[j]);
		place_connect(draft, places, service);
		place_source(draft, places, service);
	}
	place_metrics(draft, places);
}
