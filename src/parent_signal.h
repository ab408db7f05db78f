/* SPDX-License-Identifier: ISC */
/*
 * What signals do, and how the daemon comes to its end.
 * Runs in: parent
 */
#ifndef PARENT_SIGNAL_H
#define PARENT_SIGNAL_H

#include "parent_parts.h"

/* From here on signals only come through the loop. 0 or -1 with errno. */
int signals_init(struct parent *parent);
/* Children that have ended, whether or not a signal told it. */
void signals_reap(struct parent *parent);

#endif
