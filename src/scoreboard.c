/* SPDX-License-Identifier: ISC */
/*
 * Counters and live connections of one worker in a sealed memfd.
 * Runs in: any
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "scoreboard.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fdutil.h"

/* A reader that finds a row being written this often in a row has met a writer that died in the middle. */
#define READ_TRIES 1000

_Static_assert(sizeof(struct sb_service) % sizeof(_Atomic uint64_t) == 0 && sizeof(_Atomic uint64_t) == 8, "sb_service is an array of counters");
#define SERVICE_COUNTERS (sizeof(struct sb_service) / sizeof(_Atomic uint64_t))

#define MS UINT64_C(1000)
#define S (1000 * MS)
const uint64_t sb_bounds[SB_HISTOGRAMS][SB_BUCKETS - 1] = {
	[SB_CONNECT] = { 100, 250, 500, 1 * MS, 2500, 5 * MS, 10 * MS, 25 * MS, 50 * MS, 100 * MS, 500 * MS, 1 * S },
	[SB_DURATION] = { 1 * MS, 5 * MS, 10 * MS, 50 * MS, 100 * MS, 500 * MS, 1 * S, 10 * S, 60 * S, 600 * S, 3600 * S, 86400 * S },
};

static size_t
round_up(size_t n)
{
	return (n + 63) & ~(size_t)63;
}

static size_t
services_offset(void)
{
	return round_up(sizeof(struct sb_head));
}

static size_t
rows_offset(uint32_t n_services)
{
	return services_offset() + round_up(sizeof(struct sb_service) * n_services);
}

size_t
scoreboard_size(uint32_t max_conns, uint32_t n_services)
{
	return rows_offset(n_services) + sizeof(struct sb_row) * max_conns;
}

/* Sealed before anyone else sees it: who could shrink it could fault its readers (fcntl(2), F_ADD_SEALS). */
int
scoreboard_create(uint32_t max_conns, uint32_t n_services)
{
	FD_AUTO int fd = memfd_create("nsproxy-scoreboard", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	struct sb_head head = { .version = MSG_VERSION, .max_conns = max_conns, .n_services = n_services };

	if (fd == -1 || ftruncate(fd, (off_t)scoreboard_size(max_conns, n_services)) == -1)
		return -1;
	if (pwrite(fd, &head, sizeof(head), 0) != (ssize_t)sizeof(head))
		return -1;
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == -1)
		return -1;
	return fd_take(&fd);
}

int
scoreboard_reader_fd(int fd)
{
	char path[64];

	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return open(path, O_RDONLY | O_CLOEXEC);
}

int
scoreboard_map(struct scoreboard *sb, int fd, int writable, uint32_t max_conns, uint32_t n_services)
{
	struct stat st;

	memset(sb, 0, sizeof(*sb));
	if (fstat(fd, &st) == -1)
		return -1;
	sb->size = scoreboard_size(max_conns, n_services);
	if (st.st_size != (off_t)sb->size) {
		errno = EPROTO;
		return -1;
	}
	sb->map = mmap(NULL, sb->size, writable ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, fd, 0);
	if (sb->map == MAP_FAILED) {
		sb->map = NULL;
		return -1;
	}
	sb->head = sb->map;
	if (sb->head->version != MSG_VERSION) {
		scoreboard_unmap(sb);
		errno = EPROTO;
		return -1;
	}
	sb->services = (void *)((char *)sb->map + services_offset());
	sb->rows = (void *)((char *)sb->map + rows_offset(n_services));
	sb->max_conns = max_conns;
	sb->n_services = n_services;
	return 0;
}

void
scoreboard_unmap(struct scoreboard *sb)
{
	if (sb->map != NULL)
		(void)munmap(sb->map, sb->size);
	memset(sb, 0, sizeof(*sb));
}

uint32_t
scoreboard_rows(const struct scoreboard *sb)
{
	uint64_t n = sb->map != NULL ? sb_get(&sb->head->rows_used) : 0;

	return n < sb->max_conns ? (uint32_t)n : sb->max_conns;
}

int
scoreboard_read_row(const struct scoreboard *sb, uint32_t i, struct conn_record *rec)
{
	const struct sb_row *row;

	if (i >= sb->max_conns)
		return 0;
	row = &sb->rows[i];
	for (int tries = 0; tries < READ_TRIES; tries++) {
		uint32_t before = atomic_load_explicit(&row->seq, memory_order_acquire);

		if (!atomic_load_explicit(&row->used, memory_order_relaxed))
			return 0;
		if (before & 1)
			continue;
		memcpy(rec, &row->rec, sizeof(*rec));
		atomic_thread_fence(memory_order_acquire);
		if (atomic_load_explicit(&row->seq, memory_order_relaxed) == before)
			return 1;
	}
	return 0;
}

void
sb_observe(struct sb_histogram *histogram, enum sb_histogram_id which, uint64_t us)
{
	unsigned i = 0;

	while (i < SB_BUCKETS - 1 && us > sb_bounds[which][i])
		i++;
	sb_add(&histogram->buckets[i], 1);
	sb_add(&histogram->sum, us);
}

void
sb_service_add(struct sb_service *to, const struct sb_service *from)
{
	_Atomic uint64_t *sums = (void *)to;
	const _Atomic uint64_t *counters = (const void *)from;

	for (size_t i = 0; i < SERVICE_COUNTERS; i++) {
		uint64_t n = sb_get(&counters[i]);

		sb_add(&sums[i], n < SB_COUNT_MOST ? n : SB_COUNT_MOST);
	}
}
