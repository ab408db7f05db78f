/* SPDX-License-Identifier: ISC */
/*
 * A text of any length, made once and given to many readers.
 * Runs in: reporter
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "reporter_doc.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "reporter_text.h"

#define FIRST_ROOM 65536u
/* Longest piece of doc_printf(). */
#define PIECE_MAX 1024u

struct doc *
doc_new(void)
{
	struct doc *doc = calloc(1, sizeof(*doc));

	if (doc != NULL)
		doc->holders = 1;
	return doc;
}

struct doc *
doc_hold(struct doc *doc)
{
	doc->holders++;
	return doc;
}

void
doc_drop(struct doc *doc)
{
	if (doc == NULL || --doc->holders > 0)
		return;
	if (doc->text != NULL)
		(void)munmap(doc->text, doc->room);
	free(doc);
}

/* Room for n more bytes? */
static bool
make_room(struct doc *doc, size_t n)
{
	size_t room = doc->room > 0 ? doc->room : FIRST_ROOM;
	void *text;

	if (doc->room - doc->size >= n)
		return true;
	while (room - doc->size < n)
		room *= 2;
	text = mmap(NULL, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (text == MAP_FAILED) {
		doc->failed = true;
		return false;
	}
	if (doc->text != NULL) {
		memcpy(text, doc->text, doc->size);
		(void)munmap(doc->text, doc->room);
	}
	doc->text = text;
	doc->room = room;
	return true;
}

void
doc_bytes(struct doc *doc, const char *bytes, size_t n)
{
	if (!make_room(doc, n))
		return;
	memcpy(doc->text + doc->size, bytes, n);
	doc->size += n;
}

void
doc_str(struct doc *doc, const char *str)
{
	doc_bytes(doc, str, strlen(str));
}

void
doc_printf(struct doc *doc, const char *fmt, ...)
{
	char piece[PIECE_MAX];
	va_list args;
	int n;

	va_start(args, fmt);
	n = vsnprintf(piece, sizeof(piece), fmt, args);
	va_end(args);
	if (n > 0)
		doc_bytes(doc, piece, (size_t)n < sizeof(piece) ? (size_t)n : sizeof(piece) - 1);
}

void
doc_u64(struct doc *doc, uint64_t n)
{
	char digits[24];
	struct text text = { digits, digits + sizeof(digits) };

	text_u64(&text, n);
	doc_bytes(doc, digits, (size_t)(text.at - digits));
}

void
doc_decimal(struct doc *doc, uint64_t n, unsigned digits)
{
	uint64_t unit = 1, rest;

	for (unsigned i = 0; i < digits; i++)
		unit *= 10;
	doc_u64(doc, n / unit);
	doc_bytes(doc, ".", 1);
	rest = n % unit;
	do {
		unit /= 10;
		doc_bytes(doc, &"0123456789"[unit > 0 ? rest / unit % 10 : 0], 1);
		rest = unit > 0 ? rest % unit : 0;
	} while (rest > 0);
}

void
doc_label(struct doc *doc, const char *str, size_t size)
{
	for (size_t i = 0; i < size && str[i] != '\0'; i++) {
		if (str[i] == '\\' || str[i] == '"')
			doc_bytes(doc, "\\", 1);
		if (str[i] == '\n')
			doc_bytes(doc, "\\n", 2);
		else if ((unsigned char)str[i] < ' ' || str[i] == 0x7f)
			doc_bytes(doc, "?", 1);
		else
			doc_bytes(doc, &str[i], 1);
	}
}

static const char *
entity_of(char c)
{
	switch (c) {
	case '&':
		return "&amp;";
	case '<':
		return "&lt;";
	case '>':
		return "&gt;";
	case '"':
		return "&quot;";
	case '\'':
		return "&#39;";
	default:
		return NULL;
	}
}

void
doc_html(struct doc *doc, const char *str, size_t size)
{
	char shown[4 * PIECE_MAX];
	struct text text = { shown, shown + sizeof(shown) };

	text_log(&text, str, size < PIECE_MAX ? size : PIECE_MAX);
	for (const char *p = shown; p < text.at; p++) {
		const char *entity = entity_of(*p);

		if (entity != NULL)
			doc_str(doc, entity);
		else
			doc_bytes(doc, p, 1);
	}
}
