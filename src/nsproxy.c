/* SPDX-License-Identifier: ISC */
/*
 * nsproxy(8): command line, then configuration, then the privileged parent. Nothing else.
 * Runs in: parent
 */
#include <stdlib.h>
#include <sys/prctl.h>

#include "fdutil.h"
#include "log.h"
#include "parent.h"
#include "parent_conf.h"
#include "parent_conf_pack.h"
#include "parent_number.h"
#include "parent_options.h"
#include "parent_output.h"
#include "parent_report.h"
#include "parent_state.h"

/* -t and -T end here. */
static enum exit_code
print(const struct conf_options *options, const struct conf *conf)
{
	if (options->dump)
		conf_dump(conf);
	else if (options->verbose > 0)
		report_privileges(conf);
	return report_flush();
}

/* In an image that replaces another: what its trial has read, with the numbers that are in use. */
static enum exit_code
configure(const struct conf_options *options, struct state *state, struct conf *conf)
{
	bool replaces = state != NULL && state->head.purpose == STATE_REPLACE;
	FD_AUTO int fd = replaces ? state_take_fd(state, "configuration") : -1;
	enum exit_code code = fd != -1 && conf_restore(fd, conf) == 0 ? EXIT_OK : conf_load(options, conf);

	if (code == EXIT_OK && replaces)
		number_services(conf, state);
	return code;
}

int
main(int argc, char *argv[])
{
	struct conf_options options;
	struct state *state;
	struct conf conf;
	enum exit_code code;

	log_set_program("nsproxy");
	state = state_receive();
	/* The parent reads a trial's log as a journal would: each line says its level. */
	log_set_journal(outputs_stderr_is_journal() || (state != NULL && state->head.purpose == STATE_TRIAL));
	/* Executed by descriptor, we would be called by its number. */
	(void)prctl(PR_SET_NAME, "nsproxy");
	if (!options_parse(argc, argv, &options, &code)) {
		options_free(&options);
		return code;
	}
	code = configure(&options, state, &conf);
	if (code == EXIT_OK) {
		log_set_level(conf.log_level);
		code = options.check || options.dump ? print(&options, &conf) : parent_run(&conf, state, argv);
		conf_free(&conf);
	}
	options_free(&options);
	if (state != NULL)
		state_free(state);
	free(state);
	return code;
}
