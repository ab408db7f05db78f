/* SPDX-License-Identifier: ISC */
/*
 * What the reporter may ask the parent to do for somebody who is permitted to: a few verbs with numbers, checked and counted.
 * Runs in: parent
 */
#ifndef PARENT_REQUEST_H
#define PARENT_REQUEST_H

#include <stdbool.h>
#include <stdint.h>

#include "msg.h"
#include "parent_listen.h"
#include "parent_order.h"
#include "parent_tell.h"
#include "parent_worker.h"

/* Begins a reload or an upgrade, whose result comes by tell_result(). -1: not now. */
typedef int request_reload_fn(void *owner, bool upgrade, uint64_t request);

struct requests {
	const struct conf *conf;	/* none of these is owned */
	struct loop *loop;
	struct workers *workers;
	struct listen_set *listeners;
	struct orders *orders;
	struct tell *tell;
	request_reload_fn *reload;	/* NULL: it cannot be done */
	void *owner;			/* first argument of it */
	uint64_t second_begun;		/* loop time; requests are counted from then on */
	uint32_t count;
};

/* Does what was asked for, or refuses; the result is with tell_result(). 0, or -1: this is none that a reporter asks for. */
int requests_on(struct requests *requests, const struct msg_request *request);

#endif
