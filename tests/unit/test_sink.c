/* SPDX-License-Identifier: ISC */
/*
 * Outputs that are full, stuck, or replaced: lines are lost and counted, never torn, and nothing ever waits.
 * Runs in: any
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fdutil.h"
#include "reporter_sink.h"

#define SECOND 1u			/* an output that is not the log */
#define GOT_MAX (1u << 22)

static struct sink sink;
static char got[4u << 20];		/* what drain() has read, terminated */
static size_t got_size;

static int
set_up(void **state)
{
	(void)state;
	sink_init(&sink, 77);
	got_size = 0;
	got[0] = '\0';
	return 0;
}

static int
tear_down(void **state)
{
	(void)state;
	sink_free(&sink);
	return 0;
}

static void
output(uint32_t id, uint32_t kind, int fd)
{
	assert_int_not_equal(fd, -1);
	assert_int_equal(sink_set(&sink, id, kind, &fd), 0);
	assert_int_equal(fd, -1);
}

static void
line(uint32_t id, unsigned number)
{
	struct text text;

	if (!sink_line_begin(&sink, id, LOG_L_INFO, &text))
		return;
	text_str(&text, "line ");
	text_u64(&text, number);
	for (unsigned i = 0; i < 20; i++)
		text_str(&text, " padding");
	sink_line_end(&sink, id, &text);
}

static void
log_text(unsigned level, const char *text)
{
	sink_log(&sink, level, "", text, strlen(text) + 1);
}

/* Appends to got whatever is there. */
static void
drain(int fd)
{
	ssize_t n;

	assert_int_equal(fd_set_nonblocking(fd), 0);
	while ((n = read(fd, got + got_size, GOT_MAX - 1 - got_size)) > 0)
		got_size += (size_t)n;
	got[got_size] = '\0';
}

/* Lines of got that line() wrote, each whole and in order; the text of the one that is none of them goes to *other. */
static unsigned
count_lines(const char **other)
{
	unsigned n = 0;
	long last = -1;

	*other = NULL;
	for (char *at = got, *newline; *at != '\0'; at = newline + 1) {
		newline = strchr(at, '\n');
		assert_non_null(newline);
		*newline = '\0';
		if (strncmp(at, "line ", 5) == 0) {
			assert_true(strtol(at + 5, NULL, 10) > last);
			last = strtol(at + 5, NULL, 10);
			assert_string_equal(strchr(at + 5, ' ') + (size_t)8 * 19, " padding");
			n++;
		} else {
			assert_null(*other);
			*other = at;
		}
	}
	return n;
}

static void
make_pipe(int ends[2])
{
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
}

/* Pipe of any flags: fills, loses, goes on when it is read, says once how many were lost. */
static void
run_full_pipe(int flags)
{
	int ends[2];
	unsigned lost = 0;
	const char *other;
	char expected[128];

	make_pipe(ends);
	if (flags != 0)
		assert_int_equal(fcntl(ends[1], F_SETFL, flags), 0);
	output(OUTPUT_LOG, OUTPUT_STREAM, ends[1]);
	for (unsigned i = 0; i < 10000; i++)
		line(OUTPUT_LOG, i);
	assert_true(sink_flush(&sink));
	lost = (unsigned)sink.outputs[OUTPUT_LOG].lost;
	assert_true(lost > 0 && lost < 10000);
	do
		drain(ends[0]);
	while (sink_flush(&sink));
	drain(ends[0]);
	line(OUTPUT_LOG, 10000);
	assert_false(sink_flush(&sink));
	drain(ends[0]);
	assert_int_equal(count_lines(&other), 10001 - lost);
	(void)snprintf(expected, sizeof(expected), "nsproxy: %u log lines were lost (the reader was too slow or stopped)", lost);
	assert_non_null(other);
	assert_string_equal(other, expected);
	fd_close(&ends[0]);
}

static void
full_pipe(void **state)
{
	(void)state;
	run_full_pipe(0);
}

static void
full_pipe_nonblocking(void **state)
{
	(void)state;
	run_full_pipe(O_NONBLOCK);
}

/* A stream socket takes lines in parts. */
static void
partial_writes(void **state)
{
	int ends[2], small = 4096;
	const char *other;
	unsigned lost;

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
	assert_int_equal(setsockopt(ends[1], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)), 0);
	output(OUTPUT_LOG, OUTPUT_STREAM, ends[1]);
	for (unsigned i = 0; i < 1000; i++)
		line(OUTPUT_LOG, i);
	assert_true(sink_flush(&sink));
	lost = (unsigned)sink.outputs[OUTPUT_LOG].lost;
	do
		drain(ends[0]);
	while (sink_flush(&sink));
	drain(ends[0]);
	assert_int_equal(count_lines(&other), 1000 - lost);
	assert_int_equal(other != NULL, lost > 0);
	fd_close(&ends[0]);
}

