/* SPDX-License-Identifier: ISC */
/*
 * Making one listening socket, TCP or unix.
 * Runs in: parent
 *
 * Accepted sockets inherit what is set here (TCP_NODELAY, SO_LINGER, keepalive, SO_OOBINLINE, TCP_USER_TIMEOUT), so no client costs a call for
 * it. SO_LINGER{1,0} is a promise: whatever closes an accepted socket before its worker ends it in order, the client sees a reset, never an end
 * of data that would look complete.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "parent_bind.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fdutil.h"
#include "log.h"
#include "parent_caps.h"
#include "parent_keepalive.h"
#include "parent_presence.h"

#define FIRST_UNPRIVILEGED_PORT 1024

/* Whether an option is wanted is in its row's `wanted`. */
struct option_row {
	int level, name, value;
	bool wanted;
};

/* Clients inherit them from their listener. Which families a socket takes can be set before bind() only: `v6`. */
static int
set_options(int fd, const struct conf_service *service, bool v6, bool dual)
{
	const struct option_row rows[] = {
		{ SOL_SOCKET, SO_REUSEADDR, 1, true },
		{ SOL_SOCKET, SO_OOBINLINE, 1, true },
		{ SOL_SOCKET, SO_KEEPALIVE, 1, service->keepalive },
		{ IPPROTO_IPV6, IPV6_V6ONLY, !dual, v6 },
		{ IPPROTO_TCP, TCP_NODELAY, 1, true },
		{ IPPROTO_TCP, TCP_KEEPIDLE, KEEPALIVE_IDLE_S, service->keepalive },
		{ IPPROTO_TCP, TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S, service->keepalive },
		{ IPPROTO_TCP, TCP_KEEPCNT, KEEPALIVE_COUNT, service->keepalive },
		{ IPPROTO_TCP, TCP_USER_TIMEOUT, (int)service->user_timeout_ms, service->user_timeout_ms > 0 },
	};
	struct linger reset = { .l_onoff = 1, .l_linger = 0 };

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		if (rows[i].wanted && setsockopt(fd, rows[i].level, rows[i].name, &rows[i].value, sizeof(rows[i].value)) == -1)
			return -1;
	}
	return setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
}

/* Those that may differ from what it was made with. */
static int
renew_options(int fd, const struct conf_service *service)
{
	const struct option_row rows[] = {
		{ SOL_SOCKET, SO_KEEPALIVE, service->keepalive, true },
		{ IPPROTO_TCP, TCP_KEEPIDLE, KEEPALIVE_IDLE_S, service->keepalive },
		{ IPPROTO_TCP, TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S, service->keepalive },
		{ IPPROTO_TCP, TCP_KEEPCNT, KEEPALIVE_COUNT, service->keepalive },
		{ IPPROTO_TCP, TCP_USER_TIMEOUT, (int)service->user_timeout_ms, true },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		if (rows[i].wanted && setsockopt(fd, rows[i].level, rows[i].name, &rows[i].value, sizeof(rows[i].value)) == -1)
			return -1;
	}
	return 0;
}

static int
bind_low_port(int fd, const struct addr *addr)
{
	bool raised = addr_port(addr) < FIRST_UNPRIVILEGED_PORT && caps_raise(CAP_NET_BIND_SERVICE);
	int r = bind(fd, &addr->u.sa, addr->len);

	if (raised)
		caps_lower(CAP_NET_BIND_SERVICE);
	return r;
}

static int
read_back(int fd, struct addr *addr)
{
	addr->len = sizeof(addr->u);
	return getsockname(fd, &addr->u.sa, &addr->len);
}

static int
tcp_socket(const struct conf_service *service, const struct addr *addr, bool dual, struct bound *bound, const char **step)
{
	FD_AUTO int fd = socket(addr->u.sa.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP);

	*step = "make a socket for";
	if (fd == -1)
		return -1;
	*step = "set the socket options of";
	if (set_options(fd, service, addr->u.sa.sa_family == AF_INET6, dual) == -1)
		return -1;
	*step = "listen on";
	/* bind() takes any address where there is none at all. */
	if (bind_low_port(fd, addr) == -1 || presence_check(fd, addr) == -1 || listen(fd, service->backlog) == -1 || read_back(fd, &bound->addr) == -1)
		return -1;
	bound->fd = fd_take(&fd);
	return 0;
}

