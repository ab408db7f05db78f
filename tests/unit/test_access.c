/* SPDX-License-Identifier: ISC */
/*
 * The access log: what a line looks like in both formats, and that nothing a worker or a name contains can spoil one.
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

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fdutil.h"
#include "reporter_access.h"

#define FILE_OUTPUT 1u

struct fixture {
	struct sink sink;
	struct access access;
	int file;			/* our own descriptor of output 1; output 0 writes to `log` */
	int log;
	char got[65536];		/* what the last take() found */
};

static int
add_output(struct sink *sink, uint32_t id, uint32_t kind)
{
	int fd = memfd_create("output", MFD_CLOEXEC);
	int copy = dup(fd);

	assert_int_not_equal(fd, -1);
	assert_int_equal(sink_set(sink, id, kind, &copy), 0);
	return fd;
}

static struct fixture *
begin(uint32_t format, uint32_t n_routes)
{
	struct fixture *f = test_calloc(1, sizeof(*f));

	sink_init(&f->sink, 77);
	f->log = add_output(&f->sink, OUTPUT_LOG, OUTPUT_JOURNAL);
	f->file = add_output(&f->sink, FILE_OUTPUT, OUTPUT_STREAM);
	assert_int_equal(access_init(&f->access, &f->sink, format, n_routes), 0);
	return f;
}

static void
end(struct fixture *f)
{
	access_free(&f->access);
	sink_free(&f->sink);
	fd_close(&f->file);
	fd_close(&f->log);
	test_free(f);
}

/* Everything written to fd since the last time. */
static const char *
take(struct fixture *f, int fd)
{
	ssize_t n;

	assert_false(sink_flush(&f->sink));
	n = pread(fd, f->got, sizeof(f->got) - 1, 0);
	assert_true(n >= 0);
	f->got[n] = '\0';
	assert_int_equal(ftruncate(fd, 0), 0);
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	return f->got;
}

static struct wire_addr
wire(const char *host, uint16_t port)
{
	struct wire_addr addr = { .family = AF_INET, .port = port };

	if (inet_pton(AF_INET, host, addr.bytes) != 1) {
		addr.family = AF_INET6;
		assert_int_equal(inet_pton(AF_INET6, host, addr.bytes), 1);
	}
	return addr;
}

static struct msg_names
web(void)
{
	return (struct msg_names){
		.output = FILE_OUTPUT,
		.n_ports = 1,
		.target = wire("172.20.0.2", 80),
		.listener = wire("10.10.10.10", 80),
		.service = "web",
		.public_netns = "public",
		.private_netns = "private",
	};
}

static struct conn_record
record(void)
{
	return (struct conn_record){
		.id = 1,
		.engine = ENGINE_SPLICE,
		.end = END_CLIENT_CLOSED,
		.start = UINT64_C(1769903999123456789),		/* 2026-01-31T23:59:59.123 */
		.begun = 5000000000,
		.connected = 5000345678,
		.ended = 6234567890,
		.bytes = { 123, 45678 },
		.client = wire("10.10.10.10", 41234),
		.local = wire("172.20.0.1", 50000),
	};
}

#define FACTS "start=2026-01-31T23:59:59.123Z connect_ms=0.345 duration_ms=1234.567 up=123 down=45678 end=closed-by-client\n"

static void
pairs(void **state)
{
	struct fixture *f = begin(ACCESS_PAIRS, 1);
	struct msg_names names = web();
	struct conn_record rec = record();

	(void)state;
	assert_int_equal(access_names(&f->access, &names), 0);
	assert_int_equal(f->access.n_named, 1);
	access_on_closed(&f->access, 3, &rec);
	assert_string_equal(take(f, f->file), "service=web client=public@10.10.10.10:41234 listener=public@10.10.10.10:80 "
	    "local=172.20.0.1:50000 target=172.20.0.2:80 netns=private worker=3 engine=splice " FACTS);
	end(f);
}

static void
json(void **state)
{
	struct fixture *f = begin(ACCESS_JSON, 1);
	struct msg_names names = web();
	struct conn_record rec = record();

	(void)state;
	assert_int_equal(access_names(&f->access, &names), 0);
	access_on_closed(&f->access, 3, &rec);
	assert_string_equal(take(f, f->file),
	    "{\"service\":\"web\",\"client\":\"public@10.10.10.10:41234\",\"listener\":\"public@10.10.10.10:80\","
	    "\"local\":\"172.20.0.1:50000\",\"target\":\"172.20.0.2:80\",\"netns\":\"private\",\"worker\":3,\"engine\":\"splice\","
	    "\"start\":\"2026-01-31T23:59:59.123Z\",\"connect_ms\":0.345,\"duration_ms\":1234.567,\"up\":123,\"down\":45678,"
	    "\"end\":\"closed-by-client\"}\n");
	end(f);
}

