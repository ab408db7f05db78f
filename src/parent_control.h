/* SPDX-License-Identifier: ISC */
/*
 * The control socket's listener: made at start, served by the reporter, removed at the end.
 * Runs in: parent
 */
#ifndef PARENT_CONTROL_H
#define PARENT_CONTROL_H

#include "msg.h"
#include "parent_bind.h"
#include "parent_conf.h"
#include "parent_state.h"

struct control {
	struct bound bound;		/* fd -1: there is none. Owned */
	struct msg_listen msg;		/* who may do what */
};

/* Before anything else: what control_close() may be called for. */
void control_init(struct control *control);
/*
 * Makes the socket that the configuration names, and the directory of the default one. 0, also when none is wanted. A default path that cannot be
 * had is said and done without; one that was asked for is an error: -1 after a line. state: what the image before had is used again when it still is
 * as configured; NULL: there was none.
 */
int control_open(struct control *control, const struct conf *conf, struct state *state);
/* For the next image. */
void control_keep(const struct control *control, struct state *state);
/* Removes the path if it is still ours. */
void control_close(struct control *control);

#endif
