/* SPDX-License-Identifier: ISC */
/*
 * Configurations: what right ones become, and what happens to a whole file or set of files.
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
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "conf_support.h"

/* One run finds everything; the first error decides the code. */
static void
test_all_errors(void **state)
{
	static const char *const places[] = { "2: unknown key 'no-such-key'", "3: engine: 'warp'", "5: listen: '127.0.0.1:70000'",
		"8: there is a service 'web'", "10: listen: cannot use '192.0.2.1:1'",
		"11: cannot open network namespace 'no-such-netns'", "13: this '{' is never closed" };
	struct conf_options options = { .check = true };
	struct conf conf;
	size_t i;

	(void)state;
	assert_int_equal(load_text(TOP "no-such-key = 1\nengine = warp\nservice web {\n listen = \"127.0.0.1:70000\"\n connect = \"127.0.0.1:1\"\n}\n"
	    "service web { }\nservice x {\n listen = \"192.0.2.1:1\"\n connect = \"no-such-netns@127.0.0.1:1\"\n}\nservice open {\n", &conf, options),
	    EXIT_CONFIG);
	for (i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		char place[160];

		snprintf(place, sizeof(place), "t.conf:%s", places[i]);
		if (strstr(said, place) == NULL)
			fail_msg("%s is not in:\n%s", place, said);
	}
	assert_int_equal(lines, i);
}

static void
test_garbage(void **state)
{
	static const char nul[] = "user = nobody\n\0service", garbage[] = "\x7f" "ELF\x02\x01\x01\0\0\0\0\0\0";
	struct conf_options options = { .file = NULL };
	struct conf conf;

	(void)state;
	write_file("g.conf", nul, sizeof(nul) - 1);
	options.file = path_of("g.conf");
	assert_int_equal(load(&options, &conf), EXIT_CONFIG);
	assert_non_null(strstr(said, "g.conf:2: a NUL byte"));
	write_file("g.conf", garbage, sizeof(garbage) - 1);
	assert_int_equal(load(&options, &conf), EXIT_CONFIG);
	assert_non_null(strstr(said, "g.conf:1: a control character"));
	options.file = dir;
	assert_int_equal(load(&options, &conf), EXIT_CONFIG);
	assert_non_null(strstr(said, "Is a directory"));
	options.file = "/no/such/file.conf";
	assert_int_equal(load(&options, &conf), EXIT_CONFIG);
	assert_non_null(strstr(said, "cannot read '/no/such/file.conf': No such file"));
	options.file = "/dev/zero";
	assert_int_equal(load(&options, &conf), EXIT_CONFIG);
	assert_int_equal(lines, 1);
}

#ifdef HAVE_MICROHTTPD
#define METRICS "metrics = \"127.0.0.1:11\"\n"
#else
#define METRICS ""
#endif

