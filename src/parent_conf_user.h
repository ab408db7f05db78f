/* SPDX-License-Identifier: ISC */
/*
 * Users and groups of the configuration: names to ids.
 * Runs in: parent
 */
#ifndef PARENT_CONF_USER_H
#define PARENT_CONF_USER_H

#include "parent_conf_draft.h"

/* Fills in conf.uid, conf.gid, conf.one_id, and the owners of unix listeners. Says what does not exist (exit 1). */
void conf_user_resolve(struct conf_draft *draft);

#endif
