/* SPDX-License-Identifier: ISC */
/*
 * The command line of nsproxyctl: options, the command, its arguments.
 * Runs in: ctl
 */
#ifndef CTL_OPTIONS_H
#define CTL_OPTIONS_H

#include <stdbool.h>

#include "ctl_client.h"

/* What is asked for: one of the verbs, or something that is no single question. */
enum ctl_what { CTL_WHAT_VERB, CTL_WHAT_TOP, CTL_WHAT_HELP, CTL_WHAT_VERSION };

struct ctl_options {
	enum ctl_what what;
	const char *command;		/* as written */
	const char *socket;
	bool json;
	struct msg_ask ask;
	int sort;			/* index of ctl_sort_names */
	unsigned limit;			/* connections to show; 0: all */
	double rates;			/* seconds between two looks; 0: one look */
};

/* 0, or -1 after a line on stderr. default_socket must outlive *options, as argv must. */
int ctl_options_parse(int argc, char *argv[], const char *default_socket, struct ctl_options *options);
/* For --help. */
void ctl_options_help(const char *default_socket);

#endif