static void
test_good_file(void **state)
{
	struct conf_options options = { .check = false };	/* a namespace without ::1 is no failure of this */
	struct conf conf;
	const struct conf_service *service;

	(void)state;
	assert_int_equal(load_text("# c\n/* d\n */ user = \"nobody\" // e\r\nworkers = 3\nlog = 'file:/x\\'y'\nlog-level = debug\n"
	    "access-log = \"file:/a b\"\n"
	    "access-format = json\nlog-empty = no\ncontrol = \"\"\ncontrol-mode = 600\ncontrol-group = 0\n"
	    METRICS "drain-timeout = 1500ms\n"
	    "engine = copy\nworker-users = 100-200\n"
	    "service web { # f\n listen = {\"127.0.0.1:1-2\", \"*:9-10\"}\n listen += {\"[::1]:5-6\"}\n"
	    " connect = {\"127.0.0.1:8-9\",}\n engine = splice\n"
	    " max-connections = 7\n backlog = 16\n source = 127.0.0.1\n connect-timeout = 500ms\n idle-timeout = 0\n half-close-timeout = 10min\n"
	    " keepalive = off\n user-timeout = 2h\n log-empty = TRUE\n access-log = none\n wait-for-netns = yes\n"
	    " unix-mode = \"0660\"\n unix-owner = \"0:0\"\n}\n"
	    "service two { listen = \"unix:/tmp/s\" connect = \"/proc/self/ns/net@127.0.0.1:80\" }\n", &conf, options), EXIT_OK);
	assert_string_equal(said, "");
	assert_string_equal(conf.user, "nobody");
	assert_int_equal(conf.uid, 65534);
	assert_int_equal(conf.workers, 3);
	assert_int_equal(conf.worker_uid_last, 200);
	assert_int_equal(conf.log.kind, CONF_LOG_FILE);
	assert_string_equal(conf.log.path, "/x'y");
	assert_int_equal(conf.log_level, LOG_L_DEBUG);
	assert_int_equal(conf.access_format, ACCESS_JSON);
	assert_string_equal(conf.control, "");
	assert_int_equal(METRICS[0] != '\0' ? 11 : 0, conf.metrics != NULL ? addr_port(&conf.metrics_at.addr) : 0);
	assert_int_equal(conf.control_mode, 0600);
	assert_int_equal(conf.drain_timeout_ms, 1500);
	assert_int_equal(conf.n_services, 2);
	assert_int_equal(conf.n_netns, 1);	/* "" and its path are one */
	service = &conf.services[0];
	assert_string_equal(service->name, "web");
	assert_int_equal(service->line, METRICS[0] != '\0' ? 17 : 16);
	assert_int_equal(service->n_listen, 3);
	assert_int_equal(service->listen[0].port_last, 2);
	assert_true(service->listen[1].any);
	assert_int_equal(addr_port(&service->listen[2].addr), 5);
	assert_int_equal(service->engine, ENGINE_SPLICE);
	assert_int_equal(service->max_connections, 7);
	assert_int_equal(service->backlog, 16);
	assert_int_equal(service->source.u.sa.sa_family, AF_INET);
	assert_int_equal(service->connect_timeout_ms, 500);
	assert_int_equal(service->idle_timeout_ms, 0);
	assert_int_equal(service->half_close_timeout_ms, 600000);
	assert_false(service->keepalive);
	assert_int_equal(service->user_timeout_ms, 7200000);
	assert_true(service->log_empty);
	assert_int_equal(service->access.kind, CONF_LOG_NONE);
	assert_true(service->wait_for_netns);
	assert_int_equal(service->unix_mode, 0660);
	service = &conf.services[1];
	assert_int_equal(service->listen[0].addr.u.sa.sa_family, AF_UNIX);
	assert_int_equal(service->engine, ENGINE_COPY);
	assert_string_equal(service->access.path, "/a b");
	assert_false(service->log_empty);
	assert_int_equal(service->idle_timeout_ms, 3600000);
	conf_free(&conf);
}

