/* SPDX-License-Identifier: ISC */
/*
 * One way to say things, whatever the process; where it goes is the program's choice.
 * Runs in: any
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct {
	log_sink_fn *sink;
	void *owner;
	const char *program;
	enum log_level level;
	bool journal;
} log_state = { .program = "nsproxy", .level = LOG_L_NOTICE };

static const struct {
	const char *name;
	enum log_level level;
} level_names[] = {
	{ "err", LOG_L_ERR },
	{ "warning", LOG_L_WARNING },
	{ "notice", LOG_L_NOTICE },
	{ "info", LOG_L_INFO },
	{ "debug", LOG_L_DEBUG },
};

void
log_set_sink(log_sink_fn *sink, void *owner)
{
	log_state.sink = sink;
	log_state.owner = owner;
}

void
log_set_program(const char *name)
{
	log_state.program = name;
}

void
log_set_journal(bool on)
{
	log_state.journal = on;
}

void
log_set_level(enum log_level level)
{
	log_state.level = level;
}

enum log_level
log_level(void)
{
	return log_state.level;
}

bool
log_level_by_name(const char *name, enum log_level *level)
{
	for (size_t i = 0; i < sizeof(level_names) / sizeof(level_names[0]); i++) {
		if (strcmp(name, level_names[i].name) == 0) {
			*level = level_names[i].level;
			return true;
		}
	}
	return false;
}

const char *
log_level_name(enum log_level level)
{
	for (size_t i = 0; i < sizeof(level_names) / sizeof(level_names[0]); i++) {
		if (level == level_names[i].level)
			return level_names[i].name;
	}
	return "?";
}

/* One write for one line, so that lines of several processes never mix. What stderr does not take is lost: nobody is left to be told. */
void
log_to_stderr(enum log_level level, const char *text)
{
	char line[LOG_TEXT_MAX + 64];
	int n;

	if (log_state.journal)
		n = snprintf(line, sizeof(line), "<%d>%s\n", (int)level, text);
	else
		n = snprintf(line, sizeof(line), "%s: %s\n", log_state.program, text);
	if (n >= (int)sizeof(line)) {
		n = (int)sizeof(line) - 1;
		line[n - 1] = '\n';
	}
	if (n > 0 && write(STDERR_FILENO, line, (size_t)n) == -1)
		return;
}

static void __attribute__((format(printf, 3, 0)))
log_line(enum log_level level, int with_errno, const char *fmt, va_list args)
{
	char text[LOG_TEXT_MAX];
	int saved = errno, n;

	if (level > log_state.level)
		return;
	n = vsnprintf(text, sizeof(text), fmt, args);
	if (with_errno && n >= 0 && (size_t)n < sizeof(text))
		(void)snprintf(text + n, sizeof(text) - (size_t)n, ": %s", strerror(saved));
	if (log_state.sink != NULL)
		log_state.sink(log_state.owner, level, text);
	else
		log_to_stderr(level, text);
	errno = saved;
}

#define LOG_FUNCTION(name, level, with_errno)                \
	void name(const char *fmt, ...)                      \
	{                                                    \
		va_list args;                                \
		va_start(args, fmt);                         \
		log_line((level), (with_errno), fmt, args);  \
		va_end(args);                                \
	}

LOG_FUNCTION(log_err, LOG_L_ERR, 1)
LOG_FUNCTION(log_errx, LOG_L_ERR, 0)
LOG_FUNCTION(log_warn, LOG_L_WARNING, 1)
LOG_FUNCTION(log_warnx, LOG_L_WARNING, 0)
LOG_FUNCTION(log_notice, LOG_L_NOTICE, 0)
LOG_FUNCTION(log_info, LOG_L_INFO, 0)

void
log_at(enum log_level level, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	log_line(level, 0, fmt, args);
	va_end(args);
}

void
log_debug(const char *category, const char *fmt, ...)
{
	char text[LOG_TEXT_MAX];
	va_list args;

	if (log_state.level < LOG_L_DEBUG)
		return;
	va_start(args, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	log_at(LOG_L_DEBUG, "%s: %s", category, text);
}

void
fatal(enum exit_code code, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	log_line(LOG_L_ERR, 1, fmt, args);
	va_end(args);
	exit((int)code);
}

void
fatalx(enum exit_code code, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	log_line(LOG_L_ERR, 0, fmt, args);
	va_end(args);
	exit((int)code);
}

void
log_assert_failed(const char *cond, const char *file, int line)
{
	fatalx(EXIT_MACHINE, "bug: %s does not hold (%s:%d)", cond, file, line);
}
