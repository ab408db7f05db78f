/* SPDX-License-Identifier: ISC */
/*
 * Addresses: what is understood, what is refused and why, and every form in which one is shown.
 * Runs in: any
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "addr.h"

static void
test_good(void **state)
{
	static const struct {
		const char *text, *netns, *host;
		unsigned first, last;
		bool is_unix, v6;
	} rows[] = {
		{ "10.10.10.10:80", "", "10.10.10.10", 80, 80, false, false },
		{ "public@10.10.10.10:80", "public", "10.10.10.10", 80, 80, false, false },
		{ "private@[fd00::2]:8000-8099", "private", "fd00::2", 8000, 8099, false, true },
		{ "blue@*:443", "blue", "*", 443, 443, false, false },
		{ "/proc/4242/ns/net@1.2.3.4:0", "/proc/4242/ns/net", "1.2.3.4", 0, 0, false, false },
		{ "pid:7@www.example.org:65535", "pid:7", "www.example.org", 65535, 65535, false, false },
		{ "[fe80::1%eth0]:80", "", "fe80::1%eth0", 80, 80, false, true },
		{ "host_1-a.b:1-1", "", "host_1-a.b", 1, 1, false, false },
		{ "unix:/run/app.sock", "", "/run/app.sock", 0, 0, true, false },
		{ "unix:/run/a@b:c", "", "/run/a@b:c", 0, 0, true, false },
		{ "unix:@abstract", "", "@abstract", 0, 0, true, false },
	};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct addr_spec spec;
		const char *why = "";

		if (addr_parse(rows[i].text, &spec, &why) != 0)
			fail_msg("%s: %s", rows[i].text, why);
		assert_string_equal(spec.netns, rows[i].netns);
		assert_string_equal(spec.host, rows[i].host);
		assert_int_equal(spec.port_first, rows[i].first);
		assert_int_equal(spec.port_last, rows[i].last);
		assert_int_equal(spec.is_unix, rows[i].is_unix);
		assert_int_equal(spec.is_v6_literal, rows[i].v6);
	}
}

static void
test_bad(void **state)
{
	static const struct {
		const char *text, *why;
	} rows[] = {
		{ "", "port is missing" },
		{ "10.0.0.1", "port is missing" },
		{ "10.0.0.1:", "port is missing" },
		{ "10.0.0.1:http", "not a number" },
		{ "10.0.0.1:+80", "not a number" },
		{ "10.0.0.1: 80", "not a number" },
		{ "10.0.0.1:65536", "out of range" },
		{ "10.0.0.1:99999999999999999999", "out of range" },
		{ "10.0.0.1:-1", "port is missing" },
		{ "10.0.0.1:80-", "port is missing" },
		{ "10.0.0.1:80-90-99", "not a number" },
		{ "10.0.0.1:90-80", "backwards" },
		{ "10.0.0.1:0-80", "port 0" },
		{ ":80", "host is missing" },
		{ "@10.0.0.1:80", "namespace before" },
		{ "a@b@10.0.0.1:80", "neither an address nor a name" },
		{ "10.0.0.256:80", "not an IPv4" },
		{ "10.0.1:80", "not an IPv4" },
		{ "2130706433:80", "not an IPv4" },
		{ "0x7f000001:80", "not an IPv4" },
		{ "fd00::1:80", "needs brackets" },
		{ "[fd00::1:80", "']' is missing" },
		{ "[fd00::1]", "port is missing" },
		{ "[fd00::1]80", "port is missing" },
		{ "[fd00::zz]:80", "not an IPv6" },
		{ "[10.0.0.1]:80", "not an IPv6" },
		{ "[]:80", "not an IPv6" },
		{ "[fe80::1%]:80", "not an interface" },
		{ "[fe80::1%averylonginterface]:80", "not an interface" },
		{ "host name:80", "neither an address nor a name" },
		{ "-host:80", "neither an address nor a name" },
		{ "a..b:80", "neither an address nor a name" },
		{ "**:80", "neither an address nor a name" },
		{ "unix:", "path is missing" },
		{ "unix:@", "path is missing" },
	};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct addr_spec spec;
		const char *why = "";

		if (addr_parse(rows[i].text, &spec, &why) != -1 || strstr(why, rows[i].why) == NULL)
			fail_msg("%s: '%s' instead of '%s'", rows[i].text, why, rows[i].why);
	}
}

/* The longest of everything, and one byte more. */
static void
test_lengths(void **state)
{
	char text[700];
	struct addr_spec spec;
	struct addr addr;
	const char *why;
	size_t len;

	(void)state;
	for (len = 100; len <= 110; len++) {
		snprintf(text, sizeof(text), "unix:/%0*d", (int)len - 1, 0);
		assert_int_equal(addr_parse(text, &spec, &why), len <= 107 ? 0 : -1);
		snprintf(text, sizeof(text), "unix:@%0*d", (int)len, 0);
		assert_int_equal(addr_parse(text, &spec, &why), len <= 107 ? 0 : -1);
	}
	snprintf(text, sizeof(text), "unix:@%0107d", 0);
	assert_int_equal(addr_parse(text, &spec, &why), 0);
	assert_int_equal(addr_from_spec(&spec, &addr, &why), 0);
	assert_int_equal(addr.len, sizeof(addr.u.un));
	snprintf(text, sizeof(text), "%0255d@1.2.3.4:80", 0);
	assert_int_equal(addr_parse(text, &spec, &why), 0);
	snprintf(text, sizeof(text), "%0256d@1.2.3.4:80", 0);
	assert_int_equal(addr_parse(text, &spec, &why), -1);
	snprintf(text, sizeof(text), "a%0252d.b:80", 0);
	assert_int_equal(addr_parse(text, &spec, &why), -1);
	snprintf(text, sizeof(text), "a%0250d.b:80", 0);
	assert_int_equal(addr_parse(text, &spec, &why), 0);
	snprintf(text, sizeof(text), "[%0300d]:80", 0);
	assert_int_equal(addr_parse(text, &spec, &why), -1);
}