static void
test_defaults_and_options(void **state)
{
	struct conf_pair pairs[] = { { "127.0.0.1:1", "127.0.0.1:2" }, { "unix:@x", "unix:/y" } };
	struct conf_options options = { .user = "nobody", .pairs = pairs, .n_pairs = 2 };
	struct conf conf;

	(void)state;
	assert_int_equal(setenv("NOTIFY_SOCKET", "/x", 1), 0);
	assert_int_equal(setenv("LISTEN_FDS", "3", 1), 0);
	assert_int_equal(setenv("LD_PRELOADED", "/x", 1), 0);
	assert_int_equal(load(&options, &conf), EXIT_OK);
	assert_null(getenv("LD_PRELOADED"));
	assert_null(getenv("PATH"));
	assert_string_equal(getenv("NOTIFY_SOCKET"), "/x");
	assert_string_equal(getenv("LISTEN_FDS"), "3");
	assert_true(conf.workers >= 1);
	assert_true(conf.worker_uid_first > conf.worker_uid_last);
	assert_string_equal(conf.services[0].name, "127.0.0.1:1");
	assert_string_equal(conf.services[1].name, "unix:@x");
	assert_null(conf.services[0].file);
	assert_int_equal(conf.services[0].engine, ENGINE_ADAPTIVE);
	assert_int_equal(conf.services[0].access.kind, CONF_LOG_SAME);
	assert_string_equal(conf.control, RUNSTATEDIR "/nsproxy/control.sock");
	assert_int_equal(conf.log_level, LOG_L_NOTICE);
	conf_free(&conf);

	options = (struct conf_options){ .user = "nobody", .engine = "splice", .access = "file:/z", .workers = "5", .socket = "/s", .pidfile = "/p",
		.verbose = 2, .background = true };
	assert_int_equal(load_text("user = no-such-user\nworkers = 1\nengine = copy\nlog-level = err\nservice s { listen = \"127.0.0.1:1\" "
	    "connect = \"127.0.0.1:2\" engine = copy access-log = \"file:/q\" }\n", &conf, options), EXIT_OK);
	assert_int_equal(conf.workers, 5);
	assert_int_equal(conf.services[0].engine, ENGINE_SPLICE);
	assert_string_equal(conf.services[0].access.path, "/z");
	assert_string_equal(conf.control, "/s");
	assert_string_equal(conf.pidfile, "/p");
	assert_int_equal(conf.log_level, LOG_L_DEBUG);
	assert_true(conf.background);
	conf_free(&conf);
}

static void
test_one_id(void **state)
{
	struct conf_pair pair = { "127.0.0.1:1", "127.0.0.1:2" };
	struct conf_options options = { .pairs = &pair, .n_pairs = 1 };
	struct conf conf;

	(void)state;
	conf_one_id = true;
	assert_int_equal(load(&options, &conf), EXIT_OK);
	assert_null(conf.user);
	assert_int_equal(conf.uid, geteuid());
	assert_true(conf.one_id);
	conf_free(&conf);
	options.user = "12345:12345";
	assert_int_equal(load(&options, &conf), EXIT_MACHINE);
	assert_non_null(strstr(said, "maps a single id"));
	conf_one_id = false;
}

static void
test_include(void **state)
{
	static const char a[] = "service a { listen = \"127.0.0.1:1\" connect = \"127.0.0.1:9\" }\n";
	static const char b[] = "\n\nservice b { listen = \"127.0.0.1:2\" connect = \"127.0.0.1:9\" }\n";
	static const char left_open[] = "service c {\n", twice[] = "\nuser = nobody\n";
	struct conf_options options = { .check = true };
	struct conf conf;

	(void)state;
	assert_int_equal(mkdir(path_of("d"), 0700), 0);
	write_file("d/10-b.conf", b, sizeof(b) - 1);
	write_file("d/20-a.conf", a, sizeof(a) - 1);
	write_file("d/readme", "nonsense", 8);
	assert_int_equal(load_text("include(\"d/*.conf\")\ninclude(\"d/*.none\")\nuser = nobody\n"
	    "service z { listen = \"127.0.0.1:3\"\n connect = \"127.0.0.1:99999\" }\n",
	    &conf, options), EXIT_CONFIG);
	assert_int_equal(lines, 1);
	assert_non_null(strstr(said, "t.conf:5: "));
	assert_int_equal(load_text("include(\"d/*.conf\")\nuser = nobody\n", &conf, options), EXIT_OK);
	assert_string_equal(conf.services[0].name, "b");
	assert_int_equal(conf.services[0].line, 3);
	assert_non_null(strstr(conf.services[0].file, "d/10-b.conf"));
	assert_string_equal(conf.services[1].name, "a");
	conf_free(&conf);
	write_file("d/30-c.conf", left_open, sizeof(left_open) - 1);
	assert_int_equal(load_text("include(\"d/*.conf\")\nuser = nobody\n", &conf, options), EXIT_CONFIG);
	assert_int_equal(lines, 1);
	assert_non_null(strstr(said, "d/30-c.conf:1: this '{' is never closed"));
	write_file("d/30-c.conf", twice, sizeof(twice) - 1);
	assert_int_equal(load_text("user = nobody\ninclude(\"d/*.conf\")\n", &conf, options), EXIT_CONFIG);
	assert_non_null(strstr(said, "d/30-c.conf:2: user: is set a second time"));
	/* A bad run leaves nothing behind in libconfuse that a good one, as at a reload, would trip over. */
	assert_int_equal(unlink(path_of("d/30-c.conf")), 0);
	assert_int_equal(load_text("include(\"d/*.conf\")\nuser = nobody\n", &conf, options), EXIT_OK);
	assert_int_equal(conf.n_services, 2);
	conf_free(&conf);
	assert_int_equal(unlink(path_of("d/10-b.conf")) | unlink(path_of("d/20-a.conf")) | unlink(path_of("d/readme")) | rmdir(path_of("d")), 0);
}

