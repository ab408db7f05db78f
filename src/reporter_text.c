/* SPDX-License-Identifier: ISC */
/*
 * Small appenders to a line of bounded room.
 * Runs in: reporter
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "reporter_text.h"

#include <string.h>

#include "loop.h"

static const char hex[] = "0123456789abcdef";

void
text_bytes(struct text *text, const void *bytes, size_t n)
{
	size_t room = (size_t)(text->end - text->at);

	if (n > room)
		n = room;
	memcpy(text->at, bytes, n);
	text->at += n;
}

void
text_str(struct text *text, const char *str)
{
	text_bytes(text, str, strlen(str));
}

void
text_u64(struct text *text, uint64_t n)
{
	char digits[20], *end = digits + sizeof(digits), *at = end;

	do {
		*--at = (char)('0' + n % 10);
		n /= 10;
	} while (n > 0);
	text_bytes(text, at, (size_t)(end - at));
}

/* n in exactly `width` digits; higher ones are cut. */
static void
put_digits(char *to, unsigned n, int width)
{
	while (width-- > 0) {
		to[width] = (char)('0' + n % 10);
		n /= 10;
	}
}

void
text_ms(struct text *text, uint64_t ns)
{
	uint64_t us = ns / 1000;
	char rest[4] = ".";

	text_u64(text, us / 1000);
	put_digits(rest + 1, (unsigned)(us % 1000), 3);
	text_bytes(text, rest, sizeof(rest));
}

/* Day of the proleptic Gregorian calendar: years begin in March here, so that the leap day is a year's last (Hinnant, "days_from_civil"). */
static void
civil(uint64_t days, unsigned *year, unsigned *month, unsigned *day)
{
	uint64_t z = days + 719468;	/* days from 0000-03-01 to 1970-01-01 */
	unsigned era = (unsigned)(z / 146097), doe = (unsigned)(z % 146097);
	unsigned yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
	unsigned doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
	unsigned m = (5 * doy + 2) / 153;

	*day = doy - (153 * m + 2) / 5 + 1;
	*month = m < 10 ? m + 3 : m - 9;
	*year = yoe + era * 400 + (*month <= 2);
}

static void
set_clock(struct text_clock *clock, uint64_t second)
{
	unsigned year, month, day, of_day = (unsigned)(second % 86400);

	civil(second / 86400, &year, &month, &day);
	memcpy(clock->head, "0000-00-00T00:00:00.", sizeof(clock->head));
	put_digits(clock->head, year, 4);
	put_digits(clock->head + 5, month, 2);
	put_digits(clock->head + 8, day, 2);
	put_digits(clock->head + 11, of_day / 3600, 2);
	put_digits(clock->head + 14, of_day / 60 % 60, 2);
	put_digits(clock->head + 17, of_day % 60, 2);
	clock->second = second;
}

void
text_time(struct text *text, struct text_clock *clock, uint64_t ns)
{
	uint64_t second = ns / NS_PER_S;
	char rest[4] = "000Z";

	if (second != clock->second || clock->head[0] == 0)
		set_clock(clock, second);
	text_bytes(text, clock->head, sizeof(clock->head));
	put_digits(rest, (unsigned)(ns % NS_PER_S / NS_PER_MS), 3);
	text_bytes(text, rest, sizeof(rest));
}

static char *
put_octet(char *to, unsigned n)
{
	if (n >= 100)
		*to++ = (char)('0' + n / 100);
	if (n >= 10)
		*to++ = (char)('0' + n / 10 % 10);
	*to++ = (char)('0' + n % 10);
	return to;
}

/* IPv4 by hand, because nearly every line has two. */
static void
text_v4(struct text *text, const uint8_t bytes[4], uint16_t port)
{
	char buf[24], *at = buf;

	for (int i = 0; i < 4; i++) {
		at = put_octet(at, bytes[i]);
		*at++ = i < 3 ? '.' : ':';
	}
	text_bytes(text, buf, (size_t)(at - buf));
	text_u64(text, port);
}

void
text_addr(struct text *text, const struct wire_addr *addr)
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };
	char buf[ADDR_TEXT_MAX];

	if (addr->family == AF_INET)
		text_v4(text, addr->bytes, addr->port);
	else if (addr->family == AF_INET6 && memcmp(addr->bytes, mapped, sizeof(mapped)) == 0)
		text_v4(text, addr->bytes + 12, addr->port);
	else
		text_str(text, addr_format_wire(addr, buf));
}

/*
 * Length of the well-formed UTF-8 sequence of more than one byte at s (RFC 3629: no overlong forms, no surrogates, nothing above U+10FFFF);
 * 0: none. The C1 control characters (U+0080-U+009F), which terminals obey, count as none.
 */
static size_t
utf8_length(const unsigned char *s, size_t left)
{
	unsigned first = s[0], low = 0x80, high = 0xbf;
	size_t n = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;

	if (first < 0xc2 || first > 0xf4 || n > left)
		return 0;
	if (first == 0xc2 || first == 0xe0)
		low = 0xa0;
	else if (first == 0xf0)
		low = 0x90;
	else if (first == 0xed)
		high = 0x9f;
	else if (first == 0xf4)
		high = 0x8f;
	if (s[1] < low || s[1] > high)
		return 0;
	for (size_t i = 2; i < n; i++) {
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	}
	return n;
}

enum style { STYLE_LOG, STYLE_QUOTED, STYLE_JSON };

/* One byte that may not come out as it is. */
static void
escape(struct text *text, unsigned char c, enum style style)
{
	char out[4] = { '\\', 'x', hex[c >> 4], hex[c & 15] };

	if (c == '"' || c == '\\') {
		out[1] = (char)c;
		text_bytes(text, out, 2);
	} else if (style != STYLE_JSON) {
		text_bytes(text, out, 4);
	} else if (c >= 0x80) {
		text_bytes(text, "\\ufffd", 6);
	} else {
		text_bytes(text, "\\u00", 4);
		text_bytes(text, out + 2, 2);
	}
}

static void
text_escaped(struct text *text, const char *str, size_t size, enum style style)
{
	const unsigned char *s = (const unsigned char *)str;
	size_t left = strnlen(str, size);

	while (left > 0) {
		size_t n;

		if (*s < 0x80)
			n = *s >= 0x20 && *s != 0x7f && (style == STYLE_LOG || (*s != '"' && *s != '\\'));
		else
			n = utf8_length(s, left);
		if (n == 0) {
			escape(text, *s, style);
			n = 1;
		} else {
			text_bytes(text, s, n);
		}
		s += n;
		left -= n;
	}
}

void
text_log(struct text *text, const char *str, size_t size)
{
	text_escaped(text, str, size, STYLE_LOG);
}

void
text_quoted(struct text *text, const char *str, size_t size)
{
	text_escaped(text, str, size, STYLE_QUOTED);
}

void
text_json(struct text *text, const char *str, size_t size)
{
	text_escaped(text, str, size, STYLE_JSON);
}
