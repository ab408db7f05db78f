/* SPDX-License-Identifier: ISC */
/*
 * The privileged parent: its stages from configuration to the end.
 * Runs in: parent
 */
#ifndef PARENT_H
#define PARENT_H

#include "log.h"
#include "parent_conf.h"
#include "parent_state.h"

/*
 * Everything after the configuration: acquire, confine, spawn, serve, stop. Returns the exit code of the program. conf, argv and the state that this
 * image was executed with (NULL: it was started by somebody) stay the caller's and must outlive the call.
 */
enum exit_code parent_run(const struct conf *conf, struct state *state, char *const argv[]);

#endif