static void
never_connected(void **state)
{
	struct conn_record rec = record();
	struct msg_names names = web();

	(void)state;
	rec.connected = 0;
	rec.local.family = 0;
	rec.end = END_REFUSED;
	names.private_netns[0] = '\0';
	for (uint32_t format = ACCESS_PAIRS; format <= ACCESS_JSON; format++) {
		struct fixture *f = begin(format, 1);

		assert_int_equal(access_names(&f->access, &names), 0);
		access_on_closed(&f->access, 0, &rec);
		assert_non_null(strstr(take(f, f->file), format == ACCESS_JSON ? "\"local\":null," : " local=- "));
		assert_non_null(strstr(f->got, format == ACCESS_JSON ? "\"netns\":null," : " netns=- "));
		assert_non_null(strstr(f->got, format == ACCESS_JSON ? "\"connect_ms\":null," : " connect_ms=- "));
		assert_non_null(strstr(f->got, format == ACCESS_JSON ? "\"end\":\"connect-refused\"}" : " end=connect-refused\n"));
		end(f);
	}
}

static void
addresses(void **state)
{
	struct fixture *f = begin(ACCESS_PAIRS, 1);
	struct msg_names names = web();
	struct conn_record rec = record();

	(void)state;
	names.target = wire("fd00::2", 8000);
	names.listener = wire("::", 9000);
	names.n_ports = 100;
	names.public_netns[0] = '\0';
	assert_int_equal(access_names(&f->access, &names), 0);
	rec.client = wire("2001:db8::1", 5);
	rec.local = wire("::ffff:1.2.3.4", 65535);
	rec.port_offset = 7;
	access_on_closed(&f->access, 0, &rec);
	assert_non_null(strstr(take(f, f->file), " client=[2001:db8::1]:5 listener=[::]:9007 local=1.2.3.4:65535 target=[fd00::2]:8007 "));
	/* Beyond the range: its last port. */
	rec.port_offset = 60000;
	access_on_closed(&f->access, 0, &rec);
	assert_non_null(strstr(take(f, f->file), " listener=[::]:9099 "));
	assert_non_null(strstr(f->got, " target=[fd00::2]:8099 "));
	/* A family that is none. */
	rec.client.family = 4711;
	access_on_closed(&f->access, 0, &rec);
	assert_non_null(strstr(take(f, f->file), " client=? "));
	end(f);
}

static void
unix_sockets(void **state)
{
	struct fixture *f = begin(ACCESS_PAIRS, 2);
	struct msg_names names = web();
	struct conn_record rec = record();

	(void)state;
	names.listener = names.target = (struct wire_addr){ .family = AF_UNIX };
	(void)strcpy(names.listener_unix, "/run/a b.sock");
	(void)strcpy(names.target_unix, "@abstract");
	assert_int_equal(access_names(&f->access, &names), 0);
	names.route = 1;
	names.n_ports = 100;
	names.target = wire("172.20.0.2", 100);
	assert_int_equal(access_names(&f->access, &names), 0);
	rec.client = rec.local = (struct wire_addr){ .family = AF_UNIX };
	access_on_closed(&f->access, 0, &rec);
	assert_non_null(strstr(take(f, f->file), " client=unix: listener=\"unix:/run/a b.sock\" local=unix: target=unix:@abstract "));
	rec.route = 1;
	rec.port_offset = 1;
	access_on_closed(&f->access, 0, &rec);
	assert_non_null(strstr(take(f, f->file), " client=unix: listener=\"unix:/run/a b.sock\" local=unix: target=172.20.0.2:101 "));
	end(f);
}

/* Numbers from a worker that lies. */
static void
clamps(void **state)
{
	struct fixture *f = begin(ACCESS_PAIRS, 1);
	struct msg_names names = web();
	struct conn_record rec = record();

	(void)state;
	assert_int_equal(access_names(&f->access, &names), 0);
	rec.engine = 255;
	rec.end = 255;
	rec.connected = 1;		/* before it began */
	rec.ended = 2;
	rec.start = UINT64_MAX;
	rec.bytes[0] = rec.bytes[1] = UINT64_MAX;
	access_on_closed(&f->access, 0, &rec);
	assert_non_null(strstr(take(f, f->file), " engine=? start=2554-07-21T23:34:33.709Z connect_ms=0.000 duration_ms=0.000 "
	    "up=18446744073709551615 down=18446744073709551615 end=error\n"));
	/* A record that says the connection lives. */
	rec.end = END_NONE;
	access_on_closed(&f->access, 0, &rec);
	assert_non_null(strstr(take(f, f->file), " end=error\n"));
	/* No such route: said in the log, under its own name. */
	rec.route = UINT32_MAX;
	access_on_closed(&f->access, 0, &rec);
	assert_string_equal(take(f, f->file), "");
	assert_non_null(strstr(take(f, f->log), "<6>service=? client=10.10.10.10:41234 listener=? local="));
	end(f);
}

