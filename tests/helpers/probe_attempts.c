/* SPDX-License-Identifier: ISC */
/*
 * The attempts of a worker that was taken over, and the controls: data where a system call with fixed arguments says it all.
 * Runs in: worker
 *
 * Arguments are such that the call would do little if it went through: numbers that are no descriptors, empty ranges, flags that only ask.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "probe_attempts.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define FAMILY_FLAGS (SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC)
#define NOWHERE "/tmp/nsproxy-probe-must-not-exist"
#define TEXT(s) ((long)(uintptr_t)(s))
#define AT(object) ((long)(uintptr_t)&(object))
#define PAGE 4096

static const char *const no_args[] = { NULL };
static char page[2 * PAGE] __attribute__((aligned(PAGE)));
static char buffer[256];
static int one = 1;
static struct timespec now;
static struct iovec iov = { buffer, 1 };
static struct sockaddr_in any = { .sin_family = AF_INET };
static uint64_t clone_args[11];
static uint64_t how[3];
static struct __user_cap_header_struct cap_header = { _LINUX_CAPABILITY_VERSION_3, 0 };
static struct __user_cap_data_struct cap_data[2];

long
probe_call(const struct attempt *attempt)
{
	const long *a = attempt->args;

	return syscall(attempt->nr, a[0], a[1], a[2], a[3], a[4], a[5]);
}

static void
target_address(const struct probe_context *context, int offset, struct addr *addr)
{
	struct wire_addr wire = context->target;

	wire.port = (uint16_t)(wire.port + offset);
	(void)addr_from_wire(&wire, addr);
}

/* A TCP socket towards the target's port plus offset: the connect's result. */
static long
connect_to(const struct probe_context *context, int offset, int protocol)
{
	struct addr addr;
	int fd;

	target_address(context, offset, &addr);
	fd = socket(addr.u.sa.sa_family, FAMILY_FLAGS, protocol);
	if (fd == -1)
		return -1;
	if (connect(fd, &addr.u.sa, addr.len) == -1 && (errno == EACCES || errno == EPERM))
		return -1;
	return 0;
}

static long
connect_target(const struct probe_context *context)
{
	return connect_to(context, 0, 0);
}

static long
connect_other_port(const struct probe_context *context)
{
	return connect_to(context, 1, 0);
}

/* What Landlock does not count as TCP reaches any port, if such a socket can be made. */
static long
connect_mptcp(const struct probe_context *context)
{
	return connect_to(context, 1, IPPROTO_MPTCP);
}

/* A send that connects. */
static long
connect_fast_open(const struct probe_context *context)
{
	struct addr addr;
	int fd;

	target_address(context, 1, &addr);
	fd = socket(addr.u.sa.sa_family, FAMILY_FLAGS, 0);
	if (fd == -1)
		return -1;
	if (sendto(fd, "x", 1, MSG_FASTOPEN | MSG_NOSIGNAL, &addr.u.sa, addr.len) == -1 && (errno == EACCES || errno == EPERM))
		return -1;
	return 0;
}

static long
kill_parent(const struct probe_context *context)
{
	return kill(context->parent, SIGKILL);
}

static long
thread_kill_parent(const struct probe_context *context)
{
	return syscall(SYS_tgkill, context->parent, context->parent, SIGKILL);
}

static long
trace_parent(const struct probe_context *context)
{
	return syscall(SYS_ptrace, PTRACE_SEIZE, context->parent, 0, 0);
}

static long
pidfd_of_parent(const struct probe_context *context)
{
	return syscall(SYS_pidfd_open, context->parent, 0);
}

static long
read_parent(const struct probe_context *context)
{
	struct iovec remote = { page, 1 };

	return syscall(SYS_process_vm_readv, context->parent, &iov, 1, &remote, 1, 0);
}

static long
write_parent(const struct probe_context *context)
{
	struct iovec remote = { page, 1 };

	return syscall(SYS_process_vm_writev, context->parent, &iov, 1, &remote, 1, 0);
}

static long
limit_parent(const struct probe_context *context)
{
	return syscall(SYS_prlimit64, context->parent, 7, NULL, buffer);
}

/* As any sender of descriptors would, and as a plain message. */
static long
send_descriptor(const struct probe_context *context)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = { .bytes = "" };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control) };
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);

	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(cmsg), &one, sizeof(one));
	return sendmsg(context->channel, &msg, MSG_NOSIGNAL);
}

