/* SPDX-License-Identifier: ISC */
/*
 * What is printed for people before anything starts: -V and `-t -v`.
 * Runs in: parent
 */
#ifndef PARENT_REPORT_H
#define PARENT_REPORT_H

#include "log.h"
#include "parent_conf.h"

void report_version(void);
/* Who will run as whom, with which capabilities and which layers. */
void report_privileges(const struct conf *conf);
/* EXIT_MACHINE, with a line, when what was printed did not reach its reader. */
enum exit_code report_flush(void);

#endif
