/* SPDX-License-Identifier: ISC */
/*
 * The command line of nsproxy(8): one table of options, from which the parser and the usage are made.
 * Runs in: parent
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "parent_options.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "parent_report.h"

struct parse {
	struct conf_options *options;
	const char *listen;		/* waits for its -c */
	bool version, help;
	bool failed;
};

struct option_row {
	int letter;			/* LONG_ONLY and above: no short form */
	const char *name;
	const char *argument;		/* NULL: takes none */
	const char *help;
	void (*take)(struct parse *parse, const char *argument);
};

#define LONG_ONLY 256

static void
usage_error(struct parse *parse, const char *text)
{
	log_errx("%s", text);
	parse->failed = true;
}

static void
take_listen(struct parse *parse, const char *argument)
{
	if (parse->listen != NULL)
		usage_error(parse, "-l: another -l came before the -c of the first one");
	parse->listen = argument;
}

static void
take_connect(struct parse *parse, const char *argument)
{
	struct conf_options *options = parse->options;
	struct conf_pair *pairs;

	if (parse->listen == NULL) {
		usage_error(parse, "-c: there is no -l before it that it could belong to");
		return;
	}
	pairs = reallocarray(options->pairs, options->n_pairs + 1, sizeof(*pairs));
	if (pairs == NULL)
		fatal(EXIT_MACHINE, "cannot keep the command line");
	options->pairs = pairs;
	pairs[options->n_pairs++] = (struct conf_pair){ parse->listen, argument };
	parse->listen = NULL;
}

static void
take_file(struct parse *parse, const char *argument)
{
	parse->options->file = argument;
}

static void
take_check(struct parse *parse, const char *argument)
{
	(void)argument;
	parse->options->check = true;
}

static void
take_dump(struct parse *parse, const char *argument)
{
	(void)argument;
	parse->options->dump = true;
}

static void
take_engine(struct parse *parse, const char *argument)
{
	parse->options->engine = argument;
}

static void
take_workers(struct parse *parse, const char *argument)
{
	parse->options->workers = argument;
}

static void
take_user(struct parse *parse, const char *argument)
{
	parse->options->user = argument;
}

static void
take_access(struct parse *parse, const char *argument)
{
	parse->options->access = argument;
}

static void
take_background(struct parse *parse, const char *argument)
{
	(void)argument;
	parse->options->background = true;
}

static void
take_pidfile(struct parse *parse, const char *argument)
{
	parse->options->pidfile = argument;
}

static void
take_socket(struct parse *parse, const char *argument)
{
	parse->options->socket = argument;
}

static void
take_verbose(struct parse *parse, const char *argument)
{
	(void)argument;
	parse->options->verbose++;
}

static void
take_version(struct parse *parse, const char *argument)
{
	(void)argument;
	parse->version = true;
}

static void
take_help(struct parse *parse, const char *argument)
{
	(void)argument;
	parse->help = true;
}

static const struct option_row rows[] = {
	{ 'l', "listen", "ADDRESS", "listen here: [NETNS@]HOST:PORT[-PORT] or unix:PATH", take_listen },
	{ 'c', "connect", "ADDRESS", "connect the clients of the -l before to here", take_connect },
	{ 'f', "config", "FILE", "configuration file [" SYSCONFDIR "/nsproxy/nsproxy.conf]", take_file },
	{ 't', "check", NULL, "check the configuration and exit", take_check },
	{ 'T', "dump", NULL, "print the configuration in effect and exit", take_dump },
	{ 'e', "engine", "ENGINE", "adaptive, copy, splice, io_uring or sockmap [adaptive]", take_engine },
	{ 'w', "workers", "N", "workers for each private namespace; 0: one for each CPU [0]", take_workers },
	{ 'u', "user", "USER[:GROUP]", "what workers and reporter become [nsproxy]", take_user },
	{ 'a', "access-log", "WHERE", "none, log or file:PATH [log]", take_access },
	{ 'b', "background", NULL, "go to the background once ready", take_background },
	{ 'p', "pidfile", "PIDFILE", "write the parent's process id here", take_pidfile },
	{ 's', "socket", "SOCKET", "control socket, '' for none [" RUNSTATEDIR "/nsproxy/control.sock]", take_socket },
	{ 'v', "verbose", NULL, "more log; twice for debug", take_verbose },
	{ 'V', "version", NULL, "print versions and engines and exit", take_version },
	{ LONG_ONLY, "help", NULL, "print this and exit", take_help },
};
#define ROWS (sizeof(rows) / sizeof(rows[0]))

