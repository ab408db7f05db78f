/* SPDX-License-Identifier: ISC */
/*
 * Endpoints as written to namespaces and addresses.
 * Runs in: parent
 */
#ifndef PARENT_CONF_PLACE_H
#define PARENT_CONF_PLACE_H

#include "parent_conf_draft.h"
#include "parent_netns.h"

/* The namespaces that were needed while reading the configuration. */
struct conf_places {
	struct netns *open;		/* [n], beside conf.netns */
	enum { PLACE_UNTRIED, PLACE_OPEN, PLACE_FAILED } *state;
	size_t n;
};

void places_init(struct conf_places *places);
void places_free(struct conf_places *places);
/*
 * Opens conf.netns[index] when it was not. NULL when it cannot be; that is said once, as an error (4), unless `wait` allows it to be missing.
 */
const struct netns *places_open(struct conf_places *places, struct conf_draft *draft, unsigned index, const struct conf_where *where, bool wait);

/* Fills in listen, connect and source of every service, as far as they are good, and where metrics are served. */
void conf_place_services(struct conf_draft *draft, struct conf_places *places);

#endif
