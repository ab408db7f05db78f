/* SPDX-License-Identifier: ISC */
/*
 * The pump for bulk, for itself and for the engines that use it.
 * Runs in: worker
 */
#ifndef ENGINE_SPLICE_H
#define ENGINE_SPLICE_H

#include "engine.h"

extern const struct engine_ops engine_splice;

/* As engine_ops.pump; works by copy while no pipe is free. */
enum pump_result splice_pump(struct pair *pair, int d);
enum tick_result splice_tick(struct pair *pair, int d);
/* As engine_ops.unclog. */
void splice_unclog(struct pair *pair, int d);
bool splice_stop(struct pair *pair);
/* Takes the low-water mark of direction d's source back, if there is one. */
void splice_unmark(struct pair *pair, int d);

/* splice(2); also for engines that use this pump. */
extern const struct sandbox_rule splice_syscalls[];

#endif
