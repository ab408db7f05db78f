/* SPDX-License-Identifier: ISC */
/*
 * What the reporter may ask the parent to do.
 * Runs in: parent
 *
 * The reporter has looked at who asks; here it is believed to have done so, but nothing that it says is used unchecked, and it gets no more done in a
 * second than people would. A reporter that was taken over can therefore drain, end connections, reload, upgrade, set the level of the log: what its
 * log lines would tell, and no more.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "parent_request.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#include "log.h"

/* A script that ends connections one by one is fast; more than this is none. */
#define REQUESTS_PER_S 200u

/* Room for ", asked for by uid 4294967295 (process 4294967295)". */
#define WHO_MAX 64

static const char *
who(const struct msg_request *request, char buf[WHO_MAX])
{
	(void)snprintf(buf, WHO_MAX, "asked for by uid %u (process %u)", request->uid, request->pid);
	return buf;
}

__attribute__((format(printf, 4, 5))) static void
result(struct requests *requests, const struct msg_request *request, enum ctl_code code, const char *fmt, ...)
{
	char text[CTL_TEXT_MAX];
	va_list args;

	va_start(args, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	tell_result(requests->tell, request->number, code, text);
}

/* ---- drain, resume ---------------------------------------------------------------------------------------------------------------------- */

static uint64_t
drain_one(struct requests *requests, uint32_t service)
{
	listen_drain(requests->listeners, service, true);
	return orders_drain(requests->orders, service, requests->loop->now + requests->conf->drain_timeout_ms * NS_PER_MS);
}

/* One that there is, or all of them. */
static bool
names_service(const struct requests *requests, const struct msg_request *request)
{
	return request->service == CTL_ANY ||
	    (request->service < requests->orders->n_services && !requests->conf->services[request->service].removed);
}

static bool
is_meant(const struct requests *requests, const struct msg_request *request, uint32_t service)
{
	return !requests->conf->services[service].removed && (request->service == CTL_ANY || request->service == service);
}

static int
drain(struct requests *requests, const struct msg_request *request)
{
	uint64_t load = 0, ms = requests->conf->drain_timeout_ms;
	uint32_t n = 0, last = 0;
	char by[WHO_MAX];

	if (!names_service(requests, request)) {
		result(requests, request, CTL_REFUSED, "there is no such service (any more)");
		return 0;
	}
	for (uint32_t s = 0; s < requests->orders->n_services; s++) {
		if (!is_meant(requests, request, s) || requests->orders->drains[s].drained)
			continue;
		load += drain_one(requests, s);
		last = s;
		n++;
	}
	if (n == 0) {
		result(requests, request, CTL_DONE, "%s drained already", request->service != CTL_ANY ? "it was" : "all were");
		return 0;
	}
	log_notice("%s %s%s drained: new clients are reset; %llu connections have %llu.%03llu s to end; %s", n == 1 ? "service" : "all services",
	    n == 1 ? requests->conf->services[last].name : "are", n == 1 ? " is" : "", (unsigned long long)load, (unsigned long long)(ms / 1000),
	    (unsigned long long)(ms % 1000), who(request, by));
	result(requests, request, CTL_DONE, "%u service%s drained; %llu connection%s %llu.%03llu s to end", n, n == 1 ? " is" : "s are",
	    (unsigned long long)load, load == 1 ? " has" : "s have", (unsigned long long)(ms / 1000), (unsigned long long)(ms % 1000));
	return 0;
}

static int
resume(struct requests *requests, const struct msg_request *request)
{
	uint32_t n = 0;
	char by[WHO_MAX];

	if (!names_service(requests, request)) {
		result(requests, request, CTL_REFUSED, "there is no such service (any more)");
		return 0;
	}
	for (uint32_t s = 0; s < requests->orders->n_services; s++) {
		if (!is_meant(requests, request, s) || !requests->orders->drains[s].drained)
			continue;
		orders_resume(requests->orders, s);
		log_notice("service %s takes clients again; %llu were reset while it was drained; %s", requests->conf->services[s].name,
		    (unsigned long long)listen_drain(requests->listeners, s, false), who(request, by));
		n++;
	}
	if (n == 0)
		result(requests, request, CTL_DONE, "%s drained", request->service != CTL_ANY ? "it was not" : "none was");
	else
		result(requests, request, CTL_DONE, "%u service%s clients again", n, n == 1 ? " takes" : "s take");
	return 0;
}

/* ---- the others ------------------------------------------------------------------------------------------------------------------------- */

static int
end_connection(struct requests *requests, const struct msg_request *request)
{
	char by[WHO_MAX];

	if (orders_close(requests->orders, request->worker, request->slot, request->id) == 0) {
		log_notice("connection %llu is ended; %s", (unsigned long long)request->id, who(request, by));
		result(requests, request, CTL_DONE, "connection %llu is ended", (unsigned long long)request->id);
	} else if (errno == ESRCH) {
		result(requests, request, CTL_REFUSED, "there is no such connection (any more)");
	} else {
		result(requests, request, CTL_REFUSED, "worker %u takes no orders now; try again", request->worker);
	}
	return 0;
}

static int
set_level(struct requests *requests, const struct msg_request *request)
{
	char by[WHO_MAX];

	if (request->level < LOG_L_ERR || request->level > LOG_L_DEBUG)
		return -1;
	log_notice("the level of the log is %s now; %s", log_level_name((enum log_level)request->level), who(request, by));
	log_set_level((enum log_level)request->level);
	orders_level(requests->orders);
	result(requests, request, CTL_DONE, "the level of the log is %s until the next reload", log_level_name((enum log_level)request->level));
	return 0;
}

static int
reload(struct requests *requests, const struct msg_request *request)
{
	bool upgrade = request->verb == CTL_UPGRADE;
	char by[WHO_MAX];

	/* First: what cannot even begin is refused, and says so, before the call returns. */
	log_notice("%s; %s", upgrade ? "upgrade" : "reload", who(request, by));
	if (requests->reload == NULL || requests->reload(requests->owner, upgrade, request->number) == -1)
		result(requests, request, CTL_REFUSED, "not now: another reload is under way, or nsproxy stops");
	return 0;
}

static int (*const verbs[CTL_VERBS_COUNT])(struct requests *requests, const struct msg_request *request) = {
	[CTL_RELOAD] = reload,
	[CTL_UPGRADE] = reload,
	[CTL_DRAIN] = drain,
	[CTL_RESUME] = resume,
	[CTL_KILL] = end_connection,
	[CTL_LOG_LEVEL] = set_level,
};

/* Counts it; false: too many in this second. */
static bool
may_ask(struct requests *requests)
{
	uint64_t now = requests->loop->now;

	if (now - requests->second_begun >= NS_PER_S) {
		requests->second_begun = now;
		requests->count = 0;
	}
	return requests->count++ < REQUESTS_PER_S;
}

int
requests_on(struct requests *requests, const struct msg_request *request)
{
	if (request->verb >= CTL_VERBS_COUNT || verbs[request->verb] == NULL)
		return -1;
	if (!may_ask(requests)) {
		result(requests, request, CTL_REFUSED, "more than %u requests in a second; try again", REQUESTS_PER_S);
		return 0;
	}
	if (requests->workers->phase != WORKERS_SERVING && request->verb != CTL_KILL && request->verb != CTL_LOG_LEVEL) {
		result(requests, request, CTL_REFUSED, "not now: nsproxy starts or stops");
		return 0;
	}
	return verbs[request->verb](requests, request);
}
