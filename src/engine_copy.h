/* SPDX-License-Identifier: ISC */
/*
 * The plainest correct pump, for itself and for the engines that fall back to it.
 * Runs in: worker
 */
#ifndef ENGINE_COPY_H
#define ENGINE_COPY_H

#include "engine.h"

/* Reads in one call, so that one busy direction does not hold up the others: 512 KiB. */
#define COPY_ROUNDS 8

extern const struct engine_ops engine_copy;

/* As engine_ops.pump. Bytes that another pump left in the direction's block are written first; none may be in its pipe. */
enum pump_result copy_pump(struct pair *pair, int d);
/* Writes what waits in the block: PUMP_MORE when nothing is left, PUMP_BLOCKED_OUT, PUMP_ERROR_OUT. */
enum pump_result copy_flush(struct pair *pair, int d);
/* One read and its write: PUMP_MORE when a read brought bytes and all were written; else as copy_pump. Nothing may be pending. */
enum pump_result copy_once(struct pair *pair, int d);
bool copy_stop(struct pair *pair);

#endif
