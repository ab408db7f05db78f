/* SPDX-License-Identifier: ISC */
/*
 * What `-t` tries on this machine: namespaces that can be entered, addresses that are there.
 * Runs in: parent
 */
#ifndef PARENT_CONF_TRY_H
#define PARENT_CONF_TRY_H

#include "parent_conf_draft.h"
#include "parent_conf_place.h"

/* Binds to port 0 at most, so that a running nsproxy is not in the way and is not disturbed. */
void conf_try(struct conf_draft *draft, struct conf_places *places);

#endif
