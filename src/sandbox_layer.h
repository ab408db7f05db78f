/* SPDX-License-Identifier: ISC */
/*
 * The layers of a sandbox, as bits of a mask and by name.
 * Runs in: any
 */
#ifndef SANDBOX_LAYER_H
#define SANDBOX_LAYER_H

enum sandbox_layer { LAYER_CAPS, LAYER_NNP, LAYER_SECCOMP, LAYER_DUMPABLE, LAYER_IDS, LAYER_LANDLOCK_FS, LAYER_LANDLOCK_NET,
	LAYER_LANDLOCK_SCOPE, LAYER_MDWE, LAYER_LIMITS, LAYERS };

/* "landlock: no files"; "?" for what is none. */
const char *sandbox_layer_name(unsigned layer);

#endif
