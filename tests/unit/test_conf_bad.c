/* SPDX-License-Identifier: ISC */
/*
 * Configurations that are wrong in one way: what each says, where, and with which exit code.
 * Runs in: parent
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "conf_support.h"

/* Each is wrong in one way only, so one line must say it. */
static const struct {
	const char *text;
	int line;			/* 0: the file as a whole */
	const char *what;
} bad_files[] = {
	/* form */
	{ "", 0, "there is no service" },
	{ TOP "# nothing\n", 0, "there is no service" },
	{ TOP "service s {\n listen = \"127.0.0.1:1\"\n", 2, "'{' is never closed" },
	{ TOP "service s {\n listen = \"127.0.0.1:1\" connect = \"127.0.0.1:2\"\nservice t {\n}\n", 4, "a service within a service" },
	{ TOP SERVICE "}\n", 3, "'}' closes nothing" },
	{ TOP "service {\n}\n", 2, "needs a name" },
	{ TOP "service s\n", 3, "'{' is missing" },
	{ TOP "service s { listen = {\"127.0.0.1:1\", \n", 3, "ends within a list" },
	{ TOP "service s { listen = {\"127.0.0.1:1\" \"127.0.0.1:3\"} }\n", 2, "lacks a comma" },
	{ TOP "service s { listen {\"127.0.0.1:1\"} }\n", 2, "'=' is missing" },
	{ TOP "workers =\n" SERVICE, 2, "a value is missing" },
	{ TOP "workers 3\n" SERVICE, 2, "'=' is missing" },
	{ TOP "workers\n", 2, "'=' is missing" },
	{ TOP "= 3\n" SERVICE, 2, "a key is expected" },
	{ "user = \"nobody\n" SERVICE, 1, "string is never closed" },
	{ "user = 'nobody\n" SERVICE, 1, "string is never closed" },
	{ "user = \"no\\x62ody\"\n" SERVICE, 1, "unknown escape" },
	{ TOP "/* never\n closed\n" SERVICE, 2, "comment is never closed" },
	{ "user = \"${HOME}\"\n" SERVICE, 1, "${...} is not replaced" },
	{ "user = ${HOME}\n" SERVICE, 1, "${...} is not replaced" },
	{ "user = '${HOME}'\n" SERVICE, 1, "${...} is not replaced" },
	{ "user = nobody${HOME}\n" SERVICE, 1, "${...} is not replaced" },
	{ TOP "service s { listen = *:1 connect = \"127.0.0.1:2\" }\n", 2, "only allowed within quotes" },
	{ TOP "workers = +3\n" SERVICE, 2, "only allowed within quotes" },
	{ TOP "log = \xff\xfe\n" SERVICE, 2, "only allowed within quotes" },
	{ TOP "log = \"\x01\"\n" SERVICE, 2, "control character" },
	{ "* x\n" TOP SERVICE, 1, "only allowed within quotes" },
	{ TOP "a{a{a{a{a{a{a{a{a{a{a{a{a{a{a{a{a{a{a{a{\n", 2, NULL },
	/* keys */
	{ TOP "wokers = 3\n" SERVICE, 2, "unknown key 'wokers'" },
	{ TOP "Workers = 3\n" SERVICE, 2, "unknown key 'Workers'" },
	{ TOP "service|listen = 3\n" SERVICE, 2, "unknown key" },
	{ TOP "listen = \"127.0.0.1:1\"\n" SERVICE, 2, "belongs into a service" },
	{ IN(" user = nobody"), 5, "belongs outside of services" },
	{ IN(" include(\"x\")"), 5, "does not work within a service" },
	{ TOP "server x {\n a = 1\n b { c = 2 }\n}\n" SERVICE, 2, "unknown section 'server'" },
	{ TOP "workers = 3\nlog = stderr\nworkers = 3\n" SERVICE, 4, "workers: is set a second time" },
	{ IN(" backlog = 1\n backlog = 2"), 6, "backlog: is set a second time" },
	{ IN(" listen = \"127.0.0.1:3\""), 5, "listen: is set a second time" },
	{ TOP "workers = {1, 2}\n" SERVICE, 2, "one value, not a list" },
	{ TOP "workers += 2\n" SERVICE, 2, "one value, not a list" },
	{ TOP SERVICE "\n" SERVICE, 4, "a service 's' already, at " },
	{ TOP "service \"a b\" { listen = \"127.0.0.1:1\" connect = \"127.0.0.1:2\" }\n", 2, "no service name" },
	{ TOP "service \"\" { listen = \"127.0.0.1:1\" connect = \"127.0.0.1:2\" }\n", 2, "no service name" },
	{ TOP "service a123456789012345678901234567890123456789012345678901234567890123 { listen = \"127.0.0.1:1\" connect = \"127.0.0.1:2\" }\n", 2,
	    "longer than 63 bytes" },
	/* values */
	{ TOP "workers = many\n" SERVICE, 2, "workers: 'many': not a number" },
	{ TOP "workers = -1\n" SERVICE, 2, "not a number" },
	{ TOP "workers = 99999999999999999999999\n" SERVICE, 2, "too large" },
	{ TOP "workers = 0x10\n" SERVICE, 2, "not a number" },
	{ TOP "workers = \"\"\n" SERVICE, 2, "not a number" },
	{ IN(" backlog = 0"), 5, "too small" },
	{ IN(" max-connections = 0"), 5, "too small" },
	{ IN(" idle-timeout = 5"), 5, "unit is missing" },
	{ IN(" idle-timeout = 5m"), 5, "not a time" },
	{ IN(" idle-timeout = -5s"), 5, "not a time" },
	{ IN(" idle-timeout = 1.5s"), 5, "not a time" },
	{ IN(" idle-timeout = \"5 s\""), 5, "not a time" },
	{ IN(" idle-timeout = 18446744073709551615h"), 5, "too long" },
	{ IN(" idle-timeout = 99999999999999999999ms"), 5, "too long" },
	{ IN(" user-timeout = 600h"), 5, "too long" },
	{ IN(" connect-timeout = 0"), 5, "connect-timeout: '0'" },
	{ IN(" unix-mode = 0999"), 5, "not an octal mode" },
	{ IN(" unix-mode = 7777"), 5, "permission bits" },
	{ IN(" keepalive = maybe"), 5, "neither true nor false" },
	{ IN(" engine = warp"), 5, "no such engine" },
	{ IN(" engine = sockmap"), 5, "engine sockmap is not compiled in" },
	{ IN(" access-log = printer"), 5, "neither none, log nor file:PATH" },
	{ IN(" access-log = \"file:\""), 5, "is missing" },
	{ TOP "log = printer\n" SERVICE, 2, "neither stderr, syslog nor file:PATH" },
	{ TOP "log-level = loud\n" SERVICE, 2, "neither err" },
	{ TOP "access-format = xml\n" SERVICE, 2, "neither pairs nor json" },
	{ TOP "worker-users = 100\n" SERVICE, 2, "not a range" },
	{ TOP "worker-users = 200-100\n" SERVICE, 2, "backwards" },
	{ TOP "worker-users = 0-100\n" SERVICE, 2, "too small" },
	{ TOP "workers = 3\nworker-users = 100-101\n" SERVICE, 3, "2 uids are not enough for 3 workers" },
	{ TOP "metrics = \"10.0.0.1\"\n" SERVICE, 2, "port is missing" },
	{ TOP "metrics = \"10.0.0.1:1-2\"\n" SERVICE, 2, "one port is enough" },
#ifdef HAVE_MICROHTTPD
	{ TOP "metrics = \"*:1\"\n" SERVICE, 2, "overlaps the listener" },
#else
	{ TOP "metrics = \"127.0.0.1:9\"\n" SERVICE, 2, "without libmicrohttpd" },
#endif
	{ "user = root\n" SERVICE, 1, "must not run as root" },
	/* endpoints */
	{ TOP "service s {\n}\n", 2, NULL },
	{ TOP "service s { connect = \"127.0.0.1:2\" }\n", 2, "has no listen" },
	{ TOP "service s { listen = {} connect = \"127.0.0.1:2\" }\n", 2, "has no listen" },
	{ TOP "service s { listen = \"127.0.0.1:1\" }\n", 2, "has no connect" },
	{ TOP "service s { listen = \"127.0.0.1:1\" connect = {\"127.0.0.1:2\",\n \"127.0.0.1:3\"} }\n", 3, "more than one target" },
	{ TOP "service s { listen = {\"127.0.0.1:1\",\n\n # x\n"
	    " \"127.0.0.1:70000\"} connect = \"127.0.0.1:2\" }\n", 5, "'127.0.0.1:70000': port out of range" },
	{ TOP "service s { listen = \"127.0.0.1:1\" connect = \"127.0.0.1:0\" }\n", 2, "port 0 cannot be connected to" },
	{ TOP "service s { listen = \"127.0.0.1:1\" connect = \"*:2\" }\n", 2, "a target is one address" },
	{ TOP "service s { listen = \"127.0.0.1:1-3\" connect = \"127.0.0.1:1-2\" }\n", 2, "2 ports do not match the 3" },
	{ TOP "service s { listen = \"127.0.0.1:1\" connect = \"a/b@127.0.0.1:1\" }\n", 2, "'a/b' is no namespace" },
	{ TOP "service s { listen = \"127.0.0.1:1\" connect = \"/run/../x@127.0.0.1:1\" }\n", 2, "is no namespace" },
	{ TOP "service s { listen = \"127.0.0.1:1\" connect = \"..@127.0.0.1:1\" }\n", 2, "is no namespace" },
	{ TOP "service s { listen = \"127.0.0.1:1\" connect = \"pid:x@127.0.0.1:1\" }\n", 2, "is no namespace" },
	{ IN(" source = localhost"), 5, "not a literal address" },
	{ IN(" source = \"127.0.0.1:1\""), 5, "not a" },
	{ IN(" source = \"::1\""), 5, "not of the same family" },
	{ TOP "service s { listen = \"127.0.0.1:1\" connect = \"unix:/x\" source = \"127.0.0.1\" }\n", 2, "no source address" },
	{ IN("}\nservice t {\n listen = \"127.0.0.1:1\" connect = \"127.0.0.1:2\""), 7, "overlaps the listener '127.0.0.1:1'" },
	{ IN("}\nservice t {\n listen = \"*:1\" connect = \"127.0.0.1:2\""), 7, "overlaps" },
	{ IN("}\nservice t {\n listen = \"0.0.0.0:1-9\" connect = \"127.0.0.1:2\""), 7, "overlaps" },
	{ TOP "service s { listen = {\"unix:/a\",\n \"unix:/a\"} connect = \"127.0.0.1:2\" }\n", 3, "overlaps" },
	/* include */
	{ TOP "include(\"missing.conf\")\n" SERVICE, 2, "No such file" },
	{ TOP "include(\"t.conf\")\n" SERVICE, 2, "includes itself" },
	{ TOP "include(\".\")\n" SERVICE, 2, "Is a directory" },
	{ TOP "include()\n" SERVICE, 2, "needs a file name" },
	{ TOP "include \"x\"\n" SERVICE, 2, "'(' is missing" },
	{ TOP "include(\"x\"\n" SERVICE, 3, "')' is missing" },
};

