/* SPDX-License-Identifier: ISC */
/*
 * The parent's part in what nsproxyctl does: the control socket, what the reporter is told, what it may ask for, all put together.
 * Runs in: parent
 */
#ifndef PARENT_COMMAND_H
#define PARENT_COMMAND_H

#include "parent_parts.h"

/* Once the tables and the listeners are there: 0, or -1 after a line. What was drained in the image before is drained again. */
int command_acquire(struct parent *parent);
/* What the next image must know. */
void command_keep(const struct parent *parent, struct state *state);
void command_free(struct parent *parent);

#endif
