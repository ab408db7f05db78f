/* SPDX-License-Identifier: ISC */
/*
 * One value of the configuration at a time: text to number, time, mode, output.
 * Runs in: parent
 */
#ifndef PARENT_CONF_VALUE_H
#define PARENT_CONF_VALUE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "parent_conf.h"

/* All of them: 0, or -1 with *why set to a static text. None touches anything but its arguments. */

/* Decimal digits only. */
int value_number(const char *text, uint64_t least, uint64_t most, uint64_t *number, const char **why);
/* "500ms", "5s", "10min", "1h", or a plain "0". */
int value_time(const char *text, uint64_t most_ms, uint64_t *ms, const char **why);
/* "0660", "666": permission bits only. */
int value_mode(const char *text, mode_t *mode, const char **why);
int value_bool(const char *text, bool *flag, const char **why);
/* "none", "log" or "file:PATH"; "stderr", "syslog" or "file:PATH". What was in output before is freed, its new path allocated. */
int value_access(const char *text, struct conf_output *output, const char **why);
int value_log(const char *text, struct conf_output *output, const char **why);
/* "FIRST-LAST", uids that a worker may have. */
int value_uid_range(const char *text, uid_t *first, uid_t *last, const char **why);
/* A literal address without a port, brackets optional. */
int value_literal(const char *text, struct addr_spec *spec, const char **why);

#endif
