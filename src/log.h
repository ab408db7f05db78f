/* SPDX-License-Identifier: ISC */
/*
 * One way to say things, whatever the process; where it goes is the program's choice.
 * Runs in: any
 *
 * The plain forms append ": " and the text of errno; the x forms do not. All of them keep errno as it was.
 */
#ifndef LOG_H
#define LOG_H

#include <stdbool.h>

/* The numbers are syslog's (RFC 5424), so that "<N>" prefixes need no translation. */
enum log_level { LOG_L_ERR = 3, LOG_L_WARNING = 4, LOG_L_NOTICE = 5, LOG_L_INFO = 6, LOG_L_DEBUG = 7 };

/* Longest line, its terminator included; longer ones are cut. */
#define LOG_TEXT_MAX 1024

/* What the interface's exit codes mean; for fatal() and for what a stage returns. */
enum exit_code { EXIT_OK = 0, EXIT_MACHINE = 1, EXIT_CMDLINE = 2, EXIT_NAMESPACE = 4, EXIT_CONFIG = 6 };

/* Receives one finished line without newline. Must not call back into this module. */
typedef void log_sink_fn(void *owner, enum log_level level, const char *text);

/* Where lines go from now on; NULL is the built-in one: stderr, prefixed with the program's name. */
void log_set_sink(log_sink_fn *sink, void *owner);
/* Name shown by the built-in sink. Not copied. */
void log_set_program(const char *name);
/* Built-in sink writes "<N>text" instead of "program: text", as the journal expects. */
void log_set_journal(bool on);
void log_set_level(enum log_level level);
enum log_level log_level(void);
/* "err", "warning", "notice", "info", "debug"; false when the name is none of them. */
bool log_level_by_name(const char *name, enum log_level *level);
const char *log_level_name(enum log_level level);

/* The built-in sink's way out, for a sink that wants to fall back to it. */
void log_to_stderr(enum log_level level, const char *text);

void log_at(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void log_err(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_errx(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_warn(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_warnx(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_notice(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_info(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* Category first: "start", "child", "handoff", "conn"; nsproxy(8) lists them (lint). */
void log_debug(const char *category, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* The environment does not let us go on: one line at level err, then exit(code). */
void fatal(enum exit_code code, const char *fmt, ...) __attribute__((format(printf, 2, 3), noreturn));
void fatalx(enum exit_code code, const char *fmt, ...) __attribute__((format(printf, 2, 3), noreturn));

/* Our own mistake: ends this process (exit 1 after a line); the parent replaces a child that does. */
#define ASSERT(cond) ((cond) ? (void)0 : log_assert_failed(#cond, __FILE__, __LINE__))
void log_assert_failed(const char *cond, const char *file, int line) __attribute__((noreturn));

#endif
