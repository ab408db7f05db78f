/* SPDX-License-Identifier: ISC */
/*
 * The command line of nsproxyctl.
 * Runs in: ctl
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "ctl_options.h"

#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ctl_conns.h"
#include "log.h"

/* An option takes the text after it, or says what is wrong by -1 after a line. */
typedef int take_fn(struct ctl_options *options, const char *text);

__attribute__((format(printf, 1, 2))) static int
wrong(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	(void)fputs("nsproxyctl: ", stderr);
	(void)vfprintf(stderr, fmt, args);
	(void)fputs("; see nsproxyctl --help\n", stderr);
	va_end(args);
	return -1;
}

/* 0 or -1. */
static int
number(const char *text, unsigned long long most, unsigned long long *value)
{
	char *end;

	errno = 0;
	*value = strtoull(text, &end, 10);
	return text[0] >= '0' && text[0] <= '9' && *end == '\0' && errno == 0 && *value <= most ? 0 : -1;
}

static int
take_socket(struct ctl_options *options, const char *text)
{
	options->socket = text;
	return 0;
}

static int
take_json(struct ctl_options *options, const char *text)
{
	(void)text;
	options->json = true;
	return 0;
}

static int
take_help(struct ctl_options *options, const char *text)
{
	(void)text;
	options->what = CTL_WHAT_HELP;
	return 0;
}

static int
take_version(struct ctl_options *options, const char *text)
{
	(void)text;
	options->what = CTL_WHAT_VERSION;
	return 0;
}

static int
take_service(struct ctl_options *options, const char *text)
{
	if (text[0] == '\0' || strlen(text) >= sizeof(options->ask.service))
		return wrong("'%s' is no name of a service", text);
	(void)snprintf(options->ask.service, sizeof(options->ask.service), "%s", text);
	return 0;
}

static int
take_worker(struct ctl_options *options, const char *text)
{
	unsigned long long value;

	if (number(text, UINT32_MAX - 1, &value) == -1)
		return wrong("'%s' is no number of a worker", text);
	options->ask.worker = (uint32_t)value;
	return 0;
}

static int
take_state(struct ctl_options *options, const char *text)
{
	int state = record_state_by_name(text);

	if (state == -1)
		return wrong("'%s' is no state of a connection (connecting, open, half-closed, ended)", text);
	options->ask.state = (uint32_t)state;
	return 0;
}

static int
take_engine(struct ctl_options *options, const char *text)
{
	int engine = engine_by_name(text);

	if (engine == -1)
		return wrong("'%s' is no engine (adaptive, copy, splice, io_uring, sockmap)", text);
	options->ask.engine = (uint32_t)engine;
	return 0;
}

/* ADDRESS, ADDRESS/BITS. */
static int
take_client(struct ctl_options *options, const char *text)
{
	struct wire_addr *client = &options->ask.client;
	unsigned long long bits = UINT32_MAX;
	const char *slash = strchr(text, '/');
	char host[INET6_ADDRSTRLEN];
	size_t n = slash != NULL ? (size_t)(slash - text) : strlen(text);

	if (n >= sizeof(host))
		return wrong("'%s' is no address of clients, such as 10.1.2.3, 10.0.0.0/8, fd00::/64", text);
	memcpy(host, text, n);
	host[n] = '\0';
	*client = (struct wire_addr){ .family = strchr(host, ':') != NULL ? AF_INET6 : AF_INET };
	if (inet_pton(client->family, host, client->bytes) != 1 ||
	    (slash != NULL && number(slash + 1, client->family == AF_INET ? 32 : 128, &bits) == -1))
		return wrong("'%s' is no address of clients, such as 10.1.2.3, 10.0.0.0/8, fd00::/64", text);
	options->ask.client_bits = (uint32_t)bits;
	return 0;
}

static int
take_sort(struct ctl_options *options, const char *text)
{
	options->sort = ctl_sort_by_name(text);
	if (options->sort == -1)
		return wrong("connections are not sorted by '%s', but by id, age, service, worker, client, state, bytes, up, down or rate", text);
	return 0;
}

static int
take_rates(struct ctl_options *options, const char *text)
{
	char *end;

	options->rates = 1;
	if (text == NULL)
		return 0;
	options->rates = strtod(text, &end);
	if (end == text || *end != '\0' || !(options->rates >= 0.1 && options->rates <= 3600))
		return wrong("'%s' is no number of seconds between 0.1 and 3600", text);
	return 0;
}

static int
take_limit(struct ctl_options *options, const char *text)
{
	unsigned long long value;

	if (number(text, UINT32_MAX, &value) == -1 || value == 0)
		return wrong("'%s' is no number of connections", text);
	options->limit = (unsigned)value;
	return 0;
}

