/* SPDX-License-Identifier: ISC */
/*
 * The numbers under which the spawner leaves descriptors to a child's image.
 * Runs in: any
 */
#ifndef CHILD_FDS_H
#define CHILD_FDS_H

/* 0-2 are /dev/null in both. The reporter only has CHILD_FD_CHANNEL. */
#define CHILD_FD_CHANNEL 3
#define WORKER_FD_REPORT 4		/* to the reporter */
#define WORKER_FD_SCOREBOARD 5		/* until mapped */
#define WORKER_FD_PIPES 6		/* reading end, writing end, reading end, ... */
#define WORKER_PIPES 64
#define WORKER_PIPE_SIZE (1024 * 1024)	/* bytes wanted; what is got is read back */

#endif