/* A file that may not grow, as on a full disk: the line that was cut is completed once there is room. */
static void
full_disk(void **state)
{
	int file = memfd_create("disk", MFD_CLOEXEC), log = memfd_create("log", MFD_CLOEXEC);
	struct rlimit limit, small;
	unsigned lost;
	const char *other;

	(void)state;
	assert_ptr_not_equal(signal(SIGXFSZ, SIG_IGN), SIG_ERR);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
	small = limit;
	small.rlim_cur = 100001;
	output(OUTPUT_LOG, OUTPUT_STREAM, dup(log));
	output(SECOND, OUTPUT_STREAM, dup(file));
	sink_label(&sink, SECOND, "access log of service 'web'");
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
	for (unsigned i = 0; i < 20000; i++)
		line(SECOND, i);
	assert_true(sink_flush(&sink));
	assert_true(sink.outputs[SECOND].torn);
	lost = (unsigned)sink.outputs[SECOND].lost;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
	assert_false(sink_flush(&sink));
	assert_int_equal(lseek(file, 0, SEEK_SET), 0);
	drain(file);
	assert_int_equal(count_lines(&other), 20000 - lost);
	/* Not a line of the access log: in the log. */
	assert_null(other);
	assert_int_equal(lseek(log, 0, SEEK_SET), 0);
	got_size = 0;
	drain(log);
	assert_memory_equal(got, "nsproxy: access log of service 'web': ", 38);
	assert_non_null(strstr(got, " log lines were lost (File too large)\n"));
	fd_close(&file);
	fd_close(&log);
}

static void
reader_gone_and_replaced(void **state)
{
	int ends[2], file = memfd_create("new", MFD_CLOEXEC);
	const char *other;

	(void)state;
	assert_ptr_not_equal(signal(SIGPIPE, SIG_IGN), SIG_ERR);
	make_pipe(ends);
	output(OUTPUT_LOG, OUTPUT_STREAM, ends[1]);
	fd_close(&ends[0]);
	line(OUTPUT_LOG, 1);
	line(OUTPUT_LOG, 2);
	assert_true(sink_flush(&sink));
	/* What the old one did not take goes to the new one. */
	output(OUTPUT_LOG, OUTPUT_STREAM, dup(file));
	assert_false(sink_flush(&sink));
	assert_int_equal(lseek(file, 0, SEEK_SET), 0);
	drain(file);
	assert_int_equal(count_lines(&other), 2);
	assert_null(other);
	fd_close(&file);
}

/* A torn line's rest never begins a new file. */
static void
replaced_inside_a_line(void **state)
{
	int old = memfd_create("old", MFD_CLOEXEC), new = memfd_create("new", MFD_CLOEXEC);
	struct rlimit limit, small;
	const char *other;
	unsigned whole;

	(void)state;
	assert_ptr_not_equal(signal(SIGXFSZ, SIG_IGN), SIG_ERR);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
	small = limit;
	small.rlim_cur = 1000;
	output(OUTPUT_LOG, OUTPUT_STREAM, dup(old));
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
	for (unsigned i = 0; i < 20; i++)
		line(OUTPUT_LOG, i);
	assert_true(sink_flush(&sink));
	output(OUTPUT_LOG, OUTPUT_STREAM, dup(new));
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
	assert_false(sink_flush(&sink));
	assert_int_equal(lseek(old, 0, SEEK_SET), 0);
	drain(old);
	assert_int_equal(got_size, 1000);
	*(strrchr(got, '\n') + 1) = '\0';	/* without what could not be completed */
	whole = count_lines(&other);
	assert_null(other);
	got_size = 0;
	assert_int_equal(lseek(new, 0, SEEK_SET), 0);
	drain(new);
	assert_int_equal(count_lines(&other), 20 - whole - 1);
	assert_string_equal(other, "nsproxy: 1 log lines were lost (File too large)");
	fd_close(&old);
	fd_close(&new);
}

