/* SPDX-License-Identifier: ISC */
/*
 * Rules across settings.
 * Runs in: parent
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "parent_conf_check.h"

#include <stdlib.h>
#include <string.h>

bool
engine_compiled_in(enum engine_id engine)
{
	switch (engine) {
	case ENGINE_ADAPTIVE:
	case ENGINE_COPY:
	case ENGINE_SPLICE:
		return true;
	case ENGINE_IO_URING:
#ifdef HAVE_LIBURING
		return true;
#else
		return false;
#endif
	default:
		return false;
	}
}

bool
metrics_compiled_in(void)
{
#ifdef HAVE_MICROHTTPD
	return true;
#else
	return false;
#endif
}

static unsigned
ports_of(const struct addr_spec *spec)
{
	return (unsigned)spec->port_last - spec->port_first + 1;
}

/* The one target: something that can be connected to. */
static void
check_connect(struct conf_draft *draft, const struct draft_service *service)
{
	const struct draft_endpoint *to = &service->connect[0];

	if (service->n_connect > 1)
		draft_error(draft, &service->connect[1].value.where, EXIT_CMDLINE,
		    "'%s': service '%s' has more than one target, which is not supported yet", service->connect[1].value.text, service->out.name);
	if (!to->good || to->spec.is_unix)
		return;
	if (strcmp(to->spec.host, "*") == 0)
		draft_error(draft, &to->value.where, EXIT_CMDLINE, "'%s': a target is one address, not all of them", to->value.text);
	if (to->spec.port_first == 0)
		draft_error(draft, &to->value.where, EXIT_CMDLINE, "'%s': port 0 cannot be connected to", to->value.text);
}

static void
check_ranges(struct conf_draft *draft, const struct draft_service *service)
{
	const struct draft_endpoint *to = &service->connect[0];
	size_t i;

	for (i = 0; to->good && i < service->n_listen; i++) {
		const struct draft_endpoint *from = &service->listen[i];

		if (from->good && ports_of(&to->spec) != 1 && ports_of(&to->spec) != ports_of(&from->spec))
			draft_error(draft, &to->value.where, EXIT_CMDLINE, "'%s': %u ports do not match the %u of '%s'; write as many, or one",
			    to->value.text, ports_of(&to->spec), ports_of(&from->spec), from->value.text);
	}
}

static void
check_service(struct conf_draft *draft, const struct draft_service *service)
{
	if (service->n_listen == 0)
		draft_error(draft, &service->where, EXIT_CMDLINE, "service '%s' has no listen address", service->out.name);
	if (service->n_connect == 0) {
		draft_error(draft, &service->where, EXIT_CMDLINE, "service '%s' has no connect address", service->out.name);
		return;
	}
	check_connect(draft, service);
	check_ranges(draft, service);
	if (service->source.text != NULL && service->connect[0].good && service->connect[0].spec.is_unix)
		draft_error(draft, &service->source.where, EXIT_CMDLINE, "'%s': a unix target has no source address", service->source.text);
}

void
conf_check_services(struct conf_draft *draft)
{
	size_t i;

	for (i = 0; i < draft->n_services; i++)
		if (draft->services[i].written)
			check_service(draft, &draft->services[i]);
}

static bool
is_wildcard(const struct addr *addr)
{
	if (addr->u.sa.sa_family == AF_INET)
		return addr->u.in.sin_addr.s_addr == htonl(INADDR_ANY);
	return IN6_IS_ADDR_UNSPECIFIED(&addr->u.in6.sin6_addr);
}

static bool
same_host(const struct conf_endpoint *a, const struct conf_endpoint *b)
{
	struct addr host_a = a->addr, host_b = b->addr;

	if (a->any || b->any)
		return true;
	if (a->addr.u.sa.sa_family != b->addr.u.sa.sa_family)
		return false;
	addr_set_port(&host_a, 0);
	addr_set_port(&host_b, 0);
	return is_wildcard(&host_a) || is_wildcard(&host_b) || addr_equal(&host_a, &host_b);
}

