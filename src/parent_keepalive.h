/* SPDX-License-Identifier: ISC */
/*
 * Probes of `keepalive`: after so many seconds of silence, so many seconds apart, so many without an answer.
 * Runs in: parent
 */
#ifndef PARENT_KEEPALIVE_H
#define PARENT_KEEPALIVE_H

#ifdef NSPROXY_TEST_HOOKS
/* A test that runs every day cannot wait for eight minutes. */
#define KEEPALIVE_IDLE_S 2
#define KEEPALIVE_INTERVAL_S 1
#define KEEPALIVE_COUNT 2
#else
#define KEEPALIVE_IDLE_S 300
#define KEEPALIVE_INTERVAL_S 30
#define KEEPALIVE_COUNT 5
#endif

#endif
