/* SPDX-License-Identifier: ISC */
/*
 * All code between fork and exec: from a copy of the parent to an image without privilege.
 * Runs in: parent
 */
#ifndef PARENT_CHILD_H
#define PARENT_CHILD_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* What a child is to be. Descriptors are the parent's: the child works on its own copies. */
struct child_plan {
	const char *title;		/* argv[0] */
	int program;			/* O_PATH descriptor of the image */
	int netns;			/* namespace to enter; CHILD_STAY, CHILD_EMPTY */
	int fds[3];			/* become CHILD_FD_CHANNEL and the numbers after it */
	unsigned n_fds;
	unsigned n_pipes;		/* pairs from WORKER_FD_PIPES on; with pipes n_fds is 3 */
	uid_t uid;
	gid_t gid;
	bool one_id;
	bool killed_first;		/* rather this process than others when memory runs out */
};
#define CHILD_STAY (-1)			/* where the parent is */
#define CHILD_EMPTY (-2)		/* a new namespace without a link to anywhere */

/* What a child that failed before exec leaves in the pipe. */
struct child_failure {
	uint32_t step;			/* enum child_step */
	int32_t err;
	char detail[48];		/* "" or what exactly */
};

enum child_step { CHILD_NUMBER, CHILD_NETNS, CHILD_PIPES, CHILD_DROP, CHILD_SIGNALS, CHILD_EXEC, CHILD_STEPS };

/* "enter its network namespace"; "?" for what is none. */
const char *child_step_name(unsigned step);
/* In the child. failure_fd gets a struct child_failure when exec is not reached; exec closes it. */
void child_run(const struct child_plan *plan, int failure_fd) __attribute__((noreturn));

#endif