/* Would the second bind(2) fail because of the first? */
static bool
overlaps(const struct conf_endpoint *a, const struct conf_endpoint *b)
{
	uint16_t a_first = addr_port(&a->addr), b_first = addr_port(&b->addr);

	if (a->addr.u.sa.sa_family == AF_UNIX || b->addr.u.sa.sa_family == AF_UNIX)
		return addr_equal(&a->addr, &b->addr);
	if (a->netns != b->netns || a_first == 0 || b_first == 0)
		return false;
	return a_first <= b->port_last && b_first <= a->port_last && same_host(a, b);
}

/* All listeners in one row, in the order in which they were written. */
struct listener {
	const struct conf_endpoint *endpoint;
	const struct conf_where *where;
};

static void
check_overlap(struct conf_draft *draft, const struct listener *all, size_t n)
{
	char place[512];
	size_t i;

	for (i = 0; i + 1 < n; i++) {
		if (!overlaps(all[i].endpoint, all[n - 1].endpoint))
			continue;
		draft_where_text(all[i].where, place, sizeof(place));
		place[strlen(place) > 2 ? strlen(place) - 2 : 0] = '\0';
		draft_error(draft, all[n - 1].where, EXIT_CMDLINE, "'%s' overlaps the listener '%s'%s%s", all[n - 1].endpoint->text,
		    all[i].endpoint->text, place[0] != '\0' ? " at " : "", place);
		return;
	}
}

static void
check_listeners(struct conf_draft *draft)
{
	struct listener *all = NULL;
	size_t i, j, n = 0;

	for (i = 0; i < draft->n_services; i++) {
		const struct draft_service *service = &draft->services[i];

		for (j = 0; j < service->out.n_listen; j++) {
			all = draft_grow(all, n, sizeof(*all));
			all[n++] = (struct listener){ &service->out.listen[j], &service->listen_where[j] };
			check_overlap(draft, all, n);
		}
	}
	if (draft->conf.metrics_at.addr.len != 0) {
		all = draft_grow(all, n, sizeof(*all));
		all[n++] = (struct listener){ &draft->conf.metrics_at, &draft->metrics.value.where };
		check_overlap(draft, all, n);
	}
	free(all);
}

static void
check_source(struct conf_draft *draft, const struct draft_service *service)
{
	const struct addr *source = &service->out.source, *to = &service->out.connect.addr;

	if (source->len != 0 && to->len != 0 && to->u.sa.sa_family != AF_UNIX && source->u.sa.sa_family != to->u.sa.sa_family)
		draft_error(draft, &service->source.where, EXIT_CMDLINE, "'%s': not of the same family as the target '%s'",
		    service->source.text, service->out.connect.text);
}

static void
check_worker_users(struct conf_draft *draft)
{
	const struct conf *conf = &draft->conf;
	unsigned long have, need, pools = 0;
	size_t i, j;

	if (conf->worker_uid_first > conf->worker_uid_last)
		return;
	for (i = 0; i < conf->n_netns; i++)
		for (j = 0; j < draft->n_services; j++)
			if (draft->services[j].out.connect.addr.len != 0 && draft->services[j].out.connect.netns == i) {
				pools++;
				break;
			}
	have = (unsigned long)conf->worker_uid_last - conf->worker_uid_first + 1;
	need = pools * conf->workers;
	if (have < need)
		draft_error(draft, &draft->worker_users_where, EXIT_CMDLINE, "%lu uids are not enough for %lu workers (%u in each of %lu namespaces)",
		    have, need, conf->workers, pools);
}

void
conf_check_resolved(struct conf_draft *draft)
{
	size_t i;

	check_listeners(draft);
	for (i = 0; i < draft->n_services; i++)
		check_source(draft, &draft->services[i]);
	check_worker_users(draft);
}
