/* SPDX-License-Identifier: ISC */
/*
 * What nsproxyctl top makes of answers: rates, order, filter, texts.
 * Runs in: any
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ctl_top_text.h"
#include "ctl_top_view.h"

#define SECOND UINT64_C(1000000000)

static void
test_numbers_keep_their_width(void **state)
{
	static const struct {
		double number, step;
		const char *text;
	} cases[] = {
		{ 0, 1000, "0" }, { -3, 1000, "0" }, { 999, 1000, "999" }, { 999.6, 1000, "1.0k" }, { 1000, 1000, "1.0k" }, { 9949, 1000, "9.9k" },
		{ 9950, 1000, "10k" }, { 999499, 1000, "999k" }, { 999500, 1000, "1.0M" }, { 1024, 1024, "1.0k" }, { 1048576, 1024, "1.0M" },
		{ 18446744073709551615.0, 1000, "18E" }, { 1e300, 1000, "999E" },
	};
	char buf[32];

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		top_text_number(buf, sizeof(buf), cases[i].number, cases[i].step);
		assert_string_equal(buf, cases[i].text);
	}
	for (double number = 0.5; number < 1e20; number *= 1.07) {
		top_text_number(buf, sizeof(buf), number, 1000);
		assert_true(strlen(buf) <= 4);
	}
}

static void
test_ages_keep_their_width(void **state)
{
	static const struct {
		double seconds;
		const char *text;
	} cases[] = { { 0, "0s" }, { -1, "0s" }, { 59.9, "59s" }, { 60, "1m00" }, { 3599, "59m59" }, { 3600, "1h00" }, { 86399, "23h59" }, { 86400, "1d00" },
		{ 86400.0 * 999, "999d00" }, { 1e18, ">999d" } };
	char buf[32];

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		top_text_age(buf, sizeof(buf), cases[i].seconds);
		assert_string_equal(buf, cases[i].text);
		assert_true(strlen(buf) <= 6);
	}
	top_text_uptime(buf, sizeof(buf), 3 * 86400 + 3661);
	assert_string_equal(buf, "3d 01:01");
	top_text_uptime(buf, sizeof(buf), 3661);
	assert_string_equal(buf, "01:01:01");
}

static void
test_nothing_but_printable_ascii(void **state)
{
	char buf[8];

	(void)state;
	top_text_printable(buf, sizeof(buf), "a\033\n\x7f\xc3");
	assert_string_equal(buf, "a????");
	top_text_printable(buf, sizeof(buf), "longer than that");
	assert_string_equal(buf, "longer ");
}

static void
test_graphs(void **state)
{
	static const float samples[] = { 0, 1, 50, 100 };
	static const float nothing[4] = { 0 };
	char buf[64], small[5];

	(void)state;
	top_text_graph(buf, sizeof(buf), samples, 4, false);
	assert_string_equal(buf, " .-#");
	top_text_graph(buf, sizeof(buf), samples, 4, true);
	assert_string_equal(buf, " \u2581\u2584\u2588");
	top_text_graph(buf, sizeof(buf), nothing, 4, true);
	assert_string_equal(buf, "    ");
	/* A buffer that is too short never holds half a character. */
	top_text_graph(small, sizeof(small), samples, 4, true);
	assert_string_equal(small, " \u2581");
	top_text_bar(buf, sizeof(buf), 0.5, 4, false);
	assert_string_equal(buf, "##  ");
	top_text_bar(buf, sizeof(buf), 7, 4, false);
	assert_string_equal(buf, "####");
	top_text_bar(buf, sizeof(buf), 1.0 / 32, 4, true);
	assert_string_equal(buf, "\u258f   ");
}