/* The verbs for which an option means something, as bits; 0: all commands. */
#define FOR(verb) (1u << CTL_##verb)
static const struct option_row {
	char letter;			/* 0: none */
	const char *name, *argument;	/* NULL: none; in brackets: may be left out */
	const char *help;
	unsigned verbs;
	take_fn *take;
} option_rows[] = {
	{ 's', "socket", "SOCKET", "control socket of nsproxy", 0, take_socket },
	{ 0, "json", NULL, "print JSON", 0, take_json },
	{ 'h', "help", NULL, "print this and exit", 0, take_help },
	{ 'V', "version", NULL, "print the version and exit", 0, take_version },
	{ 0, "service", "NAME", "only of this service", FOR(SERVICES) | FOR(CONNECTIONS), take_service },
	{ 0, "worker", "NUMBER", "only of this worker", FOR(WORKERS) | FOR(CONNECTIONS), take_worker },
	{ 0, "client", "ADDRESS[/BITS]", "only from there", FOR(CONNECTIONS), take_client },
	{ 0, "state", "STATE", "only in this state", FOR(CONNECTIONS), take_state },
	{ 0, "engine", "ENGINE", "only those that it carries", FOR(CONNECTIONS), take_engine },
	{ 0, "sort", "KEY", "id, age, service, worker, client, state, bytes, up, down, rate", FOR(CONNECTIONS), take_sort },
	{ 0, "rates", "[SECONDS]", "look twice and show bytes in a second", FOR(CONNECTIONS), take_rates },
	{ 0, "limit", "NUMBER", "the first ones only", FOR(CONNECTIONS), take_limit },
};
#define N_OPTIONS (sizeof(option_rows) / sizeof(option_rows[0]))

static int
take_id(struct ctl_options *options, const char *text)
{
	unsigned long long value;

	if (number(text, UINT64_MAX, &value) == -1 || value == 0)
		return wrong("'%s' is no id of a connection", text);
	options->ask.id = value;
	return 0;
}

static int
take_level(struct ctl_options *options, const char *text)
{
	enum log_level level;

	if (!log_level_by_name(text, &level))
		return wrong("'%s' is no level (err, warning, notice, info, debug)", text);
	options->ask.level = level;
	return 0;
}

static const struct command_row {
	const char *name, *argument;	/* argument NULL: none; in brackets: may be left out */
	const char *help;
	enum ctl_what what;
	enum ctl_verb verb;
	take_fn *take;
} command_rows[] = {
	{ "status", NULL, "what nsproxy is and does", CTL_WHAT_VERB, CTL_STATUS, NULL },
	{ "services", NULL, "each service, its state and counters", CTL_WHAT_VERB, CTL_SERVICES, NULL },
	{ "workers", NULL, "each worker process", CTL_WHAT_VERB, CTL_WORKERS, NULL },
	{ "connections", NULL, "each connection, both sides of it", CTL_WHAT_VERB, CTL_CONNECTIONS, NULL },
	{ "kill", "ID", "end a connection: both sides get a reset", CTL_WHAT_VERB, CTL_KILL, take_id },
	{ "drain", "[SERVICE]", "reset new clients, end the others within drain-timeout", CTL_WHAT_VERB, CTL_DRAIN, take_service },
	{ "resume", "[SERVICE]", "take clients again", CTL_WHAT_VERB, CTL_RESUME, take_service },
	{ "reload", NULL, "apply the configuration as it is now", CTL_WHAT_VERB, CTL_RELOAD, NULL },
	{ "upgrade", NULL, "reload with the programs that are installed now", CTL_WHAT_VERB, CTL_UPGRADE, NULL },
	{ "log-level", "LEVEL", "err, warning, notice, info or debug, until the next reload", CTL_WHAT_VERB, CTL_LOG_LEVEL, take_level },
	{ "privileges", NULL, "what each process may still do", CTL_WHAT_VERB, CTL_PRIVILEGES, NULL },
	{ "metrics", NULL, "counters as OpenMetrics text", CTL_WHAT_VERB, CTL_METRICS, NULL },
	{ "top", NULL, "a live screen", CTL_WHAT_TOP, CTL_STATUS, NULL },
};
#define N_COMMANDS (sizeof(command_rows) / sizeof(command_rows[0]))

static const struct command_row *
find_command(const char *name)
{
	for (size_t i = 0; i < N_COMMANDS; i++) {
		if (strcmp(command_rows[i].name, name) == 0)
			return &command_rows[i];
	}
	return NULL;
}