int
bind_tcp(const struct conf_service *service, const struct conf_endpoint *endpoint, uint16_t port, struct bound *bound, const char **step)
{
	struct addr addr = endpoint->addr;
	int r;

	*bound = (struct bound){ .fd = -1 };
	addr_set_port(&addr, port);
	r = tcp_socket(service, &addr, endpoint->any, bound, step);
	if (r == 0 || !endpoint->any || addr.u.sa.sa_family != AF_INET6 || (errno != EAFNOSUPPORT && errno != EADDRNOTAVAIL))
		return r;
	/* "*" in a namespace without IPv6 */
	addr = (struct addr){ .len = sizeof(addr.u.in) };
	addr.u.in.sin_family = AF_INET;
	addr.u.in.sin_port = htons(port);
	return tcp_socket(service, &addr, false, bound, step);
}

static const char somebody_listens[] = "another program listens there; stop it or choose another name";

/* Is there nobody behind a path that is taken? Then it is a socket whose program went away. */
static bool
is_stale(const struct addr *addr, const char **hint)
{
	FD_AUTO int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	struct stat st;

	if (fd == -1 || lstat(addr->u.un.sun_path, &st) == -1)
		return false;
	*hint = "the path exists and is no socket; remove it or choose another";
	if (!S_ISSOCK(st.st_mode))
		return false;
	*hint = somebody_listens;
	return connect(fd, &addr->u.sa, addr->len) == -1 && errno == ECONNREFUSED;
}

/*
 * The path is born with its mode: bind() takes it from the socket's inode, less the umask (unix(7)). Its owner is changed before listen(), and
 * until then connecting is refused, so nobody ever gets in by the wrong rights.
 */
static int
bind_path(int fd, const struct conf_service *service, const struct addr *addr, const char **hint)
{
	mode_t old = umask(0);
	int r = fchmod(fd, service->unix_mode);

	if (r == 0)
		r = bind(fd, &addr->u.sa, addr->len);
	if (r == -1 && errno == EADDRINUSE) {
		if (is_stale(addr, hint) && unlink(addr->u.un.sun_path) == 0)
			r = bind(fd, &addr->u.sa, addr->len);
		else
			errno = EADDRINUSE;
	}
	(void)umask(old);
	return r;
}

static int
bind_abstract(int fd, const struct addr *addr, const char **hint)
{
	int r = bind(fd, &addr->u.sa, addr->len);

	if (r == -1 && errno == EADDRINUSE)
		*hint = somebody_listens;
	return r;
}

/* Whoever owns a file may give it to a group that he is in, so a group needs CAP_SETGID, which we have, and not CAP_CHOWN. */
static int
give_to_group(int path, gid_t gid)
{
	gid_t own = getegid();
	bool raised = caps_raise(CAP_SETGID);
	int r = setresgid((gid_t)-1, gid, (gid_t)-1), saved;

	if (r == 0)
		r = fchownat(path, "", (uid_t)-1, gid, AT_EMPTY_PATH);
	saved = errno;
	if (setresgid((gid_t)-1, own, (gid_t)-1) == -1)
		fatal(EXIT_MACHINE, "cannot take back the group");
	if (raised)
		caps_lower(CAP_SETGID);
	errno = saved;
	return r;
}

int
bind_give(int path, uid_t uid, gid_t gid)
{
	struct stat st;

	if (fstat(path, &st) == -1)
		return -1;
	if (st.st_uid == uid && st.st_gid == gid)
		return 0;
	if (st.st_uid == uid && give_to_group(path, gid) == 0)
		return 0;
	return fchownat(path, "", uid, gid, AT_EMPTY_PATH);
}

