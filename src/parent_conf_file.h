/* SPDX-License-Identifier: ISC */
/*
 * nsproxy.conf(5) through libconfuse into a draft.
 * Runs in: parent
 */
#ifndef PARENT_CONF_FILE_H
#define PARENT_CONF_FILE_H

#include <stddef.h>

#include "parent_conf_draft.h"

/* Reads the file and what it includes. Everything wrong is said; draft->first tells whether there was anything. */
void conf_file_read(struct conf_draft *draft, const char *path);
/* The same for a text in memory; for tests. */
void conf_file_parse(struct conf_draft *draft, const char *name, const char *text, size_t len);

#endif