static void
test_bad_files(void **state)
{
	size_t i;

	(void)state;
	for (i = 0; i < 2 * sizeof(bad_files) / sizeof(bad_files[0]); i++) {
		const char *text = bad_files[i / 2].text, *what = bad_files[i / 2].what;
		struct conf_options options = { .check = i % 2 != 0 };
		char place[160];
		struct conf conf;
		enum exit_code code = load_text(text, &conf, options);

		if (bad_files[i / 2].line != 0)
			snprintf(place, sizeof(place), "%s:%d: ", path_of("t.conf"), bad_files[i / 2].line);
		else
			snprintf(place, sizeof(place), "%s: ", path_of("t.conf"));
		if (code != EXIT_CONFIG || strncmp(said, place, strlen(place)) != 0 || (what != NULL && (strstr(said, what) == NULL || lines != 1)))
			fail_msg("exit code %d, %u lines, not '%s...%s':\n%s\nfor:\n"
	    "%s", (int)code, lines, place, what != NULL ? what : "", said, text);
	}
}

/* What the machine refuses has its own code at start; checking a file, all is the file's fault. */
static void
test_machine(void **state)
{
	static const struct {
		const char *text;
		enum exit_code code;
		const char *what;
		bool only_check;
	} rows[] = {
		{ "user = no-such-user\n" SERVICE, EXIT_MACHINE, "user 'no-such-user' does not exist", false },
		{ "user = \"nobody:no-such-group\"\n" SERVICE, EXIT_MACHINE, "group 'no-such-group' does not exist", false },
		{ TOP "control-group = no-such-group\n" SERVICE, EXIT_MACHINE, "'no-such-group'", false },
		{ IN(" unix-owner = no-such-user"), EXIT_MACHINE, "'no-such-user'", false },
		{ TOP "service s { listen = \"127.0.0.1:1\" connect = \"no-such-netns@127.0.0.1:2\" }\n", EXIT_NAMESPACE,
		    "cannot open network namespace 'no-such-netns' (/run/netns/no-such-netns): No such file or directory; create it with: ip netns add", true },
		{ TOP "service s { listen = \"127.0.0.1:1\" connect = \"no-such-netns@localhost:2\" }\n", EXIT_NAMESPACE, "'no-such-netns'", false },
		{ TOP "service s { listen = \"127.0.0.1:1\" connect = \"/etc/passwd@127.0.0.1:2\" }\n", EXIT_NAMESPACE, "is not a network namespace", true },
		{ TOP "service s { listen = \"127.0.0.1:1\" connect = \"/proc/self/ns/mnt@127.0.0.1:2\" }\n", EXIT_NAMESPACE,
		    "is not a network namespace", true },
		{ TOP "service s { listen = \"192.0.2.1:1\" connect = \"127.0.0.1:2\" }\n", EXIT_MACHINE, "Cannot assign requested address", true },
		{ TOP "service s { listen = \"127.0.0.1:1\" connect = \"127.0.0.1:2\" source = \"192.0.2.1\" }\n", EXIT_MACHINE, "Cannot assign", true },
		{ TOP "service s { listen = \"unix:/no/such/dir/s\" connect = \"127.0.0.1:2\" }\n", EXIT_MACHINE, "No such file", true },
	};
	size_t i;

	(void)state;
	for (i = 0; i < 2 * sizeof(rows) / sizeof(rows[0]); i++) {
		struct conf_options options = { .check = i % 2 != 0 };
		struct conf conf;
		enum exit_code code = load_text(rows[i / 2].text, &conf, options);
		enum exit_code wanted = options.check ? EXIT_CONFIG : rows[i / 2].only_check ? EXIT_OK : rows[i / 2].code;

		if (code != wanted || (wanted == EXIT_OK ? lines != 0 : lines != 1 || strstr(said, rows[i / 2].what) == NULL))
			fail_msg("exit code %d, not %d: %s\nfor:\n%s", (int)code, (int)wanted, said, rows[i / 2].text);
		conf_free(&conf);
	}
}

