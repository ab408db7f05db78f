/* SPDX-License-Identifier: ISC */
/*
 * Texts for people out of the rows of an answer: addresses with their namespaces, states, amounts, times, capabilities.
 * Runs in: ctl
 */
#ifndef CTL_TEXT_H
#define CTL_TEXT_H

#include <stddef.h>
#include <stdint.h>

#include "ctl_client.h"

/* Room for "NETNS@ADDRESS". */
#define CTL_ADDR_MAX (256 + ADDR_TEXT_MAX)

/* The four ends of a connection, from the client's side on. "" when it is not known. */
struct ctl_ends {
	char client[CTL_ADDR_MAX], listener[CTL_ADDR_MAX], local[CTL_ADDR_MAX], target[CTL_ADDR_MAX];
};
/* names: the connection's route; NULL: unknown. */
void ctl_text_ends(const struct conn_record *rec, const struct msg_names *names, struct ctl_ends *ends);
/* A route's two ends as configured, ranges included: "public@10.10.10.10:8000-8099". Return buf. */
const char *ctl_text_listener(const struct msg_names *names, char buf[CTL_ADDR_MAX]);
const char *ctl_text_target(const struct msg_names *names, char buf[CTL_ADDR_MAX]);

/* "serving", "draining", "drained", "missing", "paused", "removed". */
const char *ctl_text_service_state(const struct row_service *row);
/* "512", "1.2k", "34M" (steps of 1000) and "512 B", "1.2 KiB" (steps of 1024). Return buf. */
const char *ctl_text_count(uint64_t n, char buf[32]);
const char *ctl_text_bytes(double n, char buf[32]);
/* "350 ms", "12 s", "5 min 3 s", "2 h 10 min", "3 d 4 h". Returns buf. */
const char *ctl_text_span(uint64_t ns, char buf[32]);
/* RFC 3339 in UTC with milliseconds, as in the access log. Returns buf. */
const char *ctl_text_time(uint64_t ns, char buf[32]);
/* "CAP_SYS_ADMIN", "CAP_63" for one without a name. Returns buf. */
const char *ctl_text_capability(unsigned cap, char buf[32]);
/* "parent", "worker", "reporter". */
const char *ctl_text_role(unsigned role);
/* What is not printable becomes '?', in place: a name may contain what a terminal obeys. Returns text. */
char *ctl_text_tame(char *text);

#endif