static long
send_without_descriptor(const struct probe_context *context)
{
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

	return sendmsg(context->channel, &msg, MSG_NOSIGNAL);
}

#ifdef __x86_64__
/* System calls of the other two ABIs of this processor: the numbers mean something else there. */
static long
call_i386(const struct probe_context *context)
{
	long r;

	(void)context;
	__asm__ volatile("int $0x80" : "=a"(r) : "a"(20 /* getpid */) : "memory", "r8", "r9", "r10", "r11");
	return r < 0 ? -1 : 0;
}
#endif

/* Nothing must be stopped that has the wrong errno only: a control worked if it was not killed and not refused. */
static long
control(long r)
{
	return r == -1 && (errno == EPERM || errno == EACCES) ? -1 : 0;
}

static long
control_recvfrom(const struct probe_context *context)
{
	return control(recv(context->channel, buffer, 0, MSG_DONTWAIT | MSG_PEEK));
}

static long
control_read(const struct probe_context *context)
{
	(void)context;
	return control(read(-1, buffer, 1));
}

static long
control_epoll(const struct probe_context *context)
{
	(void)context;
	return control(epoll_ctl(-1, EPOLL_CTL_DEL, -1, NULL));
}

static long
control_options(const struct probe_context *context)
{
	int fd = socket(AF_INET, FAMILY_FLAGS, 0);

	(void)context;
	return fd == -1 ? -1 : setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
}

#define CALL(name, ...) { #name, SYS_##name, { __VA_ARGS__ }, NULL, false }
#define AS(title, name, ...) { title, SYS_##name, { __VA_ARGS__ }, NULL, false }
#define ACT(title, function) { title, 0, { 0 }, function, false }
#define CONTROL(title, function) { title, 0, { 0 }, function, true }
#define FAMILY(name) { "socket " #name, SYS_socket, { name, FAMILY_FLAGS, 0 }, NULL, false }
#define NUMBER(n) { "socket of family " #n, SYS_socket, { n, FAMILY_FLAGS, 0 }, NULL, false }
#define TYPE(family, type) { "socket " #family " " #type, SYS_socket, { family, (type) | SOCK_NONBLOCK | SOCK_CLOEXEC, 0 }, NULL, false }
#define OPTION(level, name) { "setsockopt " #name, SYS_setsockopt, { 0, level, name, AT(one), sizeof(one) }, NULL, false }

