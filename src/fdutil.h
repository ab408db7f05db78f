/* SPDX-License-Identifier: ISC */
/*
 * Descriptors with one owner at every line.
 * Runs in: any
 */
#ifndef FDUTIL_H
#define FDUTIL_H

#include <stddef.h>

/* A descriptor that is closed when its scope ends unless fd_take() moved it out: FD_AUTO int fd = open(...); */
#define FD_AUTO __attribute__((cleanup(fd_auto_close)))

/* For FD_AUTO only. */
void fd_auto_close(int *fd);
/* Moves ownership out of *fd, which becomes -1. */
int fd_take(int *fd);
/* Closes *fd unless it is negative, sets it to -1, keeps errno. */
void fd_close(int *fd);
/* 0 or -1 with errno. */
int fd_set_nonblocking(int fd);
int fd_set_cloexec(int fd, int on);
/* Closes every descriptor from first upwards: close_range(2), or /proc/self/fd where that is missing. 0 or -1 with errno. */
int fd_close_from(int first);
/* Raises the soft limit of descriptors to the hard one; returns the limit now in force. */
size_t fd_raise_limit(void);

#endif
