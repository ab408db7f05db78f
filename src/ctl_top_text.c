/* SPDX-License-Identifier: ISC */
/*
 * Short texts for the screen of `nsproxyctl top`.
 * Runs in: ctl
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "ctl_top_text.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define MINUTE 60.0
#define HOUR 3600.0
#define DAY 86400.0

void
top_text_number(char *buf, size_t size, double number, double step)
{
	static const char units[] = " kMGTPE";
	unsigned unit = 0;

	if (!(number > 0))		/* nor is what is no number */
		number = 0;
	while (number >= 999.5 && units[unit + 1] != '\0') {
		number /= step;
		unit++;
	}
	if (number >= 999.5)
		number = 999;
	if (unit == 0)
		(void)snprintf(buf, size, "%.0f", number);
	else
		(void)snprintf(buf, size, number < 9.95 ? "%.1f%c" : "%.0f%c", number, units[unit]);
}

void
top_text_age(char *buf, size_t size, double seconds)
{
	if (!(seconds > 0))
		seconds = 0;
	if (seconds < MINUTE)
		(void)snprintf(buf, size, "%us", (unsigned)seconds);
	else if (seconds < HOUR)
		(void)snprintf(buf, size, "%um%02u", (unsigned)(seconds / MINUTE), (unsigned)seconds % 60);
	else if (seconds < DAY)
		(void)snprintf(buf, size, "%uh%02u", (unsigned)(seconds / HOUR), (unsigned)(seconds / MINUTE) % 60);
	else if (seconds < 1000 * DAY)
		(void)snprintf(buf, size, "%ud%02u", (unsigned)(seconds / DAY), (unsigned)(seconds / HOUR) % 24);
	else
		(void)snprintf(buf, size, ">999d");
}

void
top_text_uptime(char *buf, size_t size, uint64_t seconds)
{
	unsigned hours = (unsigned)(seconds / 3600 % 24), minutes = (unsigned)(seconds / 60 % 60);
	uint64_t days = seconds / 86400;

	if (days == 0)
		(void)snprintf(buf, size, "%02u:%02u:%02u", hours, minutes, (unsigned)(seconds % 60));
	else
		(void)snprintf(buf, size, "%" PRIu64 "d %02u:%02u", days, hours, minutes);
}

void
top_text_printable(char *buf, size_t size, const char *text)
{
	size_t n = 0;

	for (; n + 1 < size && text[n] != '\0'; n++)
		buf[n] = text[n] >= ' ' && text[n] < 0x7f ? text[n] : '?';
	buf[n] = '\0';
}

/* Appends as much as fits whole. */
static void
append(char *buf, size_t size, const char *text)
{
	size_t n = strlen(buf);

	if (n + strlen(text) < size)
		memcpy(buf + n, text, strlen(text) + 1);
}

void
top_text_graph(char *buf, size_t size, const float *samples, unsigned cells, bool utf8)
{
	static const char *const blocks[] = { " ", "\u2581", "\u2582", "\u2583", "\u2584", "\u2585", "\u2586", "\u2587", "\u2588" };
	static const char *const ascii[] = { " ", ".", ".", ":", "-", "=", "+", "*", "#" };
	float most = 0;

	for (unsigned i = 0; i < cells; i++)
		if (samples[i] > most)
			most = samples[i];
	buf[0] = '\0';
	for (unsigned i = 0; i < cells; i++) {
		/* Whatever is more than nothing shows. */
		unsigned level = samples[i] > 0 && most > 0 ? 1 + (unsigned)(samples[i] / most * 7) : 0;

		append(buf, size, (utf8 ? blocks : ascii)[level > 8 ? 8 : level]);
	}
}

void
top_text_bar(char *buf, size_t size, double share, unsigned cells, bool utf8)
{
	static const char *const parts[] = { " ", "\u258f", "\u258e", "\u258d", "\u258c", "\u258b", "\u258a", "\u2589" };
	unsigned eighths;

	if (!(share > 0))
		share = 0;
	if (share > 1)
		share = 1;
	eighths = (unsigned)(share * cells * 8 + 0.5);
	buf[0] = '\0';
	for (unsigned i = 0; i < cells; i++, eighths -= eighths < 8 ? eighths : 8) {
		if (eighths >= 8)
			append(buf, size, utf8 ? "\u2588" : "#");
		else
			append(buf, size, utf8 ? parts[eighths] : eighths >= 4 ? "-" : " ");
	}
}
