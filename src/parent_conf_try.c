/* SPDX-License-Identifier: ISC */
/*
 * What `-t` tries on this machine: namespaces that can be entered, addresses that are there.
 * Runs in: parent
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "parent_conf_try.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fdutil.h"
#include "parent_presence.h"

struct attempt {
	struct addr addr;		/* port 0; len 0: only enter the namespace */
	bool entered;
};

static int
bind_there(void *arg)
{
	struct attempt *attempt = arg;
	FD_AUTO int fd = -1;

	attempt->entered = true;
	if (attempt->addr.len == 0)
		return 0;
	fd = socket(attempt->addr.u.sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd == -1 || bind(fd, &attempt->addr.u.sa, attempt->addr.len) == -1)
		return -1;
	return presence_check(fd, &attempt->addr);
}

/* addr NULL: the namespace alone. */
static void
try_address(struct conf_draft *draft, struct conf_places *places, const struct conf_where *where, unsigned netns, const char *text,
    const struct addr *addr, bool wait)
{
	const struct netns *home = places_open(places, draft, 0, where, false), *ns;
	const char *name = draft->conf.netns[netns].name;
	struct attempt attempt = { .entered = false };

	ns = places_open(places, draft, netns, where, wait);
	/* Opening the second may have moved the first. */
	home = home != NULL ? &places->open[0] : NULL;
	if (home == NULL || ns == NULL)
		return;
	if (addr != NULL)
		attempt.addr = *addr;
	addr_set_port(&attempt.addr, 0);
	if (netns_run(ns, home, bind_there, &attempt) == 0)
		return;
	if (!attempt.entered)
		draft_error(draft, where, EXIT_NAMESPACE, "cannot enter network namespace '%s': %s; this needs root, or CAP_SYS_ADMIN", name,
		    strerror(errno));
	else
		draft_error(draft, where, EXIT_MACHINE, "cannot use '%s': %s%s%s%s", text, strerror(errno),
		    errno != EADDRNOTAVAIL ? "" : name[0] != '\0' ? "; add the address in namespace '" : "; add the address to an interface",
		    errno == EADDRNOTAVAIL ? name : "", errno == EADDRNOTAVAIL && name[0] != '\0' ? "'" : "");
}

/* A socket file needs its directory. */
static void
try_directory(struct conf_draft *draft, const struct conf_where *where, const char *text, const struct addr *addr)
{
	char dir[sizeof(addr->u.un.sun_path) + 1];
	char *slash;
	struct stat st;

	snprintf(dir, sizeof(dir), "%s", addr->u.un.sun_path);
	slash = strrchr(dir, '/');
	if (addr->u.un.sun_path[0] == '\0' || slash == NULL || slash == dir)
		return;
	*slash = '\0';
	if (stat(dir, &st) == -1)
		draft_error(draft, where, EXIT_MACHINE, "cannot use '%s': %s: %s", text, dir, strerror(errno));
	else if (!S_ISDIR(st.st_mode))
		draft_error(draft, where, EXIT_MACHINE, "cannot use '%s': %s: %s", text, dir, strerror(ENOTDIR));
}

static void
try_listeners(struct conf_draft *draft, struct conf_places *places, const struct draft_service *service)
{
	size_t i;

	for (i = 0; i < service->out.n_listen; i++) {
		const struct conf_endpoint *endpoint = &service->out.listen[i];

		if (endpoint->addr.u.sa.sa_family == AF_UNIX)
			try_directory(draft, &service->listen_where[i], endpoint->text, &endpoint->addr);
		else
			try_address(draft, places, &service->listen_where[i], endpoint->netns, endpoint->text,
			    endpoint->any ? NULL : &endpoint->addr, service->out.wait_for_netns);
	}
}

static void
try_target(struct conf_draft *draft, struct conf_places *places, const struct draft_service *service)
{
	const struct conf_endpoint *to = &service->out.connect;

	if (to->addr.len == 0)
		return;
	if (service->out.source.len != 0)
		try_address(draft, places, &service->source.where, to->netns, service->source.text, &service->out.source,
		    service->out.wait_for_netns);
	else
		try_address(draft, places, &service->connect[0].value.where, to->netns, to->text, NULL, service->out.wait_for_netns);
}

static void
try_metrics(struct conf_draft *draft, struct conf_places *places)
{
	const struct conf_endpoint *at = &draft->conf.metrics_at;
	const struct conf_where *where = &draft->metrics.value.where;

	if (at->addr.len == 0)
		return;
	if (at->addr.u.sa.sa_family == AF_UNIX)
		try_directory(draft, where, at->text, &at->addr);
	else
		try_address(draft, places, where, at->netns, at->text, at->any ? NULL : &at->addr, draft->conf.metrics_waits);
}

void
conf_try(struct conf_draft *draft, struct conf_places *places)
{
	size_t i;

	for (i = 0; i < draft->n_services; i++) {
		try_listeners(draft, places, &draft->services[i]);
		try_target(draft, places, &draft->services[i]);
	}
	try_metrics(draft, places);
}
