/* SPDX-License-Identifier: ISC */
/*
 * One value of the configuration at a time: text to number, time, mode, output.
 * Runs in: parent
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "parent_conf_value.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "parent_conf_draft.h"

static int
value_fail(const char **why, const char *text)
{
	*why = text;
	return -1;
}

/* The digits that text begins with; *end is what follows. -1: none, or more than fits. */
static int
leading_digits(const char *text, uint64_t *number, const char **end)
{
	const char *p;

	*number = 0;
	for (p = text; *p >= '0' && *p <= '9'; p++)
		if (__builtin_mul_overflow(*number, 10u, number) || __builtin_add_overflow(*number, (unsigned)(*p - '0'), number))
			return -1;
	*end = p;
	return p == text ? -1 : 0;
}

int
value_number(const char *text, uint64_t least, uint64_t most, uint64_t *number, const char **why)
{
	const char *end;

	if (text[0] == '\0' || text[strspn(text, "0123456789")] != '\0')
		return value_fail(why, "not a number");
	if (leading_digits(text, number, &end) == -1 || *number > most)
		return value_fail(why, "the number is too large");
	if (*number < least)
		return value_fail(why, "the number is too small");
	return 0;
}

int
value_time(const char *text, uint64_t most_ms, uint64_t *ms, const char **why)
{
	static const struct {
		const char *unit;
		unsigned ms;
	} units[] = { { "ms", 1 }, { "s", 1000 }, { "min", 60 * 1000 }, { "h", 60 * 60 * 1000 } };
	size_t digits = strspn(text, "0123456789"), i;
	const char *unit;
	uint64_t number;

	if (strcmp(text, "0") == 0) {
		*ms = 0;
		return 0;
	}
	if (digits == 0)
		return value_fail(why, "not a time; write 500ms, 5s, 10min or 1h");
	for (i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		if (strcmp(text + digits, units[i].unit) != 0)
			continue;
		if (leading_digits(text, &number, &unit) == -1 || __builtin_mul_overflow(number, units[i].ms, ms) || *ms > most_ms)
			return value_fail(why, "the time is too long");
		return 0;
	}
	return value_fail(why, text[digits] == '\0' ? "the unit is missing; write ms, s, min or h" : "not a time; write 500ms, 5s, 10min or 1h");
}

int
value_mode(const char *text, mode_t *mode, const char **why)
{
	size_t len = strlen(text);

	if (len == 0 || len > 4 || strspn(text, "01234567") != len)
		return value_fail(why, "not an octal mode such as 0660");
	*mode = (mode_t)strtoul(text, NULL, 8);
	if (*mode > 0777)
		return value_fail(why, "a mode has permission bits only (0-0777)");
	return 0;
}

int
value_bool(const char *text, bool *flag, const char **why)
{
	static const char *const yes[] = { "true", "yes", "on" }, *const no[] = { "false", "no", "off" };
	size_t i;

	for (i = 0; i < 3; i++)
		if (strcasecmp(text, yes[i]) == 0 || strcasecmp(text, no[i]) == 0) {
			*flag = strcasecmp(text, yes[i]) == 0;
			return 0;
		}
	return value_fail(why, "neither true nor false");
}

struct output_name {
	const char *name;
	enum conf_log kind;
};

static int
value_output(const char *text, const struct output_name names[2], struct conf_output *output, const char **why)
{
	struct conf_output made = { CONF_LOG_FILE, NULL };
	size_t i;

	for (i = 0; i < 2; i++)
		if (strcmp(text, names[i].name) == 0)
			made.kind = names[i].kind;
	if (made.kind == CONF_LOG_FILE) {
		if (strncmp(text, "file:", 5) != 0)
			return -1;
		if (text[5] == '\0')
			return value_fail(why, "the path after file: is missing");
		made.path = draft_copy(text + 5);
	}
	free(output->path);
	*output = made;
	return 0;
}

int
value_access(const char *text, struct conf_output *output, const char **why)
{
	static const struct output_name names[2] = { { "none", CONF_LOG_NONE }, { "log", CONF_LOG_SAME } };

	*why = "neither none, log nor file:PATH";
	return value_output(text, names, output, why);
}

int
value_log(const char *text, struct conf_output *output, const char **why)
{
	static const struct output_name names[2] = { { "stderr", CONF_LOG_STDERR }, { "syslog", CONF_LOG_SYSLOG } };

	*why = "neither stderr, syslog nor file:PATH";
	return value_output(text, names, output, why);
}

int
value_uid_range(const char *text, uid_t *first, uid_t *last, const char **why)
{
	const char *dash = strchr(text, '-');
	uint64_t low, high;
	char low_text[16];

	if (dash == NULL || dash == text || (size_t)(dash - text) >= sizeof(low_text))
		return value_fail(why, "not a range of uids such as 61000-61015");
	memcpy(low_text, text, (size_t)(dash - text));
	low_text[dash - text] = '\0';
	/* Uid 0 is root, the last one means "no change" to the kernel. */
	if (value_number(low_text, 1, UINT32_MAX - 1, &low, why) == -1 || value_number(dash + 1, 1, UINT32_MAX - 1, &high, why) == -1)
		return -1;
	if (low > high)
		return value_fail(why, "the range runs backwards");
	*first = (uid_t)low;
	*last = (uid_t)high;
	return 0;
}

int
value_literal(const char *text, struct addr_spec *spec, const char **why)
{
	char written[sizeof(spec->host) + 8];
	bool bracket = strchr(text, ':') != NULL && text[0] != '[';

	if (strlen(text) >= sizeof(spec->host) || strchr(text, '@') != NULL || strcmp(text, "*") == 0)
		return value_fail(why, "not a literal address");
	snprintf(written, sizeof(written), bracket ? "[%s]:0" : "%s:0", text);
	if (addr_parse(written, spec, why) == -1)
		return -1;
	if (!spec->is_v6_literal && spec->host[strspn(spec->host, "0123456789.")] != '\0')
		return value_fail(why, "not a literal address");
	return 0;
}