/* The listener was opened later. */
static void
renamed(void **state)
{
	struct fixture *f = begin(ACCESS_PAIRS, 1);
	struct msg_names names = web();
	struct conn_record rec = record();

	(void)state;
	names.listener.port = 0;
	assert_int_equal(access_names(&f->access, &names), 0);
	names.listener.port = 40001;
	assert_int_equal(access_rename(&f->access, &names), 0);
	access_on_closed(&f->access, 3, &rec);
	assert_non_null(strstr(take(f, f->file), " listener=public@10.10.10.10:40001 local=172.20.0.1:50000 "));
	names.output = OUTPUT_NONE;
	assert_int_equal(access_rename(&f->access, &names), -1);
	assert_int_equal(f->access.n_named, 1);
	end(f);
}

static void
routes(void **state)
{
	struct fixture *f = begin(ACCESS_PAIRS, 3);
	struct msg_names names = web();
	struct conn_record rec = record();

	(void)state;
	names.flags = NAMES_SKIP_EMPTY;
	assert_int_equal(access_names(&f->access, &names), 0);
	assert_int_equal(access_names(&f->access, &names), -1);		/* twice */
	names.route = 1;
	assert_int_equal(access_rename(&f->access, &names), -1);	/* has no names yet */
	names.route = 3;
	assert_int_equal(access_rename(&f->access, &names), -1);
	assert_int_equal(access_names(&f->access, &names), -1);		/* no such route */
	names.route = 1;
	names.output = OUTPUTS_MAX;
	assert_int_equal(access_names(&f->access, &names), -1);		/* no such output */
	names.output = OUTPUT_NONE;
	assert_int_equal(access_names(&f->access, &names), 0);
	names.route = 2;
	memset(names.service, 'x', sizeof(names.service));
	assert_int_equal(access_names(&f->access, &names), -1);		/* no end */
	rec.bytes[0] = rec.bytes[1] = 0;
	access_on_closed(&f->access, 0, &rec);				/* empty, and not wanted */
	rec.route = 1;
	access_on_closed(&f->access, 0, &rec);				/* no access log */
	rec.route = 2;
	access_on_closed(&f->access, 0, &rec);				/* no names */
	assert_string_equal(take(f, f->file), "");
	rec.route = 0;
	rec.bytes[1] = 1;
	access_on_closed(&f->access, 0, &rec);
	assert_non_null(strstr(take(f, f->file), "up=0 down=1 "));
	end(f);
}

