/* SPDX-License-Identifier: ISC */
/*
 * A text of any length, made once and given to many readers: what metrics and status page are written into.
 * Runs in: reporter
 *
 * Its memory is mapped, and grows by a new mapping: the filter has no call that would move one.
 */
#ifndef REPORTER_DOC_H
#define REPORTER_DOC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct doc {
	char *text;			/* not terminated; mapped */
	size_t size, room;
	bool failed;			/* memory ran out: what there is, is not all */
	unsigned holders;		/* freed when the last one lets go */
};

/* Empty, held by the caller. NULL with errno. */
struct doc *doc_new(void);
struct doc *doc_hold(struct doc *doc);
/* NULL is allowed. */
void doc_drop(struct doc *doc);

void doc_bytes(struct doc *doc, const char *bytes, size_t n);
void doc_str(struct doc *doc, const char *str);
void doc_printf(struct doc *doc, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void doc_u64(struct doc *doc, uint64_t n);
/* n / 10^digits without trailing zeroes, but with one digit behind the point at least: "0.25", "86400.0". */
void doc_decimal(struct doc *doc, uint64_t n, unsigned digits);
/* At most size bytes and up to a NUL. Inside of "..." of a label of Prometheus: backslash, quote and newline are escaped; no other control characters. */
void doc_label(struct doc *doc, const char *str, size_t size);
/* Likewise as text or attribute of HTML: & < > " ' are escaped, what is not printable ASCII or part of UTF-8 is shown as text_log() does. */
void doc_html(struct doc *doc, const char *str, size_t size);

#endif
