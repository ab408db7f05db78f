/* SPDX-License-Identifier: ISC */
/*
 * nsproxyctl: asks a running nsproxy, and tells it what to do, over its control socket.
 * Runs in: ctl
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "ctl_client.h"
#include "ctl_conns.h"
#include "ctl_json.h"
#include "ctl_options.h"
#include "ctl_show.h"
#include "ctl_top.h"

#ifndef RUNSTATEDIR
#define RUNSTATEDIR "/run"
#endif
#define DEFAULT_SOCKET RUNSTATEDIR "/nsproxy/control.sock"
/* For a place in the queue, and between two messages of an answer; and for what the parent does first, of which a reload takes as long as a start. */
#define READ_MS (10 * 1000)
#define CHANGE_MS (120 * 1000)

typedef int show_fn(const struct ctl_view *view, FILE *out);

static const struct {
	show_fn *show, *json;
} shows[CTL_VERBS_COUNT] = {
	[CTL_STATUS] = { ctl_show_status, ctl_json_status },
	[CTL_SERVICES] = { ctl_show_services, ctl_json_services },
	[CTL_WORKERS] = { ctl_show_workers, ctl_json_workers },
	[CTL_CONNECTIONS] = { ctl_show_connections, ctl_json_connections },
	[CTL_PRIVILEGES] = { ctl_show_privileges, ctl_json_privileges },
	[CTL_METRICS] = { ctl_show_metrics, ctl_json_metrics },
	[CTL_RELOAD] = { ctl_show_done, ctl_json_done },
	[CTL_UPGRADE] = { ctl_show_done, ctl_json_done },
	[CTL_DRAIN] = { ctl_show_done, ctl_json_done },
	[CTL_RESUME] = { ctl_show_done, ctl_json_done },
	[CTL_KILL] = { ctl_show_done, ctl_json_done },
	[CTL_LOG_LEVEL] = { ctl_show_done, ctl_json_done },
};

static enum ctl_exit
fail(const struct ctl_options *options, enum ctl_exit code, const char *text)
{
	(void)fprintf(stderr, "nsproxyctl: %s\n", text);
	if (options->json)
		(void)ctl_json_error(text, stdout);
	return code;
}

static void
wait_for(double seconds)
{
	struct timespec left = { .tv_sec = (time_t)seconds, .tv_nsec = (long)((seconds - (double)(time_t)seconds) * 1e9) };

	while (nanosleep(&left, &left) == -1 && errno == EINTR)
		continue;
}

static enum ctl_exit
print(const struct ctl_options *options, const struct ctl_answer *answer, const struct ctl_answer *before)
{
	struct ctl_conns conns = { NULL, 0, false };
	struct ctl_view view = { answer, &conns };
	int r = 0;

	if (options->ask.verb == CTL_CONNECTIONS) {
		r = ctl_conns_make(&conns, answer, before);
		ctl_conns_sort(&conns, options->sort);
		if (options->limit != 0 && conns.n > options->limit)
			conns.n = options->limit;
	}
	if (r == 0)
		r = options->json ? shows[options->ask.verb].json(&view, stdout) : shows[options->ask.verb].show(&view, stdout);
	ctl_conns_free(&conns);
	return r == 0 ? CTL_EXIT_DONE : fail(options, CTL_EXIT_FAILED, strerror(ENOMEM));
}

static enum ctl_exit
ask(const struct ctl_options *options, struct ctl_client *client)
{
	struct ctl_answer answer = { .has_status = false }, before = { .has_status = false };
	int timeout_ms = ctl_verb_changes(options->ask.verb) ? CHANGE_MS : READ_MS;
	enum ctl_exit code = CTL_EXIT_DONE;

	if (options->rates > 0) {
		code = ctl_ask_whoever(client, options->socket, &options->ask, &before, timeout_ms);
		if (code == CTL_EXIT_DONE)
			wait_for(options->rates);
	}
	if (code == CTL_EXIT_DONE && ctl_verb_changes(options->ask.verb))
		code = ctl_ask(client, &options->ask, &answer, timeout_ms);
	else if (code == CTL_EXIT_DONE)
		code = ctl_ask_whoever(client, options->socket, &options->ask, &answer, timeout_ms);
	if (code == CTL_EXIT_DONE)
		code = print(options, &answer, options->rates > 0 ? &before : NULL);
	else
		(void)fail(options, code, client->text);
	ctl_answer_free(&answer);
	ctl_answer_free(&before);
	return code;
}

static enum ctl_exit
run(const struct ctl_options *options)
{
	struct ctl_client client;
	enum ctl_exit code = ctl_open(&client, options->socket, READ_MS);

	if (code != CTL_EXIT_DONE)
		return fail(options, code, client.text);
	code = ask(options, &client);
	ctl_close(&client);
	return code;
}

int
main(int argc, char *argv[])
{
	struct ctl_options options;
	enum ctl_exit code = CTL_EXIT_DONE;

	if (ctl_options_parse(argc, argv, DEFAULT_SOCKET, &options) == -1)
		return CTL_EXIT_USAGE;
	if (options.what == CTL_WHAT_HELP)
		ctl_options_help(DEFAULT_SOCKET);
	else if (options.what == CTL_WHAT_VERSION)
		printf("nsproxyctl %s, control protocol %u\n", PACKAGE_VERSION, MSG_VERSION);
	else if (options.what == CTL_WHAT_TOP)
		code = top_run(options.socket);
	else
		code = run(&options);
	if ((fflush(stdout) != 0 || ferror(stdout)) && code == CTL_EXIT_DONE)
		return fail(&options, CTL_EXIT_FAILED, "cannot write to standard output");
	return code;
}
