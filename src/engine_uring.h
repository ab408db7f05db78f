/* SPDX-License-Identifier: ISC */
/*
 * Small messages by completions, bulk by splice.
 * Runs in: worker
 */
#ifndef ENGINE_URING_H
#define ENGINE_URING_H

#include "engine.h"

extern const struct engine_ops engine_uring;

#endif