/* getopt's view of option_rows: val is the index plus one. */
static void
make_getopt(struct option longs[N_OPTIONS + 1], char shorts[2 * N_OPTIONS + 1])
{
	char *at = shorts;

	memset(longs, 0, sizeof(*longs) * (N_OPTIONS + 1));
	for (size_t i = 0; i < N_OPTIONS; i++) {
		const struct option_row *row = &option_rows[i];
		int has = row->argument == NULL ? no_argument : row->argument[0] == '[' ? optional_argument : required_argument;

		longs[i] = (struct option){ .name = row->name, .has_arg = has, .val = (int)i + 1000 };
		if (row->letter == 0)
			continue;
		*at++ = row->letter;
		if (row->argument != NULL)
			*at++ = ':';
	}
	*at = '\0';
}

static const struct option_row *
row_of(int c)
{
	if (c >= 1000)
		return &option_rows[c - 1000];
	for (size_t i = 0; i < N_OPTIONS; i++) {
		if (option_rows[i].letter == c)
			return &option_rows[i];
	}
	return NULL;
}

/* Bits of the options that were given. */
static int
take_options(int argc, char *argv[], struct ctl_options *options, unsigned *given)
{
	struct option longs[N_OPTIONS + 1];
	char shorts[2 * N_OPTIONS + 1];
	int c;

	make_getopt(longs, shorts);
	*given = 0;
	while ((c = getopt_long(argc, argv, shorts, longs, NULL)) != -1) {
		const struct option_row *row = row_of(c);

		if (row == NULL)
			return -1;	/* getopt has said it */
		if (row->take(options, optarg) == -1)
			return -1;
		*given |= 1u << (row - option_rows);
	}
	return 0;
}

static int
take_command(int argc, char *argv[], struct ctl_options *options, unsigned given)
{
	const struct command_row *command;
	int left = argc - optind - 1;

	if (left < 0)
		return wrong("a command is missing");
	command = find_command(argv[optind]);
	if (command == NULL)
		return wrong("there is no command '%s'", argv[optind]);
	for (size_t i = 0; i < N_OPTIONS; i++) {
		if ((given >> i & 1) && option_rows[i].verbs != 0 && (command->what != CTL_WHAT_VERB || !(option_rows[i].verbs >> command->verb & 1)))
			return wrong("--%s means nothing to %s", option_rows[i].name, command->name);
	}
	if (left < 1 && command->argument != NULL && command->argument[0] != '[')
		return wrong("%s needs its %s", command->name, command->argument);
	if (left > (command->argument != NULL))
		return wrong("%s takes %s", command->name, command->argument != NULL ? "one argument" : "no argument");
	options->what = command->what;
	options->command = command->name;
	options->ask.verb = command->verb;
	return left == 1 ? command->take(options, argv[optind + 1]) : 0;
}

int
ctl_options_parse(int argc, char *argv[], const char *default_socket, struct ctl_options *options)
{
	unsigned given;

	*options = (struct ctl_options){ .socket = default_socket, .ask = ctl_ask_all(CTL_STATUS) };
	if (take_options(argc, argv, options, &given) == -1)
		return -1;
	if (options->what != CTL_WHAT_VERB)
		return 0;
	return take_command(argc, argv, options, given);
}

void
ctl_options_help(const char *default_socket)
{
	char left[64];

	printf("usage: nsproxyctl [-s SOCKET] [--json] COMMAND [ARGUMENT]...\n\ncommands:\n");
	for (size_t i = 0; i < N_COMMANDS; i++) {
		const struct command_row *row = &command_rows[i];

		(void)snprintf(left, sizeof(left), "%s%s%s", row->name, row->argument != NULL ? " " : "", row->argument != NULL ? row->argument : "");
		printf("  %-24s %s\n", left, row->help);
	}
	printf("\noptions:\n");
	for (size_t i = 0; i < N_OPTIONS; i++) {
		const struct option_row *row = &option_rows[i];
		bool may = row->argument != NULL && row->argument[0] == '[';

		(void)snprintf(left, sizeof(left), "%c%c --%s%s%s%s", row->letter != 0 ? '-' : ' ', row->letter != 0 ? row->letter : ' ', row->name,
		    row->argument == NULL ? "" : may ? "[=" : " ", row->argument != NULL ? row->argument + may : "", "");
		printf("  %-28s %s\n", left, row->help);
	}
	printf("\nSOCKET is %s unless given. Exit codes: 0 done, 1 refused or failed, 2 bad arguments, 7 nsproxy is not running.\n", default_socket);
}