static void
print_usage(void)
{
	size_t i;

	printf("usage: nsproxy [options] [-f FILE]\n       nsproxy [options] -l ADDRESS -c ADDRESS [-l ADDRESS -c ADDRESS]...\n\n");
	for (i = 0; i < ROWS; i++) {
		char left[64];
		const char *argument = rows[i].argument;

		snprintf(left, sizeof(left), "--%s%s%s", rows[i].name, argument != NULL ? " " : "", argument != NULL ? argument : "");
		if (rows[i].letter < LONG_ONLY)
			printf("  -%c, %-24s %s\n", rows[i].letter, left, rows[i].help);
		else
			printf("      %-24s %s\n", left, rows[i].help);
	}
	printf("\nSee nsproxy(8) and nsproxy.conf(5).\n");
}

static void
make_tables(char short_forms[2 * ROWS + 2], struct option long_forms[ROWS + 1])
{
	char *p = short_forms;
	size_t i;

	*p++ = ':';			/* says which error it was */
	memset(long_forms, 0, (ROWS + 1) * sizeof(*long_forms));
	for (i = 0; i < ROWS; i++) {
		long_forms[i].name = rows[i].name;
		long_forms[i].has_arg = rows[i].argument != NULL ? required_argument : no_argument;
		long_forms[i].val = rows[i].letter;
		if (rows[i].letter >= LONG_ONLY)
			continue;
		*p++ = (char)rows[i].letter;
		if (rows[i].argument != NULL)
			*p++ = ':';
	}
	*p = '\0';
}

static const struct option_row *
row_of(int letter)
{
	size_t i;

	for (i = 0; i < ROWS; i++)
		if (rows[i].letter == letter)
			return &rows[i];
	return NULL;
}

/* What getopt_long(3) did not understand. */
static void
refuse(struct parse *parse, int what, char *argv[])
{
	const struct option_row *row = row_of(optopt);
	char text[256];

	if (what == ':' || (row != NULL && row->argument != NULL))
		snprintf(text, sizeof(text), "option '%s' needs an argument; see nsproxy --help", argv[optind - 1]);
	else if (row != NULL)
		snprintf(text, sizeof(text), "option '%s' takes no argument; see nsproxy --help", argv[optind - 1]);
	else if (optopt > ' ' && optopt < 0x7f)
		snprintf(text, sizeof(text), "unknown option '-%c'; see nsproxy --help", optopt);
	else
		snprintf(text, sizeof(text), "unknown option '%s'; see nsproxy --help", argv[optind - 1]);
	usage_error(parse, text);
}

static void
check_together(struct parse *parse, int argc, char *argv[])
{
	const struct conf_options *options = parse->options;
	char text[256];

	if (optind < argc) {
		snprintf(text, sizeof(text), "unexpected argument '%s'; see nsproxy --help", argv[optind]);
		usage_error(parse, text);
	}
	if (parse->listen != NULL)
		usage_error(parse, "-l: there is no -c after it that says where its clients go");
	if (options->file != NULL && (options->n_pairs > 0 || parse->listen != NULL))
		usage_error(parse, "-f: a configuration file excludes -l and -c");
}

bool
options_parse(int argc, char *argv[], struct conf_options *options, enum exit_code *code)
{
	char short_forms[2 * ROWS + 2];
	struct option long_forms[ROWS + 1];
	struct parse parse = { .options = options };
	int letter;

	memset(options, 0, sizeof(*options));
	make_tables(short_forms, long_forms);
	opterr = 0;
	while ((letter = getopt_long(argc, argv, short_forms, long_forms, NULL)) != -1) {
		if (letter == '?' || letter == ':')
			refuse(&parse, letter, argv);
		else
			row_of(letter)->take(&parse, optarg);
	}
	check_together(&parse, argc, argv);
	*code = parse.failed ? EXIT_CMDLINE : EXIT_OK;
	if (parse.failed || (!parse.help && !parse.version))
		return !parse.failed;
	if (parse.help)
		print_usage();
	else
		report_version();
	*code = report_flush();
	return false;
}

void
options_free(struct conf_options *options)
{
	free(options->pairs);
	memset(options, 0, sizeof(*options));
}
