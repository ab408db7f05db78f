/* SPDX-License-Identifier: ISC */
/*
 * The control socket: who has connected, what they may, one question of each at a time. What changes something goes on to the parent.
 * Runs in: reporter
 */
#ifndef REPORTER_CONTROL_H
#define REPORTER_CONTROL_H

#include <stdbool.h>
#include <stdint.h>

#include "chan.h"
#include "loop.h"
#include "msg.h"
#include "reporter_show.h"

#define CONTROL_CLIENTS 32u		/* at the same time */
#define CONTROL_FOR_ROOT 8u		/* of them, that only root may have */

/* IDLE: may ask. ANSWERING: its answer is on the way. WAITING: the parent does what it asked for. */
enum control_state { CONTROL_FREE, CONTROL_IDLE, CONTROL_ANSWERING, CONTROL_WAITING };

struct control;

struct control_client {
	struct control *control;	/* whose table this is in */
	enum control_state state;
	struct chan chan;		/* owned unless FREE */
	uint32_t generation;		/* of loop references */
	uint32_t uid, pid;
	bool may_change;
	bool last;			/* goes when its answer is complete */
	bool full;			/* its channel took no more; since active_at */
	uint64_t active_at;		/* loop time when something last moved */
	uint64_t request;		/* WAITING: number of what the parent was asked for */
	struct show show;
};

/* Tells the parent; false: its channel takes nothing now. */
typedef bool control_ask_fn(void *owner, const struct msg_request *request);
/* The text of the metrics, held by the caller; NULL: no memory. */
typedef struct doc *control_metrics_fn(void *owner);

struct control {
	struct loop *loop;		/* not owned */
	uint8_t kind_listener, kind_client;	/* of loop references */
	struct show_source source;
	control_ask_fn *ask_parent;
	control_metrics_fn *metrics;
	void *owner;			/* first argument of both */
	int listen_fd;			/* owned; -1: none */
	bool deaf;			/* it is not polled for a while */
	struct msg_listen access;
	struct control_client *clients;	/* [CONTROL_CLIENTS]; owned */
	struct loop_timer timer;	/* looks for those that do not read */
	uint64_t requests;		/* number of the last one */
	uint64_t quiet_until;		/* loop time of the next line about clients that misbehave */
};

/* 0, or -1 with errno. Allocates; registers both kinds. The source must outlive it. */
int control_init(struct control *control, struct loop *loop, uint8_t kind_listener, uint8_t kind_client, const struct show_source *source,
    control_ask_fn *ask_parent, control_metrics_fn *metrics, void *owner);
/* Takes *fd, a listener, in place of the one before. 0, or -1 with errno. */
int control_listen(struct control *control, const struct msg_listen *access, int *fd);
/* What the parent says about a request. One that nobody waits for any more is dropped. */
void control_on_result(struct control *control, const struct msg_result *result);
/* Is an answer on its way? Then turns should follow each other without delay. */
bool control_busy(const struct control *control);
/* The end: whoever waits for a result that has come gets it. */
void control_finish(struct control *control);
void control_free(struct control *control);

#endif
