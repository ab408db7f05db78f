/* SPDX-License-Identifier: ISC */
/*
 * Starting children and telling how they ended.
 * Runs in: parent
 */
#ifndef PARENT_SPAWN_H
#define PARENT_SPAWN_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "log.h"
#include "parent_child.h"

/* Which program is it? Two are the same when all of it is. */
struct program_id {
	dev_t dev;
	ino_t ino;
	int64_t mtime;			/* ns */
};
/* Zero when it cannot be told. */
struct program_id spawn_program_id(int fd);
/* The descriptor of one of our images, for fexecve() only. -1 after one line that names the path. */
int spawn_open_program(const char *path);
/* Forks. The child's id, and in *failure_fd what spawn_verdict() wants, the caller's. -1 with errno. Never blocks. */
pid_t spawn(const struct child_plan *plan, int *failure_fd);

/* How a child ended. */
struct spawn_verdict {
	enum exit_code code;		/* of nsproxy, when this ends its start */
	char text[256];			/* "killed by signal 9 (Killed)", "cannot enter its network namespace: Operation not permitted" */
};
/* Reads what is in failure_fd, does not close it; -1: none. */
void spawn_verdict(int status, int failure_fd, struct spawn_verdict *verdict);
/* SIGKILL, also to a child that has become another user. Nothing when pid <= 0. */
void spawn_kill(pid_t pid);

/* When a child that ended is to be started again: at once, unless it keeps dying. */
struct spawn_backoff {
	uint64_t started;		/* loop time of the last start */
	uint64_t wait;			/* ns; 0: the next start is at once */
};
void spawn_backoff_started(struct spawn_backoff *backoff, uint64_t now);
/* The child ended: loop time of the next start. */
uint64_t spawn_backoff_next(struct spawn_backoff *backoff, uint64_t now);

#endif