static void
quoting(void **state)
{
	static const struct {
		const char *service, *line;
	} cases[] = {
		{ "plain-1.x", "service=plain-1.x client" },
		{ "public@[::]:80", "service=public@[::]:80 client" },
		{ "two words", "service=\"two words\" client" },
		{ "a=b", "service=\"a=b\" client" },
		{ "say \"x\\y\"", "service=\"say \\\"x\\\\y\\\"\" client" },
		{ "new\nline\x7f\x1b", "service=\"new\\x0aline\\x7f\\x1b\" client" },
		{ "gr\xc3\xbc\xc3\x9f", "service=\"gr\xc3\xbc\xc3\x9f\" client" },
		{ "latin\xfc c1\xc2\x9b", "service=\"latin\\xfc c1\\xc2\\x9b\" client" },
		{ "-", "service=\"-\" client" },
		{ "", "service=\"\" client" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct fixture *f = begin(ACCESS_PAIRS, 1);
		struct msg_names names = web();
		struct conn_record rec = record();

		(void)snprintf(names.service, sizeof(names.service), "%s", cases[i].service);
		(void)strcpy(names.public_netns, "pub lic");
		assert_int_equal(access_names(&f->access, &names), 0);
		access_on_closed(&f->access, 0, &rec);
		assert_memory_equal(take(f, f->file), cases[i].line, strlen(cases[i].line));
		assert_non_null(strstr(f->got, " client=\"pub lic@10.10.10.10:41234\" listener=\"pub lic@10.10.10.10:80\" local="));
		end(f);
	}
}

/* Past one JSON string; NULL when it is none. RFC 8259, section 7; UTF-8 as in RFC 3629. */
static const char *
json_string(const char *s)
{
	static const char *const escapes = "\"\\/bfnrt";

	if (*s++ != '"')
		return NULL;
	while (*s != '"') {
		unsigned char c = (unsigned char)*s;
		unsigned more = c < 0x80 ? 0 : c >= 0xc2 && c < 0xe0 ? 1 : c >= 0xe0 && c < 0xf0 ? 2 : c >= 0xf0 && c < 0xf5 ? 3 : 9;

		if (c < 0x20 || more == 9)
			return NULL;
		if (c == '\\' && s[1] == 'u' && strspn(s + 2, "0123456789abcdef") >= 4)
			s += 6;
		else if (c == '\\' && s[1] != '\0' && strchr(escapes, s[1]) != NULL)
			s += 2;
		else if (c == '\\')
			return NULL;
		else
			s++;
		for (; more > 0; more--) {
			if (((unsigned char)*s++ & 0xc0) != 0x80)
				return NULL;
		}
	}
	return s + 1;
}

/* A flat object whose values are strings, numbers or null; how many members it has, -1: not valid. */
static int
json_members(const char *s)
{
	int n = 0;

	if (*s != '{')
		return -1;
	do {
		s = json_string(s + 1);
		if (s == NULL || *s++ != ':')
			return -1;
		if (*s == '"')
			s = json_string(s);
		else if (strncmp(s, "null", 4) == 0)
			s += 4;
		else
			s += strspn(s, "0123456789.");
		if (s == NULL)
			return -1;
		n++;
	} while (*s == ',');
	return strcmp(s, "}\n") == 0 ? n : -1;
}

static void
json_of_any_bytes(void **state)
{
	(void)state;
	for (unsigned i = 1; i < 256; i++) {
		struct fixture *f = begin(ACCESS_JSON, 1);
		struct msg_names names = web();
		struct conn_record rec = record();
		unsigned seed = i;

		for (size_t k = 0; k < sizeof(names.service) - 1; k++) {
			seed = seed * 1103515245 + 12345;
			names.service[k] = (char)(k < 8 ? i : seed >> 16 ? (seed >> 16 & 0xff) : 1);
			if (names.service[k] == '\0')
				names.service[k] = (char)0xe0;
		}
		memset(names.public_netns, (int)i, sizeof(names.public_netns) - 1);
		memset(names.private_netns, (int)i, sizeof(names.private_netns) - 1);
		names.listener.family = names.target.family = AF_UNIX;
		memset(names.listener_unix, (int)i, sizeof(names.listener_unix) - 1);
		memset(names.target_unix, (int)i, sizeof(names.target_unix) - 1);
		assert_int_equal(access_names(&f->access, &names), 0);
		access_on_closed(&f->access, 0, &rec);
		assert_int_equal(json_members(take(f, f->file)), 14);
		end(f);
	}
}

/* The calendar, around its corners. */
static void
times(void **state)
{
	static const struct {
		uint64_t second;
		const char *text;
	} cases[] = {
		{ 0, "1970-01-01T00:00:00.999Z" },
		{ 951782399, "2000-02-28T23:59:59.999Z" },
		{ 951782400, "2000-02-29T00:00:00.999Z" },
		{ 951868800, "2000-03-01T00:00:00.999Z" },
		{ 1709251199, "2024-02-29T23:59:59.999Z" },
		{ 1735689599, "2024-12-31T23:59:59.999Z" },
		{ 1735689600, "2025-01-01T00:00:00.999Z" },
		{ 4107542400, "2100-03-01T00:00:00.999Z" },
	};
	struct text_clock clock = { 0 };

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char buf[32] = "";
		struct text text = { buf, buf + sizeof(buf) - 1 };

		text_time(&text, &clock, cases[i].second * 1000000000 + 999999999);
		assert_string_equal(buf, cases[i].text);
	}
}

static void
never_past_the_end(void **state)
{
	char buf[8] = "";
	struct text text = { buf, buf + 4 };

	(void)state;
	text_u64(&text, 123);
	text_json(&text, "\x01\x02", 2);
	text_str(&text, "more");
	assert_string_equal(buf, "123\\");
	assert_ptr_equal(text.at, text.end);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(pairs),
		cmocka_unit_test(json),
		cmocka_unit_test(never_connected),
		cmocka_unit_test(addresses),
		cmocka_unit_test(unix_sockets),
		cmocka_unit_test(clamps),
		cmocka_unit_test(renamed),
		cmocka_unit_test(routes),
		cmocka_unit_test(quoting),
		cmocka_unit_test(json_of_any_bytes),
		cmocka_unit_test(times),
		cmocka_unit_test(never_past_the_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
