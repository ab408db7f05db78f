/* SPDX-License-Identifier: ISC */
/*
 * One wait for descriptors and timers. Knows no caller: events carry {kind, index, generation}, never a pointer,
 * so an event that outlived its object is dropped by whoever owns the table behind `index`.
 * Runs in: any
 */
#ifndef LOOP_H
#define LOOP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>

#define LOOP_KINDS 16
#define LOOP_NEVER UINT64_MAX

/* Twenty-four bits of generation, so that a reference fits epoll's 64 bits beside kind and index. */
#define LOOP_GENERATION_MASK 0xffffffu

struct loop_ref {
	uint32_t index;
	uint32_t generation;		/* low 24 bits count */
	uint8_t kind;			/* < LOOP_KINDS */
};

typedef void loop_event_fn(void *owner, struct loop_ref ref, uint32_t events);
typedef void loop_timer_fn(void *owner, void *arg);

/* Embedded in what it times. Zeroed is "not armed". */
struct loop_timer {
	uint64_t due;			/* ns, CLOCK_MONOTONIC */
	uint32_t pos;			/* place in the heap plus one; 0: not armed */
	loop_timer_fn *fn;
	void *arg;
};

/*
 * A replacement for the wait: as epoll_wait(2), for the loop's epoll_fd, but for at most ns (LOOP_NEVER: no bound). It may wait for other
 * things too, which `dispatch` handles once loop->now is right again.
 */
typedef int loop_wait_fn(void *owner, struct epoll_event *events, int most, uint64_t ns);
typedef void loop_dispatch_fn(void *owner);

struct loop {
	int epoll_fd;
	uint64_t now;			/* ns, CLOCK_MONOTONIC, read once after each wait */
	struct {
		loop_event_fn *fn;
		void *owner;
	} kinds[LOOP_KINDS];
	struct loop_timer **heap;	/* allocated once; owned */
	uint32_t heap_used, heap_room;
	void *timer_owner;
	loop_wait_fn *wait;		/* NULL: epoll alone */
	loop_dispatch_fn *dispatch;
	void *wait_owner;
};

/* Room for `timers` armed at the same time. 0 or -1 with errno. */
int loop_init(struct loop *loop, uint32_t timers, void *timer_owner);
void loop_free(struct loop *loop);
void loop_set_wait(struct loop *loop, loop_wait_fn *wait, loop_dispatch_fn *dispatch, void *owner);
void loop_on(struct loop *loop, uint8_t kind, loop_event_fn *fn, void *owner);
/* events: EPOLL*. 0 or -1 with errno. Closing the last copy of a descriptor also removes it. */
int loop_add(struct loop *loop, int fd, uint32_t events, struct loop_ref ref);
int loop_modify(struct loop *loop, int fd, uint32_t events, struct loop_ref ref);
int loop_remove(struct loop *loop, int fd);

/* (Re)arms. due is absolute ns; LOOP_NEVER disarms. Never fails: the room was counted at loop_init() (asserted). */
void loop_timer_set(struct loop *loop, struct loop_timer *timer, uint64_t due);
void loop_timer_clear(struct loop *loop, struct loop_timer *timer);

/*
 * One turn: wait for events until the next timer is due, but never longer than `most` ns (LOOP_NEVER: no bound), dispatch them,
 * fire the timers that are due. A caller that has work of its own waiting gives 0. EINTR is an empty turn. 0 or -1 with errno.
 */
int loop_turn(struct loop *loop, uint64_t most);
uint64_t loop_clock(void);		/* CLOCK_MONOTONIC in ns */
uint64_t loop_realtime(void);		/* CLOCK_REALTIME in ns */

#define NS_PER_US 1000ull
#define NS_PER_MS 1000000ull
#define NS_PER_S 1000000000ull

#endif