static void
test_bad_pairs(void **state)
{
	static const struct {
		const char *listen, *connect, *engine, *workers, *access;
		bool check;
		enum exit_code code;
		const char *what;
	} rows[] = {
		{ "127.0.0.1:1", "127.0.0.1:99999", NULL, NULL, NULL, false, EXIT_CMDLINE, "-c: '127.0.0.1:99999': port out of range" },
		{ "", "127.0.0.1:2", NULL, NULL, NULL, false, EXIT_CMDLINE, "-l: ''" },
		{ "127.0.0.1:1-3", "127.0.0.1:2-3", NULL, NULL, NULL, true, EXIT_CMDLINE, "do not match" },
		{ "127.0.0.1:1", "127.0.0.1:2", "warp", NULL, NULL, false, EXIT_CMDLINE, "-e: 'warp': no such engine" },
		{ "127.0.0.1:1", "127.0.0.1:2", "sockmap", NULL, NULL, false, EXIT_CMDLINE, "-e: engine sockmap is not compiled in" },
		{ "127.0.0.1:1", "127.0.0.1:2", NULL, "-3", NULL, false, EXIT_CMDLINE, "-w: '-3': not a number" },
		{ "127.0.0.1:1", "127.0.0.1:2", NULL, NULL, "printer", false, EXIT_CMDLINE, "-a: 'printer'" },
		{ "127.0.0.1:1", "no-such-netns@127.0.0.1:2", NULL, NULL, NULL, true, EXIT_NAMESPACE, "'no-such-netns'" },
		{ "192.0.2.1:1", "127.0.0.1:2", NULL, NULL, NULL, true, EXIT_MACHINE, "'192.0.2.1:1'" },
		{ "unix:/a234567890123456789012345678901234567890123456789012345678901234", "127.0.0.1:2", NULL, NULL, NULL, false, EXIT_CMDLINE,
		    "longer than 63 bytes" },
	};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct conf_pair pair = { rows[i].listen, rows[i].connect };
		struct conf_options options = { .engine = rows[i].engine, .workers = rows[i].workers, .access = rows[i].access, .check = rows[i].check,
			.user = "nobody", .pairs = &pair, .n_pairs = 1 };
		struct conf conf;
		enum exit_code code = load(&options, &conf);

		if (code != rows[i].code || lines != 1 || strstr(said, rows[i].what) == NULL)
			fail_msg("exit code %d, not %d and %s:\n%s", (int)code, (int)rows[i].code, rows[i].what, said);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bad_files),
		cmocka_unit_test(test_machine),
		cmocka_unit_test(test_bad_pairs),
	};

	return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