static int
own_path(const struct conf_service *service, struct bound *bound)
{
	FD_AUTO int path = open(bound->addr.u.un.sun_path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;

	if (path == -1 || fstat(path, &st) == -1)
		return -1;
	bound->dev = st.st_dev;
	bound->ino = st.st_ino;
	if (!S_ISSOCK(st.st_mode)) {
		errno = ENOTSOCK;
		return -1;
	}
	return bind_give(path, service->unix_uid, service->unix_gid);
}

int
bind_unix(const struct conf_service *service, const struct conf_endpoint *endpoint, int type, struct bound *bound, const char **step,
    const char **hint)
{
	FD_AUTO int fd = socket(AF_UNIX, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	bool abstract = endpoint->addr.u.un.sun_path[0] == '\0';

	*bound = (struct bound){ .fd = -1, .addr = endpoint->addr };
	*step = "make a socket for";
	if (fd == -1)
		return -1;
	*step = "listen on";
	if ((abstract ? bind_abstract(fd, &bound->addr, hint) : bind_path(fd, service, &bound->addr, hint)) == -1)
		return -1;
	*step = "change the owner of";
	if (!abstract && own_path(service, bound) == -1) {
		if (errno == EPERM)
			*hint = "an owner other than root needs CAP_CHOWN (CapabilityBoundingSet= of the unit)";
		bind_unlink(bound);
		return -1;
	}
	*step = "listen on";
	if (listen(fd, service->backlog) == -1) {
		bind_unlink(bound);
		return -1;
	}
	bound->fd = fd_take(&fd);
	return 0;
}

int
bind_inherited(const struct conf_service *service, int fd, sa_family_t family)
{
	if (fd_set_nonblocking(fd) == -1 || (family != AF_UNIX && set_options(fd, service, false, false) == -1))
		return -1;
	/* Once more: for the backlog. */
	return listen(fd, service->backlog);
}

static int
renew_path(const struct conf_service *service, const struct bound *bound)
{
	const char *path = bound->addr.u.un.sun_path;
	FD_AUTO int fd = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;

	if (fd == -1 || fstat(fd, &st) == -1 || st.st_dev != bound->dev || st.st_ino != bound->ino)
		return -1;
	/* Who may change the mode is the owner; we are not asked for another right to it. */
	if ((st.st_mode & 07777) != service->unix_mode) {
		if (fchownat(AT_FDCWD, path, geteuid(), getegid(), AT_SYMLINK_NOFOLLOW) == -1 || chmod(path, service->unix_mode) == -1)
			return -1;
	}
	return bind_give(fd, service->unix_uid, service->unix_gid);
}

int
bind_renew(const struct conf_service *service, struct bound *bound, const char **step)
{
	*step = "change the socket options of";
	if (bound->addr.u.sa.sa_family != AF_UNIX && renew_options(bound->fd, service) == -1)
		return -1;
	*step = "change the mode or owner of";
	if (bound->ino != 0 && renew_path(service, bound) == -1)
		return -1;
	/* On a socket that listens this only changes the length of its queue. */
	*step = "change the backlog of";
	return listen(bound->fd, service->backlog);
}

void
bind_unlink(const struct bound *bound)
{
	int saved = errno;
	struct stat st;

	if (bound->ino != 0 && lstat(bound->addr.u.un.sun_path, &st) == 0 && st.st_dev == bound->dev && st.st_ino == bound->ino)
		(void)unlink(bound->addr.u.un.sun_path);
	errno = saved;
}

/* A packet filter of three lines: a TCP segment with SYN is dropped (and sent again later), every other one passes. */
static int
drop_handshakes(int fd)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_B | BPF_ABS, offsetof(struct tcphdr, th_flags)),
		BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, TH_SYN, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
		BPF_STMT(BPF_RET | BPF_K, 0),
	};
	struct sock_fprog program = { .len = sizeof(code) / sizeof(code[0]), .filter = code };

	return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program));
}

void
bind_seal(const struct bound *bound)
{
	int r;

	ASSERT(!bound->shared);
	if (bound->addr.u.sa.sa_family == AF_UNIX) {
		bind_unlink(bound);
		r = shutdown(bound->fd, SHUT_RD);
	} else {
		r = drop_handshakes(bound->fd);
	}
	if (r == -1)
		log_debug("handoff", "a listener cannot be kept from newcomers: %s", strerror(errno));
}
