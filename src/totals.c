/* SPDX-License-Identifier: ISC */
/*
 * Counters that outlive the process they belong to.
 * Runs in: any
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "totals.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "fdutil.h"

/* Milliseconds until a lock counts as left behind. */
#define LOCK_TRIES 100u

_Static_assert(sizeof(struct totals_parent) % 8 == 0 && sizeof(struct totals_gone) % 8 == 0, "no padding at the end");

/* Sealed before anyone else sees it: who could shrink it could fault its readers. */
static int
create(const char *name, size_t size)
{
	FD_AUTO int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	uint32_t version = MSG_VERSION;

	if (fd == -1 || ftruncate(fd, (off_t)size) == -1 || pwrite(fd, &version, sizeof(version), 0) != (ssize_t)sizeof(version))
		return -1;
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == -1)
		return -1;
	return fd_take(&fd);
}

/* NULL with errno. Both structs begin with the version. */
static void *
map(int fd, size_t size, int prot)
{
	struct stat st;
	void *p;

	if (fstat(fd, &st) == -1)
		return NULL;
	if (st.st_size != (off_t)size) {
		errno = EPROTO;
		return NULL;
	}
	p = mmap(NULL, size, prot, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		return NULL;
	if (*(const uint32_t *)p == MSG_VERSION)
		return p;
	(void)munmap(p, size);
	errno = EPROTO;
	return NULL;
}

void
totals_init(struct totals *totals)
{
	*totals = (struct totals){ .parent_fd = -1, .parent_reader = -1, .gone_fd = -1 };
}

int
totals_adopt(struct totals *totals, int parent_fd, int gone_fd)
{
	struct totals_parent *parent = map(parent_fd, sizeof(*parent), PROT_READ | PROT_WRITE);
	int reader;

	if (parent == NULL)
		return -1;
	reader = scoreboard_reader_fd(parent_fd);
	if (reader == -1) {
		(void)munmap(parent, sizeof(*parent));
		return -1;
	}
	*totals = (struct totals){ .parent_fd = parent_fd, .parent_reader = reader, .gone_fd = gone_fd, .parent = parent };
	return 0;
}

int
totals_create(struct totals *totals)
{
	FD_AUTO int parent_fd = create("nsproxy-totals", sizeof(struct totals_parent));
	FD_AUTO int gone_fd = create("nsproxy-totals-of-the-gone", sizeof(struct totals_gone));
	struct timespec now;

	totals_init(totals);
	if (parent_fd == -1 || gone_fd == -1 || totals_adopt(totals, parent_fd, gone_fd) == -1)
		return -1;
	(void)fd_take(&parent_fd);
	(void)fd_take(&gone_fd);
	(void)clock_gettime(CLOCK_REALTIME, &now);
	totals_set(totals, TOTALS_STARTED, (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec);
	totals_set(totals, TOTALS_RELOADED, (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec);
	totals_set(totals, TOTALS_RELOAD_GOOD, 1);
	return 0;
}

void
totals_free(struct totals *totals)
{
	if (totals->parent != NULL) {
		(void)munmap(totals->parent, sizeof(*totals->parent));
		fd_close(&totals->parent_fd);
		fd_close(&totals->parent_reader);
		fd_close(&totals->gone_fd);
	}
	totals_init(totals);
}

int
totals_map(struct totals_view *view, const int fds[2])
{
	void *parent = map(fds[0], sizeof(struct totals_parent), PROT_READ);

	if (parent == NULL)
		return -1;
	view->gone = map(fds[1], sizeof(struct totals_gone), PROT_READ | PROT_WRITE);
	if (view->gone == NULL) {
		(void)munmap(parent, sizeof(struct totals_parent));
		return -1;
	}
	view->parent = parent;
	return 0;
}

void
totals_unmap(struct totals_view *view)
{
	if (view->parent != NULL) {
		(void)munmap((void *)(uintptr_t)view->parent, sizeof(*view->parent));
		(void)munmap(view->gone, sizeof(*view->gone));
	}
	memset(view, 0, sizeof(*view));
}

static uint32_t
valid_of(const struct totals_view *view)
{
	return atomic_load_explicit(&view->gone->valid, memory_order_relaxed) & 1;
}

const struct totals_sums *
totals_sums(const struct totals_view *view)
{
	return &view->gone->sums[valid_of(view)];
}

static void
lock(struct totals_view *view)
{
	for (unsigned tries = 0; tries < LOCK_TRIES; tries++) {
		uint32_t is_free = 0;

		if (atomic_compare_exchange_strong(&view->gone->locked, &is_free, 1))
			return;
		(void)poll(NULL, 0, 1);
	}
	/* Making a state takes a millisecond at most: its owner has died. */
}

static void
unlock(struct totals_view *view)
{
	atomic_store(&view->gone->locked, 0);
}

/* The other copy, equal to the valid one, to be changed and then put in its place by commit(). Under the lock. */
static struct totals_sums *
begin(struct totals_view *view)
{
	const struct totals_sums *from = totals_sums(view);
	struct totals_sums *to = &view->gone->sums[!valid_of(view)];

	to->death = from->death;
	to->dropped = from->dropped;
	to->n_services = from->n_services < TOTALS_SERVICES ? from->n_services : TOTALS_SERVICES;
	memcpy(to->services, from->services, to->n_services * sizeof(to->services[0]));
	return to;
}

/* The writer may die between any two stores: nothing before this one counts. */
static void
commit(struct totals_view *view)
{
	atomic_store_explicit(&view->gone->valid, !valid_of(view), memory_order_release);
}

static void
rename_service(struct totals_view *view, uint32_t i, const char *name)
{
	const struct totals_sums *sums = totals_sums(view);
	struct totals_sums *next;

	if (i < sums->n_services && strncmp(sums->services[i].name, name, sizeof(sums->services[i].name)) == 0)
		return;
	next = begin(view);
	for (uint32_t n = next->n_services; n <= i; n++)
		memset(&next->services[n], 0, sizeof(next->services[n]));
	memset(&next->services[i], 0, sizeof(next->services[i]));
	(void)snprintf(next->services[i].name, sizeof(next->services[i].name), "%s", name);
	if (next->n_services <= i)
		next->n_services = i + 1;
	commit(view);
}

void
totals_name(struct totals_view *view, uint32_t i, const char *name)
{
	if (view->parent == NULL || i >= TOTALS_SERVICES)
		return;
	view->named[i] = true;
	lock(view);
	rename_service(view, i, name);
	unlock(view);
}

static bool
fold(struct totals_view *view, uint64_t death, const struct scoreboard *board, const uint32_t *lost)
{
	uint64_t dropped = board->map != NULL ? sb_get(&board->head->dropped) : 0;
	struct totals_sums *next;

	if (death <= totals_sums(view)->death)
		return false;
	next = begin(view);
	next->death = death;
	for (uint32_t i = 0; board->map != NULL && i < board->n_services && i < next->n_services; i++) {
		struct sb_service *sums = &next->services[i].sums;

		sb_service_add(sums, &board->services[i]);
		sb_add(&sums->ends[END_WORKER_LOST], lost != NULL ? lost[i] : 0);
		sb_add(&sums->finished, lost != NULL ? lost[i] : 0);
	}
	next->dropped += dropped < SB_COUNT_MOST ? dropped : SB_COUNT_MOST;
	commit(view);
	return true;
}

bool
totals_fold(struct totals_view *view, uint64_t death, const struct scoreboard *board, const uint32_t *lost)
{
	bool done;

	if (view->parent == NULL)
		return false;
	lock(view);
	done = fold(view, death, board, lost);
	unlock(view);
	return done;
}
