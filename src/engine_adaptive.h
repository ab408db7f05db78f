/* SPDX-License-Identifier: ISC */
/*
 * Copy or splice, per direction, by what the traffic looks like.
 * Runs in: worker
 */
#ifndef ENGINE_ADAPTIVE_H
#define ENGINE_ADAPTIVE_H

#include "engine.h"

extern const struct engine_ops engine_adaptive;

#endif
