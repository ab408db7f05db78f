/* SPDX-License-Identifier: ISC */
/*
 * The command line of nsproxy(8).
 * Runs in: parent
 */
#ifndef PARENT_OPTIONS_H
#define PARENT_OPTIONS_H

#include <stdbool.h>

#include "log.h"
#include "parent_conf.h"

/*
 * Fills in *options, to be freed with options_free(). True: go on. False: exit with *code; everything was said, or printed
 * (--help, --version).
 */
bool options_parse(int argc, char *argv[], struct conf_options *options, enum exit_code *code);
void options_free(struct conf_options *options);

#endif
