/* SPDX-License-Identifier: ISC */
/*
 * Small appenders to a line of bounded room: what does not fit is cut, never written past the end. Made for a hundred thousand lines a second.
 * Runs in: reporter
 */
#ifndef REPORTER_TEXT_H
#define REPORTER_TEXT_H

#include <stddef.h>
#include <stdint.h>

#include "addr.h"

struct text {
	char *at;			/* next byte */
	char *end;			/* one past the last byte that may be written */
};

/* The part of a time that stays the same for a second. Zeroed is valid. */
struct text_clock {
	uint64_t second;		/* since 1970, of `head` */
	char head[20];			/* "2026-01-31T23:59:59."; not terminated; head[0] == 0: empty */
};

void text_bytes(struct text *text, const void *bytes, size_t n);
void text_str(struct text *text, const char *str);
void text_u64(struct text *text, uint64_t n);
/* ns as milliseconds with three decimals: "12.345". */
void text_ms(struct text *text, uint64_t ns);
/* ns since 1970 as RFC 3339 in UTC with milliseconds: "2026-01-31T23:59:59.123Z". By hand: gmtime(3) wants /etc/localtime. */
void text_time(struct text *text, struct text_clock *clock, uint64_t ns);
/* As addr_format_wire(). */
void text_addr(struct text *text, const struct wire_addr *addr);

/* All three take at most size bytes and stop at a NUL. Bytes that are neither printable nor part of well-formed UTF-8 never come out as they are. */
/* For a line of log: "\x1b" for them. */
void text_log(struct text *text, const char *str, size_t size);
/* For the inside of "..." in key="value": also \" and \\. */
void text_quoted(struct text *text, const char *str, size_t size);
/* For the inside of a JSON string (RFC 8259, section 7); what is not UTF-8 becomes U+FFFD. */
void text_json(struct text *text, const char *str, size_t size);

#endif
