/* SPDX-License-Identifier: ISC */
/*
 * What workers are told beside clients while they serve: services that are drained, connections to end, the level of the log.
 * Runs in: parent
 */
#ifndef PARENT_ORDER_H
#define PARENT_ORDER_H

#include <stdbool.h>
#include <stdint.h>

#include "loop.h"
#include "parent_pool.h"

/* A service that takes no clients, and when what is left of it is cut. */
struct order_drain {
	bool drained;
	uint64_t until;			/* loop time; LOOP_NEVER: no deadline */
	uint32_t serial;		/* counts the changes; 0: it was never drained */
};

struct orders {
	struct pools *pools;
	struct loop *loop;
	uint32_t n_services;
	struct order_drain *drains;	/* [n_services]; owned, like all that follow */
	uint32_t *told;			/* [n_slots][n_services]: serials that the slot's process knows */
	uint32_t *told_level;		/* [n_slots]: likewise */
	uint32_t *generations;		/* [n_slots]: whose these are */
	uint32_t level_serial;
	struct loop_timer retry;	/* somebody's channel was full */
};

/* 0, or -1 after a line. One timer may be armed. */
int orders_init(struct orders *orders, struct pools *pools, uint32_t n_services, struct loop *loop);
/* Tells whoever does not know yet, and goes on by timer when a channel is full. To be called when workers came, too. */
void orders_sync(struct orders *orders);
/* The service is drained until resumed; what is left of it is cut then. Returns how many connections it has. */
uint64_t orders_drain(struct orders *orders, uint32_t service, uint64_t until);
void orders_resume(struct orders *orders, uint32_t service);
/* The level of this process has changed: workers follow. */
void orders_level(struct orders *orders);
/* 0; -1: there is no such worker, or (errno EAGAIN) its channel is full. */
int orders_close(struct orders *orders, uint32_t worker, uint32_t slot, uint64_t id);
void orders_free(struct orders *orders);

#endif
