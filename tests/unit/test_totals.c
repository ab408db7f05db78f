/* SPDX-License-Identifier: ISC */
/*
 * Counters that outlive processes: added exactly once, kept over a new reporter and a new image, never mixed up between services.
 * Runs in: any
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "totals.h"

struct fixture {
	struct totals totals;
	struct totals_view view;
	struct scoreboard board;
};

static int
set_up(void **state)
{
	static struct fixture f;
	int fd = scoreboard_create(4, SB_SERVICES_STEP);

	memset(&f, 0, sizeof(f));
	assert_int_equal(totals_create(&f.totals), 0);
	assert_int_equal(totals_map(&f.view, (int[2]){ f.totals.parent_reader, f.totals.gone_fd }), 0);
	assert_int_equal(scoreboard_map(&f.board, fd, 1, 4, SB_SERVICES_STEP), 0);
	(void)close(fd);
	*state = &f;
	return 0;
}

static int
tear_down(void **state)
{
	struct fixture *f = *state;

	scoreboard_unmap(&f->board);
	totals_unmap(&f->view);
	totals_free(&f->totals);
	return 0;
}

static uint64_t
taken(const struct fixture *f, uint32_t service)
{
	return sb_get(&totals_sums(&f->view)->services[service].sums.taken);
}

static void
test_once(void **state)
{
	struct fixture *f = *state;
	uint32_t lost[SB_SERVICES_STEP] = { 0, 3 };

	totals_name(&f->view, 0, "web");
	totals_name(&f->view, 1, "mail");
	sb_add(&f->board.services[1].taken, 10);
	sb_add(&f->board.services[1].finished, 7);
	sb_add(&f->board.head->dropped, 2);
	assert_true(totals_fold(&f->view, 1, &f->board, lost));
	assert_false(totals_fold(&f->view, 1, &f->board, lost));
	assert_int_equal(taken(f, 0), 0);
	assert_int_equal(taken(f, 1), 10);
	assert_int_equal(sb_get(&totals_sums(&f->view)->services[1].sums.finished), 10);
	assert_int_equal(sb_get(&totals_sums(&f->view)->services[1].sums.ends[END_WORKER_LOST]), 3);
	assert_int_equal(totals_sums(&f->view)->dropped, 2);
	assert_true(totals_fold(&f->view, 2, &f->board, NULL));
	assert_int_equal(taken(f, 1), 20);
	assert_int_equal(totals_sums(&f->view)->death, 2);
}

/* A reporter that died while it made the next state leaves the valid one as it was. */
static void
test_died_on_the_way(void **state)
{
	struct fixture *f = *state;
	struct totals_view next = { 0 };

	totals_name(&f->view, 0, "web");
	sb_add(&f->board.services[0].taken, 10);
	assert_true(totals_fold(&f->view, 1, &f->board, NULL));
	memset(&f->view.gone->sums[!f->view.gone->valid], 0x55, sizeof(f->view.gone->sums[0]));
	assert_int_equal(totals_map(&next, (int[2]){ f->totals.parent_reader, f->totals.gone_fd }), 0);
	totals_name(&next, 0, "web");
	assert_false(totals_fold(&next, 1, &f->board, NULL));
	assert_true(totals_fold(&next, 2, &f->board, NULL));
	assert_int_equal(taken(f, 0), 20);
	totals_unmap(&next);
}

static void
test_names(void **state)
{
	struct fixture *f = *state;

	totals_name(&f->view, 5, "web");
	sb_add(&f->board.services[5].taken, 10);
	assert_true(totals_fold(&f->view, 1, &f->board, NULL));
	totals_name(&f->view, 5, "web");
	assert_int_equal(taken(f, 5), 10);
	totals_name(&f->view, 5, "mail");
	assert_int_equal(taken(f, 5), 0);
	assert_string_equal(totals_sums(&f->view)->services[5].name, "mail");
	totals_name(&f->view, TOTALS_SERVICES, "one too many");
	assert_int_equal(totals_sums(&f->view)->n_services, 6);
}

static void
test_parent(void **state)
{
	struct fixture *f = *state;
	struct totals next;
	int parent_fd = dup(f->totals.parent_fd), gone_fd = dup(f->totals.gone_fd);

	totals_add(&f->totals, TOTALS_RELOADS, 2);
	assert_int_equal(sb_get(&f->view.parent->values[TOTALS_RELOADS]), 2);
	assert_ptr_equal(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, f->totals.parent_reader, 0), MAP_FAILED);
	assert_int_equal(totals_adopt(&next, gone_fd, parent_fd), -1);
	assert_int_equal(errno, EPROTO);
	assert_int_equal(totals_adopt(&next, parent_fd, gone_fd), 0);
	totals_add(&next, TOTALS_RELOADS, 1);
	assert_int_equal(sb_get(&f->view.parent->values[TOTALS_RELOADS]), 3);
	totals_free(&next);
	totals_free(&next);
}

static void
test_absurd(void **state)
{
	struct fixture *f = *state;

	totals_name(&f->view, 0, "web");
	sb_add(&f->board.services[0].taken, UINT64_MAX);
	sb_add(&f->board.head->dropped, UINT64_MAX);
	assert_true(totals_fold(&f->view, 1, &f->board, NULL));
	assert_true(totals_fold(&f->view, 2, &f->board, NULL));
	assert_int_equal(taken(f, 0), 2 * SB_COUNT_MOST);
	assert_int_equal(totals_sums(&f->view)->dropped, 2 * SB_COUNT_MOST);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_once, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_died_on_the_way, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_names, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_parent, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_absurd, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
