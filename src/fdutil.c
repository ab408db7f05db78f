/* SPDX-License-Identifier: ISC */
/*
 * Descriptors with one owner at every line.
 * Runs in: any
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "fdutil.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

void
fd_close(int *fd)
{
	int saved = errno;

	if (*fd >= 0)
		(void)close(*fd);	/* Linux frees the number whatever close says (close(2)) */
	*fd = -1;
	errno = saved;
}

void
fd_auto_close(int *fd)
{
	fd_close(fd);
}

int
fd_take(int *fd)
{
	int taken = *fd;

	*fd = -1;
	return taken;
}

int
fd_set_nonblocking(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	if (flags == -1)
		return -1;
	return (flags & O_NONBLOCK) ? 0 : fcntl(fd, F_SETFL, flags | O_NONBLOCK);
}

int
fd_set_cloexec(int fd, int on)
{
	return fcntl(fd, F_SETFD, on ? FD_CLOEXEC : 0);
}

/* For kernels before 5.9. The directory's own descriptor is closed last, by closedir(). */
static int
close_from_proc(int first)
{
	DIR *dir = opendir("/proc/self/fd");
	struct dirent *entry;

	if (dir == NULL)
		return -1;
	while ((entry = readdir(dir)) != NULL) {
		long fd = strtol(entry->d_name, NULL, 10);

		if (entry->d_name[0] >= '0' && entry->d_name[0] <= '9' && fd >= first && fd != dirfd(dir))
			(void)close((int)fd);
	}
	return closedir(dir);
}

int
fd_close_from(int first)
{
#ifdef SYS_close_range
	if (syscall(SYS_close_range, (unsigned)first, ~0u, 0u) == 0)
		return 0;
	if (errno != ENOSYS)
		return -1;
#endif
	return close_from_proc(first);
}

size_t
fd_raise_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == -1)
		return 1024;
	if (limit.rlim_cur < limit.rlim_max) {
		rlim_t soft = limit.rlim_cur;

		limit.rlim_cur = limit.rlim_max;
		if (setrlimit(RLIMIT_NOFILE, &limit) == -1)
			limit.rlim_cur = soft;
	}
	return (size_t)limit.rlim_cur;
}