/* An answer as ctl_client would have gathered it. */
static struct ctl_answer
answer_at(uint64_t mono, uint64_t started, uint64_t up)
{
	static const uint64_t ids[] = { 30, 10, 20 };
	struct ctl_answer answer = { .has_status = true };

	answer.status.now_mono = mono;
	answer.status.parent.started = started;
	answer.status.bytes[0] = up;
	answer.services = calloc(2, sizeof(*answer.services));
	answer.conns = calloc(3, sizeof(*answer.conns));
	answer.routes = calloc(6, sizeof(*answer.routes));
	assert_true(answer.services != NULL && answer.conns != NULL && answer.routes != NULL);
	answer.n_services = 2;
	(void)strcpy(answer.services[0].service.name, "web");
	answer.services[0].bytes[0] = up;
	answer.services[0].ends[END_REFUSED] = up / 100;
	memset(answer.services[1].service.name, 'x', sizeof(answer.services[1].service.name));
	answer.n_conns = 3;
	for (size_t i = 0; i < 3; i++) {
		answer.conns[i].rec.id = ids[i];
		answer.conns[i].rec.bytes[1] = up * (i + 1);
		answer.conns[i].rec.client = (struct wire_addr){ .family = AF_INET, .port = (uint16_t)(40000 + i), .bytes = { 192, 0, 2, 1 } };
	}
	/* Two answers of a round name them twice. */
	answer.n_routes = 6;
	for (uint32_t i = 0; i < 6; i++) {
		answer.routes[i].route = i % 3;
		(void)strcpy(answer.routes[i].service, "web");
		(void)strcpy(answer.routes[i].public_netns, "outside");
	}
	return answer;
}

static const struct top_item *
item_of(const struct top_data *data, enum top_kind kind, uint64_t id)
{
	for (size_t i = 0; i < data->sets[kind].n; i++)
		if (data->sets[kind].items[i].id == id)
			return &data->sets[kind].items[i];
	return NULL;
}

static void
take(struct top_data *data, struct ctl_answer answer)
{
	assert_true(top_data_take(data, &answer));
	assert_null(answer.conns);
}

static void
test_routes_are_found(void **state)
{
	struct top_data data = { .rounds = 0 };

	(void)state;
	take(&data, answer_at(SECOND, 1, 0));
	for (uint32_t i = 0; i < 3; i++)
		assert_non_null(ctl_route(&data.answer, i));
	assert_null(ctl_route(&data.answer, 3));
	top_data_free(&data);
}

static void
test_rates(void **state)
{
	struct top_data data = { .rounds = 0 };

	(void)state;
	take(&data, answer_at(10 * SECOND, 1, 1000));
	assert_true(data.seconds == 0 && data.total.rate[TOP_UP] == 0);
	take(&data, answer_at(12 * SECOND, 1, 5000));
	assert_true(data.seconds == 2 && data.total.rate[TOP_UP] == 2000 && data.total.rate[TOP_FAILED] == 20);
	assert_true(item_of(&data, TOP_CONNECTIONS, 20)->rate[TOP_DOWN] == 6000);
	assert_true(item_of(&data, TOP_CONNECTIONS, 20)->history[TOP_HISTORY - 1] == 6000);
	/* Counters that went back: no rate, not a huge one. */
	take(&data, answer_at(13 * SECOND, 1, 100));
	assert_true(data.total.rate[TOP_UP] == 0 && data.total.history[TOP_HISTORY - 2] == 2000);
	/* Another daemon: nothing of the one before. */
	take(&data, answer_at(14 * SECOND, 2, 90000));
	assert_true(data.seconds == 0 && data.total.rate[TOP_UP] == 0 && data.total.history[TOP_HISTORY - 2] == 0);
	top_data_free(&data);
}

static void
test_a_connection_that_has_just_begun(void **state)
{
	struct top_data data = { .rounds = 0 };
	struct ctl_answer answer;

	(void)state;
	take(&data, answer_at(10 * SECOND, 1, 0));
	answer = answer_at(11 * SECOND, 1, 0);
	answer.conns[0].rec.id = 99;
	answer.conns[0].rec.begun = 10 * SECOND + 5;
	answer.conns[0].rec.bytes[0] = 700;
	answer.conns[1].rec.id = 98;		/* not seen before, yet old: its rate is unknown */
	answer.conns[1].rec.bytes[0] = 700;
	take(&data, answer);
	assert_true(item_of(&data, TOP_CONNECTIONS, 99)->rate[TOP_UP] == 700);
	assert_true(item_of(&data, TOP_CONNECTIONS, 98)->rate[TOP_UP] == 0);
	top_data_free(&data);
}

static void
test_texts_end(void **state)
{
	struct top_data data = { .rounds = 0 };
	const struct row_service *service;

	(void)state;
	take(&data, answer_at(SECOND, 1, 0));
	for (size_t i = 0; i < data.sets[TOP_SERVICES].n; i++) {
		service = data.sets[TOP_SERVICES].items[i].row;
		assert_true(strlen(service->service.name) < sizeof(service->service.name));
	}
	top_data_free(&data);
}

