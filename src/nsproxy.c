/* SPDX-License-Identifier: ISC */
/*
 * nsproxy(8): command line, then configuration, then the privileged parent. Nothing else.
 * Runs in: parent
 */
#include "log.h"
#include "parent.h"
#include "parent_conf.h"
#include "parent_options.h"
#include "parent_output.h"
#include "parent_report.h"

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

int
main(int argc, char *argv[])
{
	struct conf_options options;
	struct conf conf;
	enum exit_code code;

	log_set_program("nsproxy");
	log_set_journal(outputs_stderr_is_journal());
	if (!options_parse(argc, argv, &options, &code)) {
		options_free(&options);
		return code;
	}
	code = conf_load(&options, &conf);
	if (code == EXIT_OK) {
		log_set_level(conf.log_level);
		code = options.check || options.dump ? print(&options, &conf) : parent_run(&conf);
		conf_free(&conf);
	}
	options_free(&options);
	return code;
}
