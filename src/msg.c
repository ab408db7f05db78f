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
_Static_assert(sizeof(struct conn_record) == 112, "conn_record is part of the protocol");

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