const struct attempt attempts[] = {
	{ "clock_gettime, allowed", SYS_clock_gettime, { CLOCK_MONOTONIC, AT(now) }, NULL, true },
	CONTROL("recvfrom, allowed", control_recvfrom),
	CONTROL("read, allowed", control_read),
	CONTROL("epoll_ctl, allowed", control_epoll),
	CONTROL("setsockopt TCP_NODELAY, allowed", control_options),
	CONTROL("connect to the target, allowed", connect_target),
	/* the kernel itself */
	CALL(bpf, 5, TEXT(page), 64), CALL(io_uring_setup, 1, TEXT(page)), CALL(io_uring_register, -1, 0, 0, 0), CALL(userfaultfd, 0),
	CALL(perf_event_open, TEXT(page), 0, -1, -1, 0), CALL(fanotify_init, 0, 0), CALL(inotify_init1, 0), CALL(reboot, 0, 0, 0, 0),
	CALL(kexec_load, 0, 0, 0, 0), CALL(init_module, 0, 0, TEXT("")), CALL(finit_module, -1, TEXT(""), 0), CALL(delete_module, TEXT("none"), 0),
	CALL(acct, TEXT(NOWHERE)), CALL(syslog, 10, 0, 0), CALL(sethostname, TEXT("x"), 0), CALL(settimeofday, 0, 0), CALL(clock_settime, 0, TEXT(&now)),
	CALL(adjtimex, TEXT(page)), CALL(quotactl, 0, 0, 0, 0), CALL(pipe2, TEXT(buffer), 0), CALL(eventfd2, 0, 0), CALL(epoll_create1, 0),
	CALL(timerfd_create, 1, 0), CALL(signalfd4, -1, TEXT(buffer), 8, 0), CALL(shmget, 0, 4096, 01600), CALL(msgget, 0, 01600), CALL(semget, 0, 1, 01600),
	CALL(mq_open, TEXT("x"), 0), CALL(getrandom, TEXT(buffer), 1, 0), CALL(futex, TEXT(page), 1, 1),
#ifdef __x86_64__
	CALL(iopl, 3), CALL(ioperm, 0, 1, 1), CALL(modify_ldt, 0, TEXT(buffer), 8), CALL(arch_prctl, 0x1003, TEXT(buffer)),
	ACT("a system call of i386", call_i386), { "a system call of x32", 0x40000000 | SYS_getpid, { 0 }, NULL, false },
#endif
	{ "a system call that does not exist", 599, { 0 }, NULL, false },
	/* programs and processes */
	CALL(execve, TEXT("/bin/true"), TEXT(no_args), TEXT(no_args)), CALL(execveat, AT_FDCWD, TEXT("/bin/true"), TEXT(no_args), TEXT(no_args)),
#ifdef SYS_fork
	CALL(fork), CALL(vfork),
#endif
	CALL(clone, SIGCHLD), AS("clone of a thread", clone, CLONE_VM | CLONE_THREAD | CLONE_SIGHAND), CALL(clone3, AT(clone_args), sizeof(clone_args)),
	ACT("ptrace of the parent", trace_parent), AS("ptrace TRACEME", ptrace, PTRACE_TRACEME), ACT("kill the parent", kill_parent),
	ACT("tgkill the parent", thread_kill_parent), AS("kill everyone", kill, -1, SIGKILL), AS("tkill itself", tkill, 1, 0),
	CALL(rt_sigqueueinfo, 1, 0, TEXT(buffer)), ACT("pidfd_open of the parent", pidfd_of_parent), CALL(pidfd_getfd, -1, 0, 0),
	CALL(pidfd_send_signal, -1, 0, 0, 0), ACT("process_vm_readv of the parent", read_parent), ACT("process_vm_writev of the parent", write_parent),
	CALL(process_madvise, -1, TEXT(&iov), 1, MADV_COLD, 0), CALL(kcmp, 1, 1, 0, 0, 0), CALL(setpriority, 0, 0, 0), CALL(sched_setscheduler, 0, 0, TEXT(buffer)),
	ACT("prlimit64 of the parent", limit_parent), CALL(setrlimit, 7, TEXT(buffer)), CALL(wait4, -1, 0, 1, 0), CALL(personality, 0xffffffff),
	CALL(rt_sigaction, SIGSYS, 0, 0, 8), CALL(setitimer, 0, TEXT(buffer), 0),
	/* files */
#ifdef SYS_open
	CALL(open, TEXT("/dev/null"), O_RDONLY), CALL(creat, TEXT(NOWHERE), 0600),
#endif
	CALL(openat, AT_FDCWD, TEXT("/dev/null"), O_RDONLY), CALL(openat2, AT_FDCWD, TEXT("/dev/null"), TEXT(how), sizeof(how)),
	CALL(open_by_handle_at, AT_FDCWD, TEXT(buffer), O_RDONLY), CALL(name_to_handle_at, AT_FDCWD, TEXT("/"), TEXT(buffer), TEXT(&one), 0),
	CALL(getdents64, 0, TEXT(buffer), sizeof(buffer)), CALL(readlinkat, AT_FDCWD, TEXT("/proc/self/exe"), TEXT(buffer), sizeof(buffer)),
	CALL(newfstatat, AT_FDCWD, TEXT("/"), TEXT(page), 0), CALL(statx, AT_FDCWD, TEXT("/"), 0, 0, TEXT(page)), CALL(faccessat, AT_FDCWD, TEXT("/"), 0),
	CALL(unlinkat, AT_FDCWD, TEXT(NOWHERE), 0), CALL(renameat2, AT_FDCWD, TEXT(NOWHERE), AT_FDCWD, TEXT(NOWHERE), 0),
	CALL(mkdirat, AT_FDCWD, TEXT(NOWHERE), 0700), CALL(symlinkat, TEXT(NOWHERE), AT_FDCWD, TEXT(NOWHERE)), CALL(mknodat, AT_FDCWD, TEXT(NOWHERE), 0600, 0),
	CALL(linkat, AT_FDCWD, TEXT(NOWHERE), AT_FDCWD, TEXT(NOWHERE), 0), CALL(fchmodat, AT_FDCWD, TEXT(NOWHERE), 0), CALL(fchownat, AT_FDCWD, TEXT(NOWHERE), 0, 0, 0),
	CALL(truncate, TEXT(NOWHERE), 0), CALL(ftruncate, 5, 0), CALL(fallocate, 5, 0, 0, 0), CALL(chdir, TEXT("/")), CALL(fchdir, 0), CALL(chroot, TEXT("/")),
	CALL(writev, 1, TEXT(&iov), 1), CALL(pwrite64, 1, TEXT(buffer), 1, 0), CALL(pwritev2, 1, TEXT(&iov), 1, 0, 0, 0), CALL(readv, 0, TEXT(&iov), 1),
	CALL(sendfile, 1, 0, 0, 1), CALL(copy_file_range, 0, 0, 1, 0, 1, 0), CALL(tee, 0, 1, 1, 0), CALL(vmsplice, 1, TEXT(&iov), 1, 0),
	CALL(memfd_create, TEXT("x"), 0), CALL(ioctl, 0, 0x5412 /* TIOCSTI */, TEXT(buffer)), AS("fcntl F_SETFL", fcntl, 3, F_SETFL, 0),
	AS("fcntl F_DUPFD", fcntl, 3, F_DUPFD, 0), CALL(dup, 3), CALL(dup3, 3, 9, 0), CALL(flock, 3, 2), CALL(umask, 0), CALL(swapoff, TEXT(NOWHERE)),
	/* sockets: every family but IPv4 and IPv6, every type but plain TCP */
	FAMILY(AF_UNSPEC), FAMILY(AF_UNIX), FAMILY(AF_NETLINK), FAMILY(AF_PACKET), FAMILY(AF_ALG), FAMILY(AF_VSOCK), FAMILY(AF_BLUETOOTH), FAMILY(AF_CAN),
	FAMILY(AF_TIPC), FAMILY(AF_RDS), FAMILY(AF_KEY), FAMILY(AF_XDP), FAMILY(AF_SMC), FAMILY(AF_IB), FAMILY(AF_NFC), FAMILY(AF_KCM), FAMILY(AF_QIPCRTR),
	FAMILY(AF_PPPOX), FAMILY(AF_LLC), FAMILY(AF_AX25), FAMILY(AF_X25), FAMILY(AF_RXRPC), FAMILY(AF_PHONET), FAMILY(AF_CAIF), FAMILY(AF_IUCV),
	FAMILY(AF_ISDN), FAMILY(AF_IEEE802154), FAMILY(AF_APPLETALK), FAMILY(AF_IPX), NUMBER(6), NUMBER(7), NUMBER(8), NUMBER(11), NUMBER(12), NUMBER(13),
	NUMBER(14), NUMBER(18), NUMBER(20), NUMBER(22), NUMBER(25), NUMBER(28), NUMBER(45), NUMBER(46),
	TYPE(AF_INET, SOCK_DGRAM), TYPE(AF_INET, SOCK_RAW), TYPE(AF_INET, SOCK_RDM), TYPE(AF_INET, SOCK_SEQPACKET), TYPE(AF_INET, SOCK_DCCP),
	TYPE(AF_INET, SOCK_PACKET), TYPE(AF_INET6, SOCK_DGRAM), TYPE(AF_INET6, SOCK_RAW), TYPE(AF_INET6, SOCK_RDM), TYPE(AF_INET6, SOCK_SEQPACKET),
	TYPE(AF_INET6, SOCK_DCCP), TYPE(AF_INET6, SOCK_PACKET), AS("socket AF_INET that blocks", socket, AF_INET, SOCK_STREAM, 0),
	AS("socket AF_INET SCTP", socket, AF_INET, FAMILY_FLAGS, IPPROTO_SCTP), AS("socket AF_INET MPTCP", socket, AF_INET, FAMILY_FLAGS, IPPROTO_MPTCP),
	AS("socket AF_INET6 MPTCP", socket, AF_INET6, FAMILY_FLAGS, IPPROTO_MPTCP), AS("socket AF_INET SMC", socket, AF_INET, FAMILY_FLAGS, 256),
	CALL(socketpair, AF_UNIX, SOCK_STREAM, 0, TEXT(buffer)), CALL(bind, 0, TEXT(&any), sizeof(any)), CALL(listen, 0, 1),
#ifdef SYS_accept
	CALL(accept, 0, 0, 0),
#endif
	CALL(accept4, 0, 0, 0, 0), ACT("connect to another port", connect_other_port), ACT("connect by MPTCP to another port", connect_mptcp),
	ACT("connect by fast open to another port", connect_fast_open), ACT("sendmsg of a descriptor to the parent", send_descriptor),
	ACT("sendmsg to the parent", send_without_descriptor), CALL(sendmmsg, 3, TEXT(page), 1, 0), CALL(recvmmsg, 3, TEXT(page), 1, 0, 0),
	AS("recvmsg of the report channel", recvmsg, 4, TEXT(page), MSG_CMSG_CLOEXEC | MSG_DONTWAIT), AS("recvmsg that keeps over exec", recvmsg, 3, TEXT(page), 0),
	AS("shutdown SHUT_RD", shutdown, 3, SHUT_RD), AS("getsockopt SO_PEERCRED", getsockopt, 3, SOL_SOCKET, SO_PEERCRED, TEXT(buffer), TEXT(&one)),
	OPTION(SOL_SOCKET, SO_ATTACH_FILTER), OPTION(SOL_SOCKET, SO_ATTACH_BPF), OPTION(SOL_SOCKET, SO_BINDTODEVICE), OPTION(SOL_SOCKET, SO_MARK),
	OPTION(SOL_SOCKET, SO_RCVBUFFORCE), OPTION(IPPROTO_TCP, TCP_ULP), OPTION(IPPROTO_TCP, TCP_REPAIR), OPTION(IPPROTO_TCP, TCP_CONGESTION),
	OPTION(IPPROTO_TCP, TCP_FASTOPEN_CONNECT), OPTION(IPPROTO_IP, IP_TRANSPARENT), OPTION(IPPROTO_IP, IP_OPTIONS), OPTION(IPPROTO_IPV6, IPV6_TRANSPARENT),
	/* namespaces, mounts, identity, privilege */
	CALL(setns, -1, CLONE_NEWNET), AS("unshare CLONE_NEWUSER", unshare, CLONE_NEWUSER), AS("unshare CLONE_NEWNET", unshare, CLONE_NEWNET),
	AS("unshare CLONE_FILES", unshare, CLONE_FILES), CALL(mount, TEXT("none"), TEXT(NOWHERE), TEXT("tmpfs")), CALL(umount2, TEXT(NOWHERE), 0),
	CALL(pivot_root, TEXT("/"), TEXT("/")), CALL(fsopen, TEXT("tmpfs"), 0), CALL(open_tree, AT_FDCWD, TEXT("/"), 0), CALL(move_mount, -1, TEXT(""), -1, TEXT("")),
	CALL(mount_setattr, -1, TEXT(""), 0, TEXT(page), 0), CALL(setuid, 0), CALL(setresuid, 0, 0, 0), CALL(setgid, 0), CALL(setresgid, 0, 0, 0),
	CALL(setgroups, 0, 0), CALL(setfsuid, 0), CALL(setsid), CALL(capset, TEXT(&cap_header), TEXT(cap_data)), CALL(capget, TEXT(&cap_header), TEXT(cap_data)),
	AS("prctl PR_SET_DUMPABLE", prctl, PR_SET_DUMPABLE, 1), AS("prctl PR_SET_NAME", prctl, PR_SET_NAME, TEXT("x")), CALL(seccomp, 2, 0, TEXT(buffer)),
	CALL(landlock_create_ruleset, 0, 0, 1), CALL(keyctl, 0, 0, 0), CALL(add_key, TEXT("user"), TEXT("x"), TEXT("x"), 1, -4),
	CALL(request_key, TEXT("user"), TEXT("x"), 0, 0),
	/* memory */
	AS("mmap PROT_EXEC", mmap, 0, PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
	AS("mmap", mmap, 0, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
	AS("mprotect PROT_EXEC", mprotect, TEXT(page), PAGE, PROT_READ | PROT_EXEC), AS("mprotect of a page of code", mprotect, TEXT(&probe_call), 0, PROT_WRITE),
	CALL(pkey_mprotect, TEXT(page), PAGE, PROT_EXEC, -1), CALL(mremap, TEXT(page), PAGE, 2 * PAGE, 0), CALL(remap_file_pages, TEXT(page), PAGE, 0, 0, 0),
	CALL(munmap, TEXT(page), PAGE), CALL(brk, 0), CALL(mlock, TEXT(page), 1), CALL(memfd_secret, 0), AS("madvise MADV_WILLNEED", madvise, TEXT(page), PAGE, MADV_WILLNEED),
	AS("madvise MADV_REMOVE", madvise, TEXT(page), PAGE, MADV_REMOVE), AS("madvise MADV_MERGEABLE", madvise, TEXT(page), PAGE, MADV_MERGEABLE),
};
const unsigned n_attempts = sizeof(attempts) / sizeof(attempts[0]);
