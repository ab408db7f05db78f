/* SPDX-License-Identifier: ISC */
/*
 * The control socket, seen from nsproxyctl: connect, ask, gather the typed rows of the answer.
 * Runs in: ctl
 */
#ifndef CTL_CLIENT_H
#define CTL_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "chan.h"
#include "msg.h"

/* What nsproxyctl exits with. The first three are enum ctl_code. */
enum ctl_exit { CTL_EXIT_DONE = CTL_DONE, CTL_EXIT_FAILED = CTL_REFUSED, CTL_EXIT_USAGE = CTL_BAD, CTL_EXIT_NOT_RUNNING = 7 };

/* All that one or several answers brought, each kind in the order in which it came. The arrays are owned. Zeroed is "nothing". */
struct ctl_answer {
	struct row_status status;
	bool has_status;
	struct row_service *services;
	size_t n_services;
	struct msg_names *routes;	/* by number once the answer has ended */
	size_t n_routes;
	struct row_worker *workers;
	size_t n_workers;
	struct row_conn *conns;
	size_t n_conns;
	struct row_process *processes;
	size_t n_processes;
	char *text;			/* of metrics; not terminated */
	size_t text_size;
	struct msg_end end;
	bool ended;
};

struct ctl_client {
	struct chan chan;		/* fd -1: not connected */
	struct ctl_answer *answer;	/* being filled in */
	bool left;			/* whoever was asked last went away before the answer was complete */
	char text[CTL_TEXT_MAX + 256];	/* what the last call has to tell people; "" when there is nothing */
};

/*
 * Connects, within so many ms; 0: at once or not at all. CTL_EXIT_DONE, or another one with a sentence in text; then there is nothing to close.
 */
enum ctl_exit ctl_open(struct ctl_client *client, const char *path, int timeout_ms);
void ctl_close(struct ctl_client *client);
/*
 * Asks and waits for the end of the answer, at most so many ms between two messages of it. Rows are added to *answer. The exit code of the answer
 * with its text in client->text; after CTL_EXIT_NOT_RUNNING or a broken answer the connection is closed.
 */
enum ctl_exit ctl_ask(struct ctl_client *client, const struct msg_ask *ask, struct ctl_answer *answer, int timeout_ms);
/*
 * The same for what only reads: a reload has another reporter take the place of the one that was asked, so whoever is there then is asked again. What
 * the first one said is forgotten.
 */
enum ctl_exit ctl_ask_whoever(struct ctl_client *client, const char *path, const struct msg_ask *ask, struct ctl_answer *answer, int timeout_ms);
/* An ask for everything of the verb. */
struct msg_ask ctl_ask_all(enum ctl_verb verb);
/* The route of that number; NULL: the answer did not bring it. */
const struct msg_names *ctl_route(const struct ctl_answer *answer, uint32_t number);
/* Forgets all rows and frees them. */
void ctl_answer_free(struct ctl_answer *answer);

#endif
