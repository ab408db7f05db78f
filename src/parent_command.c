/* SPDX-License-Identifier: ISC */
/*
 * The parent's part in what nsproxyctl does.
 * Runs in: parent
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "parent_command.h"

#include <stdio.h>
#include <string.h>

static int
begin_reload(void *owner, bool upgrade, uint64_t request)
{
	struct parent *parent = owner;

	return reload_begin(&parent->reload, upgrade, request);
}

/* Their deadlines are with the workers that were told; a worker that is new has none of their connections. */
static void
drain_again(struct parent *parent)
{
	const struct conf *conf = parent->conf;

	for (uint32_t i = 0; i < conf->n_services && i < parent->state->n_services; i++) {
		const struct state_service *was = &parent->state->services[i];

		if (!was->drained || conf->services[i].removed || strcmp(was->name, conf->services[i].name) != 0)
			continue;
		parent->orders.drains[i] = (struct order_drain){ .drained = true, .until = LOOP_NEVER };
		(void)listen_drain(&parent->listeners, i, true);
	}
}

int
command_acquire(struct parent *parent)
{
	parent->requests = (struct requests){ .conf = parent->conf, .loop = &parent->loop, .workers = &parent->workers,
		.listeners = &parent->listeners, .orders = &parent->orders, .tell = &parent->tell, .reload = begin_reload, .owner = parent };
	parent->reporter.tell = &parent->tell;
	parent->reporter.requests = &parent->requests;
	if (orders_init(&parent->orders, &parent->pools, (uint32_t)parent->conf->n_services, &parent->loop) == -1 ||
	    tell_init(&parent->tell, &parent->pools, &parent->listeners, &parent->orders) == -1 ||
	    control_open(&parent->control, parent->conf, parent->state) == -1)
		return -1;
	if (parent_is_replacement(parent))
		drain_again(parent);
	if (parent->control.bound.fd != -1)
		tell_listener(&parent->tell, &parent->control.msg, parent->control.bound.fd);
	return 0;
}

void
command_keep(const struct parent *parent, struct state *state)
{
	for (uint32_t i = 0; i < state->n_services && i < parent->orders.n_services; i++)
		state->services[i].drained = parent->orders.drains[i].drained;
	control_keep(&parent->control, state);
}

void
command_free(struct parent *parent)
{
	control_close(&parent->control);
	tell_free(&parent->tell);
	orders_free(&parent->orders);
}
