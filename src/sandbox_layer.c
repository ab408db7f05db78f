/* SPDX-License-Identifier: ISC */
/*
 * What the layers of a sandbox are called: for whoever shows them and enters none.
 * Runs in: any
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "sandbox_layer.h"

static const char *const layer_names[LAYERS] = {
	[LAYER_CAPS] = "no capabilities",
	[LAYER_NNP] = "no_new_privs",
	[LAYER_SECCOMP] = "seccomp",
	[LAYER_DUMPABLE] = "not dumpable",
	[LAYER_IDS] = "own uid",
	[LAYER_LANDLOCK_FS] = "landlock: no files",
	[LAYER_LANDLOCK_NET] = "landlock: target ports only",
	[LAYER_LANDLOCK_SCOPE] = "landlock: scopes",
	[LAYER_MDWE] = "mdwe",
	[LAYER_LIMITS] = "resource limits",
};

const char *
sandbox_layer_name(unsigned layer)
{
	return layer < LAYERS ? layer_names[layer] : "?";
}