static void
test_waiting_for_a_namespace(void **state)
{
	struct conf_options options = { .check = true };
	struct conf conf;

	(void)state;
	assert_int_equal(load_text(TOP "wait-for-netns = true\n"
	    "service s { listen = \"127.0.0.1:1\" connect = \"no-such-netns@127.0.0.1:2\" }\n", &conf, options),
	    EXIT_OK);
	assert_int_equal(conf.n_netns, 2);
	assert_string_equal(conf.netns[1].path, "/run/netns/no-such-netns");
	assert_int_equal(conf.services[0].connect.netns, 1);
	conf_free(&conf);
	assert_int_equal(load_text(TOP "wait-for-netns = true\n"
	    "service s { listen = \"127.0.0.1:1\" connect = \"no-such-netns@localhost:2\" }\n", &conf, options),
	    EXIT_CONFIG);
	assert_non_null(strstr(said, "write a literal address"));
}

static void
test_listeners_that_do_not_overlap(void **state)
{
	struct conf_options options = { .file = NULL };
	struct conf conf;

	(void)state;
	assert_int_equal(load_text(TOP "service s { listen = {\"127.0.0.1:1\", \"127.0.0.2:1\", \"[::]:1\", \"127.0.0.1:2-9\", \"x@*:1\", \"*:0\", \"*:0\", "
	    "\"unix:/a\", \"unix:@/a\"} connect = \"127.0.0.1:2\" }\n", &conf, options), EXIT_OK);
	assert_int_equal(conf.services[0].n_listen, 9);
	conf_free(&conf);
}

/* Where the kernel chooses the port, one address may be given again and again. */
static void
test_same_listener_on_the_command_line(void **state)
{
	struct conf_pair pairs[] = { { "127.0.0.1:0", "127.0.0.1:2" }, { "127.0.0.1:0", "127.0.0.1:3" } };
	struct conf_options options = { .user = "nobody", .pairs = pairs, .n_pairs = 2 };
	struct conf conf;

	(void)state;
	assert_int_equal(load(&options, &conf), EXIT_OK);
	assert_int_equal(conf.n_services, 2);
	conf_free(&conf);
	pairs[0].listen = pairs[1].listen = "127.0.0.1:1";
	assert_int_equal(load(&options, &conf), EXIT_CMDLINE);
	assert_int_equal(lines, 1);
	assert_non_null(strstr(said, "-l: '127.0.0.1:1' overlaps the listener '127.0.0.1:1'"));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_all_errors),
		cmocka_unit_test(test_garbage),
		cmocka_unit_test(test_good_file),
		cmocka_unit_test(test_defaults_and_options),
		cmocka_unit_test(test_one_id),
		cmocka_unit_test(test_include),
		cmocka_unit_test(test_waiting_for_a_namespace),
		cmocka_unit_test(test_listeners_that_do_not_overlap),
		cmocka_unit_test(test_same_listener_on_the_command_line),
	};

	return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
