/* SPDX-License-Identifier: ISC */
/*
 * The parent's part in a reload: what it hands over, and how it goes on with what it was handed.
 * Runs in: parent
 */
#ifndef PARENT_RENEW_H
#define PARENT_RENEW_H

#include "parent_parts.h"

/* What reloads may need has to be kept from the start: asks for those capabilities. */
void renew_want_capabilities(const struct conf *conf);
/* Makes parent->reload ready for reload_begin(). */
void renew_init(struct parent *parent, char *const argv[]);
/*
 * A new image, in place of waiting until all children are ready: it serves at once with the workers that it took over. Nothing here is fatal: what does
 * not start now is started again later.
 */
void renew_take_over(struct parent *parent);
/* It polls its listeners from now on; once all its workers are ready, the reload is said to be done. */
void renew_settle(struct parent *parent);
/* At the end of a turn: are they? */
void renew_check(struct parent *parent);
/* To the service manager: what a start that went well says. */
void renew_tell_ready(struct parent *parent);
/* "ready, 2 services, 4 workers". Returns buf. */
const char *renew_status(const struct parent *parent, char buf[128]);

#endif
