/* SPDX-License-Identifier: ISC */
/*
 * The parent's capabilities: which it keeps, and raising one around one use (libcap-ng).
 * Runs in: parent
 */
#ifndef PARENT_CAPS_H
#define PARENT_CAPS_H

#include <stdbool.h>
#include <stdint.h>

/* Before anything is acquired: are all capabilities there that serving needs? One line for each that is not. */
bool caps_check(bool one_id);
/* Serving will want this one of the optional ones (parent_caps.c). Call it before caps_confine(). */
void caps_want(int cap);
/* Lowers the effective set to nothing, cuts permitted and bounding to what serving needs. Fatal (exit 4) when that fails. */
void caps_confine(bool one_id);
/* Before caps_confine() the effective set is what we were started with and these do nothing that matters. */
/* Raises CAP in the effective set; false with errno when it is not permitted. Nests not at all. */
bool caps_raise(int cap);
/* Lowers it again; errno is kept. Fatal when it fails. */
void caps_lower(int cap);
/*
 * Before this process, or a child of it, executes nsproxy itself: what is permitted survives that, also without uid 0. No log; 0 or -1 with errno.
 * caps_take_back() after an exec that failed.
 */
int caps_pass_on(void);
void caps_take_back(void);
/* For people: a line for each capability that serving keeps permitted, and for what. */
void caps_print(bool one_id);
/* The three sets of this process, bit per capability. */
void caps_read(uint64_t *permitted, uint64_t *effective, uint64_t *bounding);
/* In a child between fork and exec: identity, all five sets empty, no_new_privs. No log; 0 or -1 with errno and *step naming what failed. */
int caps_drop_for_good(unsigned uid, unsigned gid, bool one_id, const char **step);
/* Are we in a user namespace that maps a single id? */
bool caps_one_id(void);

#endif
