/* SPDX-License-Identifier: ISC */
/*
 * The parent's own confinement, once everything is acquired.
 * Runs in: parent
 */
#ifndef PARENT_CONFINE_H
#define PARENT_CONFINE_H

#include <stdbool.h>
#include <stdint.h>

#include "log.h"
#include "sandbox.h"

/*
 * Should: keep the capabilities that serving needs, none of them effective; no_new_privs; the filter of parent_syscalls.def.
 * Mustn't: open anything. `in_force`: what confine_filter() said in the image before, whose filter stays on over exec; each reload would add one to it
 * otherwise. 0: none. *result says what is in force then. EXIT_OK, or an exit code after a line.
 */
enum exit_code confine(bool one_id, uint64_t in_force, struct sandbox_result *result);
/* Stands for the filter's rules. */
uint64_t confine_filter(void);

#endif
