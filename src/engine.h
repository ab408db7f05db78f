/* SPDX-License-Identifier: ISC */
/*
 * The contract between the relay and what moves bytes. An engine moves bytes and nothing else: it never closes a relayed descriptor,
 * never shuts one down, never changes a connection's state.
 * Runs in: worker
 */
#ifndef ENGINE_H
#define ENGINE_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>

#include "msg.h"
#include "sandbox.h"

/* Direction d reads side d and writes side !d. */
enum { SIDE_CLIENT = 0, SIDE_TARGET = 1, SIDES = 2 };

enum pump_result {
	PUMP_BLOCKED_IN,		/* the source has nothing more now; nothing is pending */
	PUMP_BLOCKED_OUT,		/* the destination takes nothing more now; something is pending */
	PUMP_MORE,			/* the budget is spent, there may be more */
	PUMP_STARVED,			/* the kernel is out of memory: no event will tell, try again in a while */
	PUMP_EOF,			/* the source ended in order; nothing is pending */
	PUMP_ERROR_IN,			/* reading failed; errno */
	PUMP_ERROR_OUT			/* writing failed; errno */
};

#define NO_BLOCK UINT32_MAX
#define NO_PIPE UINT16_MAX

/* One direction. The engines' own few bytes stand here too: less code and less memory than a pool for each engine. */
struct pair_dir {
	uint64_t total;			/* bytes that the destination's kernel took */
	uint64_t moved_at;		/* splice: loop time of the last move */
	uint32_t pending;		/* bytes taken from the source and not yet given to the destination: in block or pipe, never both */
	uint32_t block, block_off;	/* copy: first block of the chain where pending bytes wait, and where in it; NO_BLOCK: none */
	uint16_t pipe;			/* splice: likewise; NO_PIPE: none */
	uint8_t full;			/* copy: reads in a row that filled the buffer */
	uint8_t large;			/* splice: moves in a row that were large */
	uint8_t small;			/* splice: moves in a row that were small */
	bool bulk;			/* adaptive: this direction is spliced now */
	bool marked;			/* splice: SO_RCVLOWAT is raised on the source */
	bool more;			/* the relay saw an end, an error or urgent data coming: a short read proves nothing. Engines clear it at EAGAIN. */
};

struct pair {
	int fd[SIDES];
	uint32_t slot;			/* index of the connection */
	bool is_tcp[SIDES];		/* not a unix socket: SO_RCVLOWAT is worth setting, and a short read means empty */
	struct pair_dir dir[SIDES];
};

/* An errno that says "not now" without an event to come when it is over. */
static inline bool
errno_is_starved(int error)
{
	return error == ENOBUFS || error == ENOMEM;
}

/* Calls that an engine may make back. The last five are for completion engines. */
struct engine_host {
	void *owner;
	const uint64_t *now;		/* loop time, ns, CLOCK_MONOTONIC */
	int epoll_fd;			/* the loop's, to be waited on together with the engine's own */
	/* A direction of this pair is marked: ask engine->tick() within half a millisecond and until it says TICK_DONE. */
	void (*want_tick)(void *owner, struct pair *pair);
	/* The pair of a slot, whatever its connection's state. */
	struct pair *(*pair)(void *owner, uint32_t slot);
	/* As if epoll had told these EPOLL* events of a side. Dropped when the connection is over. */
	void (*event)(void *owner, struct pair *pair, int side, uint32_t events);
	/* Direction d's destination took n bytes, outside of pump(). */
	void (*sent)(void *owner, struct pair *pair, int d, uint32_t n);
	/* A side failed with this errno: the connection ends. */
	void (*failed)(void *owner, struct pair *pair, int side, int error);
	/* Let epoll watch both sockets from now on. 0 or -1 with errno. */
	int (*watch)(void *owner, struct pair *pair);
};

enum tick_result {
	TICK_DONE,			/* this direction needs no tick any more */
	TICK_LATER,			/* ask again */
	TICK_PUMP			/* pump it now, whatever events said, then ask again */
};

struct engine_ops {
	enum engine_id id;
	/*
	 * Once in a worker that uses it, unprivileged, before the filter: everything it will ever need. 0, or -1 with errno when this kernel
	 * cannot do it, with nothing left behind: the adaptive engine takes its place. NULL: needs nothing.
	 */
	int (*open)(const struct engine_host *host, uint32_t max_conns);
	/* Replaces the loop's wait (loop.h), for engines that are told by completions. NULL: epoll tells. */
	int (*wait)(void *owner, struct epoll_event *events, int most, uint64_t ns);
	void (*dispatch)(void *owner);
	/* The pair has both sockets; `connecting`: tell the end of the handshake by host->event(SIDE_TARGET). NULL: epoll watches the pair. */
	void (*begin)(struct pair *pair, bool connecting);
	/* Direction d of the pair: move until blocked, ended or the budget is spent. An earlier error is never turned into PUMP_EOF. */
	enum pump_result (*pump)(struct pair *pair, int d);
	/* Only for pairs that wanted it; NULL: this engine never does. */
	enum tick_result (*tick)(struct pair *pair, int d);
	/* Direction d is blocked by its receiver for long: give back what others could use meanwhile. NULL: holds nothing of that kind. */
	void (*unclog)(struct pair *pair, int d);
	/* The connection ends: cancel what is in flight, give back blocks and pipes, whatever they hold. False: asked again until nothing is. */
	bool (*stop)(struct pair *pair);
	/* What its calls need beyond the worker's base list, ended by name == NULL; NULL: nothing. */
	const struct sandbox_rule *syscalls;
};

/* Everything that engines share (engine_pool.h) is made here, once, before the filter. 0 or -1 with errno. */
int engines_open(const struct engine_host *host, uint32_t max_conns, int first_pipe, uint32_t n_pipes);
/* Bytes of the smallest pipe; 0: there are none. */
uint32_t engines_pipe_size(void);
uint32_t engines_pipes_used(void);
/* Is there memory that engines_trim() would give back? */
bool engines_want_trim(void);
/* Once in a while: gives memory that a burst used back to the system. */
void engines_trim(void);
/* A fresh pair: nothing pending, nothing known. */
void pair_init(struct pair *pair, uint32_t slot);
/* The one visible table (engine_table.c); NULL for an id without an engine in this build. */
const struct engine_ops *engine_by_id(unsigned id);

#endif