/* The ids of a list, in order. */
static void
assert_list(const struct top_data *data, struct top_choice choice, const char *filter, const char *expected)
{
	struct top_look look = { .utf8 = false };
	struct top_list list = { .n = 0 };
	char text[128] = "";

	assert_true(top_list_make(&list, data, TOP_CONNECTIONS, &choice, filter, &look));
	for (size_t i = 0; i < list.n; i++)
		(void)snprintf(text + strlen(text), sizeof(text) - strlen(text), "%llu ", (unsigned long long)list.entries[i].item->id);
	assert_string_equal(text, expected);
	top_list_free(&list);
}

static unsigned
column_of(enum top_kind kind, const char *title)
{
	unsigned n;
	const struct top_column *columns = top_columns(kind, &n);

	for (unsigned i = 0; i < n; i++)
		if (strcmp(columns[i].title, title) == 0)
			return i;
	fail_msg("no column %s", title);
	return 0;
}

static void
test_order_and_filter(void **state)
{
	struct top_data data = { .rounds = 0 };
	struct top_choice choice = { .sort = top_first_sort(TOP_CONNECTIONS) };

	(void)state;
	take(&data, answer_at(10 * SECOND, 1, 0));
	assert_list(&data, choice, "", "10 20 30 ");	/* all alike: by id */
	take(&data, answer_at(11 * SECOND, 1, 100));
	assert_list(&data, choice, "", "20 10 30 ");	/* the busiest first */
	choice.reverse = true;
	assert_list(&data, choice, "", "30 10 20 ");
	choice = (struct top_choice){ .sort = column_of(TOP_CONNECTIONS, "CLIENT") };
	assert_list(&data, choice, "", "30 10 20 ");	/* :40000, :40001, :40002 */
	assert_list(&data, choice, ":40001", "10 ");
	assert_list(&data, choice, "OUTSIDE@", "30 10 20 ");	/* also what the screen has no room for, in any case */
	assert_list(&data, choice, "nowhere", "");
	top_data_free(&data);
}

/* Every cell of every column, whatever the rows are: nothing reads or writes where it must not. */
static void
test_every_cell_of_nonsense(void **state)
{
	struct top_data data = { .rounds = 0 };
	struct ctl_answer answer = answer_at(SECOND, 1, 1);
	struct top_look look = { .utf8 = true, .wide = true };
	char buf[TOP_CELL_MAX];

	(void)state;
	answer.workers = calloc(1, sizeof(*answer.workers));
	answer.n_workers = 1;
	assert_non_null(answer.workers);
	memset(answer.workers, 0xff, sizeof(*answer.workers));
	memset(answer.conns, 0xff, sizeof(*answer.conns));
	memset(answer.services, 0xff, sizeof(*answer.services));
	memset(answer.routes, 0xff, answer.n_routes * sizeof(*answer.routes));
	answer.conns[1].rec.route = answer.routes[0].route;
	take(&data, answer);
	look.data = &data;
	for (int kind = 0; kind < TOP_KINDS; kind++)
		for (size_t i = 0; i < data.sets[kind].n; i++) {
			unsigned n;
			const struct top_column *columns = top_columns((enum top_kind)kind, &n);

			for (unsigned c = 0; c < n; c++) {
				columns[c].show(&look, &data.sets[kind].items[i], buf);
				assert_true(strlen(buf) < sizeof(buf));
				if (columns[c].key != NULL)
					(void)columns[c].key(&look, &data.sets[kind].items[i]);
			}
		}
	top_data_free(&data);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_numbers_keep_their_width),
		cmocka_unit_test(test_ages_keep_their_width),
		cmocka_unit_test(test_nothing_but_printable_ascii),
		cmocka_unit_test(test_graphs),
		cmocka_unit_test(test_routes_are_found),
		cmocka_unit_test(test_rates),
		cmocka_unit_test(test_a_connection_that_has_just_begun),
		cmocka_unit_test(test_texts_end),
		cmocka_unit_test(test_order_and_filter),
		cmocka_unit_test(test_every_cell_of_nonsense),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