static void
terminal_like_files_are_terse(void **state)
{
	char path[] = "/tmp/nsproxy-test-XXXXXX";
	int plain = mkstemp(path), append = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
	unsigned year, number;
	char end;

	(void)state;
	assert_int_equal(unlink(path), 0);
	output(OUTPUT_LOG, OUTPUT_STREAM, dup(plain));
	log_text(LOG_L_NOTICE, "ready, 1 services, 2 workers");
	assert_false(sink_flush(&sink));
	output(OUTPUT_LOG, OUTPUT_STREAM, append);
	log_text(LOG_L_NOTICE, "again\n\x1b");
	assert_false(sink_flush(&sink));
	assert_int_equal(lseek(plain, 0, SEEK_SET), 0);
	drain(plain);
	assert_memory_equal(got, "nsproxy: ready, 1 services, 2 workers\n", 38);
	/* NOLINTNEXTLINE(cert-err34-c): the number of conversions is what is tested */
	assert_int_equal(sscanf(got + 38, "%4u-%2u-%*2u%*1[T]%*2u:%*2u:%*2u.%*3u%c", &year, &number, &end), 3);
	assert_int_equal(end, 'Z');
	assert_string_equal(strchr(got + 38, ' '), " nsproxy: again\\x0a\\x1b\n");
	fd_close(&plain);
}

static void
journal(void **state)
{
	int ends[2];

	(void)state;
	make_pipe(ends);
	output(OUTPUT_LOG, OUTPUT_JOURNAL, ends[1]);
	log_text(LOG_L_WARNING, "text");
	log_text(0, "too grave");
	log_text(99, "too light");
	assert_false(sink_flush(&sink));
	drain(ends[0]);
	assert_string_equal(got, "<4>text\n<3>too grave\n<7>too light\n");
	fd_close(&ends[0]);
}

/* Reads all datagrams; returns how many line() wrote. The last one stays in `datagram`. */
static unsigned
take_datagrams(int fd, char datagram[SINK_LINE_MAX])
{
	unsigned taken = 0;
	ssize_t n;

	while ((n = read(fd, datagram, SINK_LINE_MAX - 1)) > 0) {
		datagram[n] = '\0';
		assert_null(strchr(datagram, '\n'));
		taken += strncmp(datagram, "<30>nsproxy[77]: line ", 22) == 0;
	}
	return taken;
}

static void
syslog_datagrams(void **state)
{
	int ends[2];
	char datagram[SINK_LINE_MAX];
	ssize_t n;
	unsigned taken = 0;

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends), 0);
	output(OUTPUT_LOG, OUTPUT_SYSLOG, ends[1]);
	log_text(LOG_L_ERR, "text");
	for (unsigned i = 0; i < 20000; i++)
		line(OUTPUT_LOG, i);
	assert_true(sink_flush(&sink));
	n = read(ends[0], datagram, sizeof(datagram));
	assert_int_equal(n, strlen("<27>nsproxy[77]: text"));
	assert_memory_equal(datagram, "<27>nsproxy[77]: text", (size_t)n);
	do
		taken += take_datagrams(ends[0], datagram);
	while (sink_flush(&sink));
	taken += take_datagrams(ends[0], datagram);
	(void)snprintf(got, sizeof(got), "<28>nsproxy[77]: %u log lines were lost (the reader was too slow or stopped)", 20000 - taken);
	assert_string_equal(datagram, got);
	fd_close(&ends[0]);
}

static void
bad_outputs(void **state)
{
	int fd = memfd_create("x", MFD_CLOEXEC);
	struct text text;

	(void)state;
	assert_int_equal(sink_set(&sink, OUTPUTS_MAX, OUTPUT_STREAM, &fd), -1);
	assert_int_equal(sink_set(&sink, 0, 99, &fd), -1);
	assert_int_not_equal(fd, -1);
	assert_false(sink_line_begin(&sink, OUTPUTS_MAX, LOG_L_INFO, &text));
	/* Lines for an output that has not come yet are said once it has. */
	line(OUTPUT_LOG, 1);
	assert_true(sink_flush(&sink));
	output(OUTPUT_LOG, OUTPUT_STREAM, dup(fd));
	assert_false(sink_flush(&sink));
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	drain(fd);
	assert_string_equal(got, "nsproxy: 1 log lines were lost (there was nowhere to write to)\n");
	fd_close(&fd);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(full_pipe, set_up, tear_down),
		cmocka_unit_test_setup_teardown(full_pipe_nonblocking, set_up, tear_down),
		cmocka_unit_test_setup_teardown(partial_writes, set_up, tear_down),
		cmocka_unit_test_setup_teardown(full_disk, set_up, tear_down),
		cmocka_unit_test_setup_teardown(reader_gone_and_replaced, set_up, tear_down),
		cmocka_unit_test_setup_teardown(replaced_inside_a_line, set_up, tear_down),
		cmocka_unit_test_setup_teardown(terminal_like_files_are_terse, set_up, tear_down),
		cmocka_unit_test_setup_teardown(journal, set_up, tear_down),
		cmocka_unit_test_setup_teardown(syslog_datagrams, set_up, tear_down),
		cmocka_unit_test_setup_teardown(bad_outputs, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