static void
test_formats(void **state)
{
	static const struct {
		const char *text, *shown, *wire;
	} rows[] = {
		{ "10.10.10.10:80", "10.10.10.10:80", "10.10.10.10:80" },
		{ "[fd00:0::2]:80-90", "[fd00::2]:80", "[fd00::2]:80" },
		{ "[fe80::1%3]:80", "[fe80::1%3]:80", "[fe80::1%3]:80" },
		{ "[::ffff:10.0.0.1]:80", "10.0.0.1:80", "10.0.0.1:80" },
		{ "*:443", "[::]:443", "[::]:443" },
		{ "unix:/run/a b.sock", "unix:/run/a?b.sock", "unix:" },
		{ "unix:@name", "unix:@name", "unix:" },
	};
	char buf[ADDR_TEXT_MAX];
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct addr_spec spec;
		struct addr addr, back;
		struct wire_addr wire;
		const char *why;

		assert_int_equal(addr_parse(rows[i].text, &spec, &why), 0);
		assert_int_equal(addr_from_spec(&spec, &addr, &why), 0);
		assert_string_equal(addr_format(&addr, buf), rows[i].shown);
		addr_to_wire(&addr, &wire);
		assert_string_equal(addr_format_wire(&wire, buf), rows[i].wire);
		assert_int_equal(addr_from_wire(&wire, &back), 0);
		assert_true(addr_equal(&addr, &back) || spec.is_unix);
		assert_int_equal(addr_port(&addr), spec.port_first);
	}
}

static void
test_unresolved(void **state)
{
	struct addr_spec spec;
	struct addr addr;
	const char *why;

	(void)state;
	assert_int_equal(addr_parse("www.example.org:80", &spec, &why), 0);
	assert_int_equal(addr_from_spec(&spec, &addr, &why), 1);
	assert_int_equal(addr_parse("[fe80::1]:80", &spec, &why), 0);
	assert_int_equal(addr_from_spec(&spec, &addr, &why), -1);
	assert_non_null(strstr(why, "needs a zone"));
	assert_int_equal(addr_parse("[fd00::1%lo]:80", &spec, &why), 0);
	assert_int_equal(addr_from_spec(&spec, &addr, &why), -1);
	assert_int_equal(addr_parse("[fe80::1%nosuchif]:80", &spec, &why), 0);
	assert_int_equal(addr_from_spec(&spec, &addr, &why), -1);
	assert_non_null(strstr(why, "no such interface"));
}

static void
test_equal(void **state)
{
	struct addr a = { .len = 0 }, b = { .len = 0 };
	struct addr_spec spec;
	const char *why;

	(void)state;
	assert_true(addr_equal(&a, &b));
	assert_int_equal(addr_parse("10.0.0.1:80", &spec, &why), 0);
	assert_int_equal(addr_from_spec(&spec, &a, &why), 0);
	assert_false(addr_equal(&a, &b));
	b = a;
	assert_true(addr_equal(&a, &b));
	addr_set_port(&b, 81);
	assert_false(addr_equal(&a, &b));
	/* What accept(2) says of an IPv4 client of a dual-stack listener. */
	b = (struct addr){ .len = sizeof(b.u.in6) };
	b.u.in6.sin6_family = AF_INET6;
	memcpy(&b.u.in6.sin6_addr, "\0\0\0\0\0\0\0\0\0\0\xff\xff\x0a\0\0\x01", 16);
	addr_set_port(&b, 80);
	assert_true(addr_equal(&a, &b));
}

/* What a peer or another process sends is not trusted. */
static void
test_hostile(void **state)
{
	char buf[ADDR_TEXT_MAX];
	struct addr addr = { .len = sizeof(struct sockaddr_un) };
	struct wire_addr wire = { .family = 99 };

	(void)state;
	assert_int_equal(addr_from_wire(&wire, &addr), -1);
	assert_string_equal(addr_format_wire(&wire, buf), "?");
	wire.family = 0;
	assert_int_equal(addr_from_wire(&wire, &addr), -1);
	addr.len = sizeof(struct sockaddr_un);
	addr.u.un.sun_family = AF_UNIX;
	memset(addr.u.un.sun_path, '\n', sizeof(addr.u.un.sun_path));
	addr_format(&addr, buf);
	assert_int_equal(strlen(buf), 5 + sizeof(addr.u.un.sun_path));
	assert_null(strchr(buf, '\n'));
	addr.u.un.sun_path[0] = '\0';
	assert_string_equal(addr_format(&(struct addr){ .len = 0 }, buf), "?");
	assert_int_equal(strncmp(addr_format(&addr, buf), "unix:@?", 7), 0);
	addr.len = sizeof(sa_family_t);
	assert_string_equal(addr_format(&addr, buf), "unix:");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good),
		cmocka_unit_test(test_bad),
		cmocka_unit_test(test_lengths),
		cmocka_unit_test(test_formats),
		cmocka_unit_test(test_unresolved),
		cmocka_unit_test(test_equal),
		cmocka_unit_test(test_hostile),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
