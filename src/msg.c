/* SPDX-License-Identifier: ISC */
/*
 * The table of msg.def, and names for the numbers in its payloads.
 * Runs in: any
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "msg.h"

#include <stddef.h>
#include <string.h>

#define P MSG_P
#define W MSG_W
#define R MSG_R
#define C MSG_C
#define START MSG_START
#define SERVING MSG_SERVING
#define DRAINING MSG_DRAINING

/* Every row must fit the buffers of chan.c, and nothing that comes towards the parent may carry a descriptor. */
#define MSG(name, from, to, item, most, fds, item_fds, phases)                                                        \
	_Static_assert(sizeof(struct msg_head) + sizeof(item) * (most) <= MSG_MAX_SIZE, #name " is too large");        \
	_Static_assert((fds) + (item_fds) * (most) <= MSG_MAX_FDS, #name " carries too many descriptors");             \
	_Static_assert(!((to) & MSG_P) || ((fds) == 0 && (item_fds) == 0), #name " carries descriptors to the parent"); \
	_Static_assert(sizeof(item) % 8 == 0, #name " has an item that is not aligned");
#include "msg.def"
#undef MSG

_Static_assert(sizeof(struct msg_head) == 8, "msg_head is part of the protocol");
_Static_assert(sizeof(struct msg_conn) == 40, "msg_conn is part of the protocol");
_Static_assert(sizeof(struct conn_record) == 120, "conn_record is part of the protocol");

_Static_assert(CONN_ENDS_COUNT <= 16, "row_service has room for sixteen ends");

static const struct msg_row rows[MSG_TYPES] = {
#define MSG(name, from, to, item, most, fds, item_fds, phases) \
	[MSG_##name] = { #name, (from), (to), sizeof(item), (most), (fds), (item_fds), (phases) },
#include "msg.def"
#undef MSG
};

static const char *const engine_names[ENGINES] = {
	[ENGINE_ADAPTIVE] = "adaptive",
	[ENGINE_COPY] = "copy",
	[ENGINE_SPLICE] = "splice",
	[ENGINE_IO_URING] = "io_uring",
	[ENGINE_SOCKMAP] = "sockmap",
};

static const char *const end_names[CONN_ENDS_COUNT] = {
#define X(name, text) [END_##name] = text,
	CONN_ENDS(X)
#undef X
};

static const char *const record_state_names[RECORD_STATES_COUNT] = {
#define X(name, text) [RECORD_##name] = text,
	RECORD_STATES(X)
#undef X
};

static const char *const worker_show_names[WORKER_STATES_COUNT] = {
#define X(name, text) [SHOW_##name] = text,
	WORKER_STATES(X)
#undef X
};

static const struct {
	const char *name;
	bool changes;
} verbs[CTL_VERBS_COUNT] = {
#define X(name, text, changes) [CTL_##name] = { text, changes },
	CTL_VERBS(X)
#undef X
};

const struct msg_row *
msg_row(unsigned type)
{
	return type < MSG_TYPES ? &rows[type] : NULL;
}

const char *
msg_name(unsigned type)
{
	return type < MSG_TYPES ? rows[type].name : "?";
}

const char *
engine_name(unsigned engine)
{
	return engine < ENGINES ? engine_names[engine] : "?";
}

int
engine_by_name(const char *name)
{
	for (int i = 0; i < ENGINES; i++) {
		if (strcmp(name, engine_names[i]) == 0)
			return i;
	}
	return -1;
}

const char *
conn_end_name(unsigned end)
{
	return end < CONN_ENDS_COUNT ? end_names[end] : end_names[END_ERROR];
}

enum record_state
record_state(const struct conn_record *rec)
{
	if (rec->end != END_NONE)
		return RECORD_ENDED;
	if (rec->connected == 0)
		return RECORD_CONNECTING;
	return rec->flags & (RECORD_SHUT_UP | RECORD_SHUT_DOWN) ? RECORD_HALF_CLOSED : RECORD_OPEN;
}

const char *
record_state_name(unsigned state)
{
	return state < RECORD_STATES_COUNT ? record_state_names[state] : "?";
}

int
record_state_by_name(const char *name)
{
	for (int i = 0; i < RECORD_STATES_COUNT; i++) {
		if (strcmp(name, record_state_names[i]) == 0)
			return i;
	}
	return -1;
}

const char *
worker_show_name(unsigned state)
{
	return state < WORKER_STATES_COUNT ? worker_show_names[state] : "?";
}

const char *
ctl_verb_name(unsigned verb)
{
	return verb < CTL_VERBS_COUNT ? verbs[verb].name : "?";
}

bool
ctl_verb_changes(unsigned verb)
{
	return verb < CTL_VERBS_COUNT && verbs[verb].changes;
}
