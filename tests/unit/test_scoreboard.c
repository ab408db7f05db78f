/* SPDX-License-Identifier: ISC */
/*
 * The scoreboard: sealed, read-only for readers, rows read as of one moment.
 * Runs in: any
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "scoreboard.h"

static void
test_sealed(void **state)
{
	int fd = scoreboard_create(10, 3), reader;

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, 0), -1);
	assert_int_equal(errno, EPERM);
	assert_int_equal(ftruncate(fd, 1 << 20), -1);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), -1);
	reader = scoreboard_reader_fd(fd);
	assert_true(reader >= 0);
	assert_ptr_equal(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, reader, 0), MAP_FAILED);
	(void)close(reader);
	(void)close(fd);
}

static void
test_rows(void **state)
{
	int fd = scoreboard_create(10, 3), reader = scoreboard_reader_fd(fd);
	struct scoreboard writer_board, board;
	struct conn_record rec;

	(void)state;
	assert_int_equal(scoreboard_map(&writer_board, fd, 1, 10, 3), 0);
	assert_int_equal(scoreboard_map(&board, reader, 0, 10, 3), 0);
	assert_int_equal(scoreboard_read_row(&board, 0, &rec), 0);
	writer_board.rows[9].rec.id = 77;
	atomic_store(&writer_board.rows[9].used, 1);
	assert_int_equal(scoreboard_read_row(&board, 9, &rec), 1);
	assert_int_equal(rec.id, 77);
	/* A writer that died in the middle of a row never lets go. */
	atomic_store(&writer_board.rows[9].seq, 1);
	assert_int_equal(scoreboard_read_row(&board, 9, &rec), 0);
	assert_int_equal(scoreboard_read_row(&board, 10, &rec), 0);
	/* What was never used is not worth reading, and no claim of a writer leads beyond the end. */
	assert_int_equal(scoreboard_rows(&board), 0);
	atomic_store(&writer_board.head->rows_used, 7);
	assert_int_equal(scoreboard_rows(&board), 7);
	atomic_store(&writer_board.head->rows_used, UINT64_MAX);
	assert_int_equal(scoreboard_rows(&board), 10);
	sb_add(&writer_board.head->taken, 5);
	sb_add(&writer_board.services[2].ends[END_IDLE], 2);
	assert_int_equal(sb_get(&board.head->taken), 5);
	assert_int_equal(sb_get(&board.services[2].ends[END_IDLE]), 2);
	scoreboard_unmap(&board);
	scoreboard_unmap(&writer_board);
	(void)close(reader);
	(void)close(fd);
}

static void
test_wrong_sizes(void **state)
{
	int fd = scoreboard_create(10, 3);
	struct scoreboard board;

	(void)state;
	assert_int_equal(scoreboard_map(&board, fd, 0, 11, 3), -1);
	assert_int_equal(errno, EPROTO);
	assert_int_equal(scoreboard_map(&board, fd, 0, 10, 4), -1);
	assert_null(board.map);
	(void)close(fd);
}

static void
test_histograms(void **state)
{
	struct sb_histogram histogram = { 0 };
	uint64_t n = 0;

	(void)state;
	for (unsigned which = 0; which < SB_HISTOGRAMS; which++) {
		for (unsigned i = 1; i < SB_BUCKETS - 1; i++)
			assert_true(sb_bounds[which][i] > sb_bounds[which][i - 1]);
	}
	sb_observe(&histogram, SB_CONNECT, 0);
	sb_observe(&histogram, SB_CONNECT, sb_bounds[SB_CONNECT][0]);
	sb_observe(&histogram, SB_CONNECT, sb_bounds[SB_CONNECT][0] + 1);
	sb_observe(&histogram, SB_CONNECT, sb_bounds[SB_CONNECT][SB_BUCKETS - 2] + 1);
	assert_int_equal(sb_get(&histogram.buckets[0]), 2);
	assert_int_equal(sb_get(&histogram.buckets[1]), 1);
	assert_int_equal(sb_get(&histogram.buckets[SB_BUCKETS - 1]), 1);
	for (unsigned i = 0; i < SB_BUCKETS; i++)
		n += sb_get(&histogram.buckets[i]);
	assert_int_equal(n, 4);
	assert_int_equal(sb_get(&histogram.sum), 2 * sb_bounds[SB_CONNECT][0] + sb_bounds[SB_CONNECT][SB_BUCKETS - 2] + 2);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sealed),
		cmocka_unit_test(test_rows),
		cmocka_unit_test(test_wrong_sizes),
		cmocka_unit_test(test_histograms),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
