/* SPDX-License-Identifier: ISC */
/*
 * One worker: what it holds and the stages of its life.
 * Runs in: worker
 */
#ifndef WORKER_H
#define WORKER_H

#include <stdbool.h>
#include <stdint.h>

#include "chan.h"
#include "engine.h"
#include "loop.h"
#include "scoreboard.h"
#include "worker_conn.h"
#include "worker_report.h"
#include "worker_route.h"

enum worker_kind { KIND_CHANNEL, KIND_CLIENT, KIND_TARGET };

struct worker {
	struct msg_hello hello;
	struct chan parent;
	struct loop loop;
	struct scoreboard board;
	struct worker_routes routes;
	struct conn_table conns;
	struct report report;
	struct engine_host host;
	struct msg_ready ready;
	uint64_t ticked_at;		/* loop time of the last round of ticks */
	struct msg_ping pong;		/* the answer to the last question */
	bool owes_pong;			/* it is not sent yet */
	bool draining;			/* MSG_STOP came */
	struct loop_timer drain_timer;
	struct loop_timer *drains;	/* [hello.n_services]: when what is left of a service is cut; owned */
	struct loop_timer trim_timer;	/* armed while blocks may hold memory */
	uint16_t *ports;		/* of every target; kept, since after the filter giving back could need a call that it kills for */
};

/* Takes over the fixed descriptors and checks that nothing is held that must not be. Fatal on failure, as all stages are. */
void worker_init(struct worker *worker);
/* Reads the set-up messages, allocates everything, opens the engines. */
void worker_prepare(struct worker *worker);
/* Closes the sandbox. Nothing is opened or allocated from here on. */
void worker_confine(struct worker *worker);
/* Says MSG_READY and relays until drained (EXIT_OK) or until the channel ends. */
enum exit_code worker_run(struct worker *worker);

#endif
