# SPDX-License-Identifier: ISC
"""
Errors injected into the system calls of running parent and workers: each call they were seen to make, each of the temporary errors it can return, at the
first, second, fifth and last call. Whatever fails: nobody exits, each client sees its bytes or a reset in time, nothing leaks, and the next client is served.
The filter kills for an injected call (the kernel sees number -1), so this needs programs built with --enable-test-hooks, in NSPROXY_HOOKS_PREFIX.
"""

import concurrent.futures
import contextlib
import os
import random
import signal
import threading
import time

import pytest

from conftest import LONG
from support import peers, proc, rows, strace, waits

TEMPORARY = ("EINTR", "EAGAIN", "ECONNABORTED", "EMFILE", "ENFILE", "ENOBUFS", "ENOMEM")

# Which of these each call may return, as its manual page or the kernel's code has it. An error that says something about the state of a socket
# (EAGAIN: its queue is empty) cannot be injected where somebody relies on the event that would end this state.
POSSIBLE = {
    "accept4": TEMPORARY,
    "recvmsg": ("EINTR", "EAGAIN", "ENOBUFS", "ENOMEM"),
    "recvfrom": ("EINTR", "ENOBUFS", "ENOMEM"),
    "sendto": ("EINTR", "ENOBUFS", "ENOMEM"),
    "sendmsg": ("EINTR", "EAGAIN", "ENOBUFS", "ENOMEM", "ETOOMANYREFS"),
    "splice": ("EINTR", "ENOMEM"),
    "epoll_ctl": ("ENOMEM", "ENOSPC"),
    "epoll_pwait2": ("EINTR",),
    "epoll_wait": ("EINTR",),
    "io_uring_enter": ("EINTR", "EAGAIN", "EBUSY", "ENOMEM"),
    "socket": ("EMFILE", "ENFILE", "ENOBUFS", "ENOMEM"),
    "connect": ("EINTR", "EAGAIN", "ENOBUFS", "ENOMEM", "EADDRNOTAVAIL"),
    "setsockopt": ("ENOBUFS", "ENOMEM"),
    "getsockopt": ("ENOBUFS", "ENOMEM"),
    "getsockname": ("ENOBUFS",),
    "shutdown": ("ENOBUFS",),
    "read": ("EINTR", "EAGAIN"),
    "write": ("EINTR", "ENOBUFS", "ENOMEM"),
    "clock_nanosleep": ("EINTR",),
    "madvise": ("EAGAIN", "ENOMEM"),
    "socketpair": ("EMFILE", "ENFILE", "ENOBUFS", "ENOMEM"),
    "memfd_create": ("EMFILE", "ENFILE", "ENOMEM"),
    "ftruncate": ("EINTR",),
    "pwrite64": ("EINTR", "ENOMEM"),
    "fcntl": ("EINTR", "EAGAIN", "EMFILE", "ENOMEM"),
    "openat": ("EINTR", "EMFILE", "ENFILE", "ENOMEM"),
    "newfstatat": ("ENOMEM",),
    "fstat": ("ENOMEM",),
    "mmap": ("EAGAIN", "ENFILE", "ENOMEM"),
    "munmap": ("ENOMEM",),
    "mprotect": ("ENOMEM",),
    "brk": ("ENOMEM",),
    "pipe2": ("EMFILE", "ENFILE", "ENOMEM"),
    "clone": ("EAGAIN", "ENOMEM"),
    "setns": ("ENOMEM",),
    "setresuid": ("EAGAIN",),
    "setgroups": ("ENOMEM",),
    "dup2": ("EINTR", "EMFILE"),
    "dup3": ("EINTR", "EMFILE"),
    "close_range": ("EMFILE", "ENOMEM"),
    "execveat": ("EAGAIN", "EMFILE", "ENFILE", "ENOMEM"),
    "prlimit64": ("ENOMEM",),
    "landlock_create_ruleset": ("EMFILE", "ENFILE", "ENOMEM"),
    "landlock_add_rule": ("ENOMEM",),
    "landlock_restrict_self": ("ENOMEM",),
    "seccomp": ("ENOMEM", "EAGAIN"),
    "sched_setscheduler": ("EPERM", "ENOSYS"),
    "epoll_create1": ("EMFILE", "ENFILE", "ENOMEM"),
    "io_uring_setup": ("EMFILE", "ENFILE", "ENOMEM"),
    "io_uring_register": ("ENOMEM", "EINTR"),
}
# None of them, or none that can be told: close() frees the number whatever it says, which an injected failure, not being made at all, does not do; and
# wait4() with WNOHANG never waits, so nothing interrupts it.
NEVER = {
    "close", "wait4", "kill", "exit", "exit_group", "rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "restart_syscall", "clock_gettime", "getpid", "getppid",
    "gettid", "getuid", "geteuid", "getgid", "getegid", "getgroups", "capset", "capget", "prctl", "setresgid", "set_robust_list", "set_tid_address",
    "arch_prctl", "rseq", "getrandom", "access", "pread64", "lseek", "readlink", "umask", "sched_getaffinity", "getdents64", "uname", "poll", "statfs",
    "sched_yield", "futex", "gettimeofday", "time", "sched_getscheduler",
}
NTH = (1, 2, 5)
AT_ONCE = 6             # daemons, where nothing is shared between them
DEADLINE = 8            # seconds for one client
CLIENTS = 5
SIZE = 300_000
SEED = int(os.environ.get("NSPROXY_SEED", "1"))


@pytest.fixture(autouse=True)
def needs_strace():
    if not strace.present():
        pytest.skip("strace is missing (apt-get install strace)")


def converse(world, proxy):
    """One client, served by an echo: "complete" or "reset". Anything else is a fault of the worst kind."""
    try:
        with peers.connect(world.pub, "10.10.10.10", proxy.port, timeout=DEADLINE) as client:
            client.sendall(b"ping")
            answer = peers.receive_exactly(client, 4)
            assert answer == b"ping", f"an end in order in place of an answer ({answer})"
            sending = peers.Background(lambda: (peers.send_pattern(client, SIZE), client.shutdown(1)))
            total, sha, how = peers.drain(client)
            if how == peers.RESET:
                return "reset"
            sending.result(DEADLINE)
            assert (total, sha) == (SIZE, peers.digest(SIZE)), f"silent truncation: an end in order after {total} of {SIZE} bytes"
            return "complete"
    except (ConnectionResetError, BrokenPipeError):
        return "reset"
    except TimeoutError:
        raise AssertionError(f"stuck: no progress for {DEADLINE} s") from None


def scenario(world, proxy):
    return [converse(world, proxy) for _ in range(CLIENTS)]


class Matrix:
    """Counts, and what went wrong."""

    def __init__(self):
        self.run, self.complete, self.reset, self.wrong = 0, 0, 0, []
        self._lock = threading.Lock()

    def add(self, name, results):
        with self._lock:
            self.run += 1
            self.complete += results.count("complete")
            self.reset += results.count("reset")
            print(f"{name:50} {' '.join(results)}")

    def fail(self, name, problem):
        with self._lock:
            self.run += 1
            self.wrong.append(f"{name}: {problem}")
            print(f"{name:50} WRONG {problem}")

    def text(self):
        return f"{self.run} combinations, {self.complete} clients complete, {self.reset} reset, {len(self.wrong)} wrong"


def combinations(counts, who):
    """(who, call, errno, when) of everything in the trace; a call that nobody has classified fails the test."""
    unknown = set(counts) - set(POSSIBLE) - NEVER
    assert not unknown, f"system calls that this test does not know: {sorted(unknown)}"
    return [(who, call, errno, str(nth)) for call in sorted(counts) for errno in POSSIBLE.get(call, ())
            for nth in sorted({*(n for n in NTH if n <= counts[call]), counts[call]})]


def chosen(found, most):
    """All of them in the long run; else as many as there is time for, of every call the first of its errors at least."""
    if LONG or len(found) <= most:
        return found
    first = {}
    for entry in found:
        first.setdefault((entry[0], entry[1]), entry)
    rest = [entry for entry in found if entry not in first.values()]
    random.Random(SEED).shuffle(rest)
    return [*first.values(), *rest[:max(0, most - len(first))]]


def start(world, hooked, server, engine):
    """A daemon of that build, in the place of the ordinary one."""
    world.install = hooked
    proxy = world.relay(server, engine)
    proxy.expect_log("")        # any line: the faults are ours
    proxy.check_workers = False
    return proxy


def test_while_serving(world, hooked, engine, figure):
    """Parent and worker, one call of one of them fails while clients come, talk and go."""
    server = world.serve(peers.echo)
    proxy = start(world, hooked, server, engine)
    pids = {"parent": proxy.pid, "worker": proxy.workers()[0]}
    scenario(world, proxy)
    with strace.calls(pids.values()) as counts:
        scenario(world, proxy)
    found = [entry for who, pid in pids.items() for entry in combinations(counts[pid], who)]
    matrix = Matrix()
    for who, call, errno, when in chosen(found, 90):
        name = f"{who} {call} {errno} {when}"
        try:
            with strace.injecting([pids[who]], call, errno, when):
                results = scenario(world, proxy)
            assert proxy.alive(), "the parent ended"
            assert proxy.workers() == [pids["worker"]], f"the worker ended: {proxy.log()[-300:]}"
            assert converse(world, proxy) == "complete", "the next client was not served"
            proxy.wait_settled()
            matrix.add(name, results)
        except AssertionError as problem:
            matrix.fail(name, problem)
            if not proxy.alive() or proxy.workers() != [pids["worker"]]:
                proxy = start(world, hooked, server, engine)
                pids = {"parent": proxy.pid, "worker": proxy.workers()[0]}
    figure(matrix.text())
    rows.record(28, engine, f"while serving: {matrix.text()} (of {len(found)}, seed {SEED})")
    assert not matrix.wrong, "\n".join(matrix.wrong)


LASTING = [("parent", "accept4", "EMFILE"), ("parent", "accept4", "ENFILE"), ("parent", "accept4", "ENOMEM"), ("parent", "sendmsg", "EAGAIN"),
           ("parent", "sendmsg", "ENOMEM"), ("parent", "sendmsg", "ETOOMANYREFS"), ("parent", "recvmsg", "ENOMEM"), ("parent", "epoll_pwait2", "EINTR"),
           ("worker", "recvmsg", "ENOMEM"), ("worker", "socket", "EMFILE"), ("worker", "socket", "ENOBUFS"), ("worker", "connect", "EADDRNOTAVAIL"),
           ("worker", "recvfrom", "ENOMEM"), ("worker", "write", "ENOBUFS"), ("worker", "sendto", "ENOBUFS"),
           ("worker", "epoll_pwait2", "EINTR"), ("worker", "epoll_ctl", "ENOMEM")]


def test_that_lasts(world, hooked, figure):
    """The same call fails again and again for a while: accepting pauses, clients wait or are reset, and all recovers by itself."""
    server = world.serve(peers.echo)
    proxy = start(world, hooked, server, "adaptive")
    pids = {"parent": proxy.pid, "worker": proxy.workers()[0]}
    matrix = Matrix()
    for who, call, errno in LASTING:
        name = f"{who} {call} {errno} always"
        try:
            cpu = proc.cpu_seconds(proxy.pid)
            with strace.injecting([pids[who]], call, errno, "1+"):
                clients = [peers.Background(converse, world, proxy) for _ in range(3)]
                waits.stays(lambda: proxy.alive() and proxy.workers() == [pids["worker"]], 0.4, "parent and worker live")
            results = [client.result(2 * DEADLINE) for client in clients]
            assert converse(world, proxy) == "complete", "the next client was not served"
            proxy.wait_settled()
            if call == "accept4":
                assert proc.cpu_seconds(proxy.pid) - cpu < 0.2, "the parent spins"
            matrix.add(name, results)
        except AssertionError as problem:
            matrix.fail(name, problem)
            if not proxy.alive() or proxy.workers() != [pids["worker"]]:
                proxy = start(world, hooked, server, "adaptive")
                pids = {"parent": proxy.pid, "worker": proxy.workers()[0]}
    figure(matrix.text())
    rows.record(28, "-", f"errors that last 0.4 s: {matrix.text()}")
    assert not matrix.wrong, "\n".join(matrix.wrong)


HEARTBEAT = [(who, call, errno) for who, call in (("parent", "sendto"), ("worker", "recvmsg"), ("worker", "sendto"), ("parent", "recvmsg"))
             for errno in POSSIBLE[call]] + [("parent", "epoll_pwait2", "EINTR")]
LOST_AFTER, BETWEEN = 10, 3     # seconds without an answer that end a worker, and between two questions


def test_heartbeat(world, hooked, figure):
    """A question or an answer of the heartbeat fails once: no reason to lose a worker. All at the same time, each with a daemon of its own."""
    server = world.serve(peers.echo)
    proxies = [start(world, hooked, server, "adaptive") for _ in HEARTBEAT]
    matrix = Matrix()
    with contextlib.ExitStack() as stack:
        for proxy, (who, call, errno) in zip(proxies, HEARTBEAT):
            stack.enter_context(strace.injecting([proxy.pid if who == "parent" else proxy.first_workers[0]], call, errno, "1"))
        until = time.monotonic() + LOST_AFTER + 2 * BETWEEN
        waits.until(lambda: time.monotonic() > until or any(proxy.workers() != proxy.first_workers for proxy in proxies), "", LOST_AFTER + 3 * BETWEEN)
    for proxy, (who, call, errno) in zip(proxies, HEARTBEAT):
        name = f"{who} {call} {errno} 1 (heartbeat)"
        try:
            assert proxy.alive() and proxy.workers() == proxy.first_workers, f"the worker was lost: {proxy.log()[-300:]}"
            matrix.add(name, [converse(world, proxy)])
        except AssertionError as problem:
            matrix.fail(name, problem)
    figure(matrix.text())
    rows.record(28, "-", f"heartbeat: {matrix.text()}")
    assert not matrix.wrong, "\n".join(matrix.wrong)


def replaced(proxy, victim):
    """Kills the worker and waits until another one serves, or until its start has failed once."""
    lines = len(proxy.lines)
    os.kill(victim, signal.SIGKILL)
    proxy.wait_log("ended: killed by signal 9", after=lines)
    deadline = time.monotonic() + 0.5
    waits.until(lambda: time.monotonic() > deadline or [line for line in proxy.lines[lines:] if "cannot start" in line.text or "keeps dying" in line.text],
                "a second try")


def test_while_a_worker_is_replaced(world, hooked, figure):
    """Parent, and the child until it serves: the start of a worker fails, and is tried again."""
    server = world.serve(peers.echo)
    proxy = start(world, hooked, server, "adaptive")
    with strace.calls([proxy.pid]) as counts:
        replaced(proxy, proxy.workers()[0])
    found = combinations(counts[proxy.pid], "parent")
    children = [pid for pid in counts if pid != proxy.pid]
    assert children, "no child was seen"
    found += combinations(counts[children[0]], "child")
    matrix = Matrix()

    def one(combination):
        who, call, errno, when = combination
        name = f"{who} {call} {errno} {when}"
        proxy = start(world, hooked, server, "adaptive")
        try:
            before = proc.descriptor_kinds(proxy.pid)
            with strace.injecting([proxy.pid], call, errno, when):
                replaced(proxy, proxy.workers()[0])
            assert proxy.alive(), f"the parent ended: {proxy.log()[-300:]}"
            results = [converse(world, proxy)]
            waits.until(lambda: proc.descriptor_kinds(proxy.pid) == before, lambda: f"descriptors: {proc.descriptor_kinds(proxy.pid)}, before {before}", 10)
            assert results == ["complete"], "the next client was not served"
            matrix.add(name, results)
        except AssertionError as problem:
            matrix.fail(name, problem)
        world.proxies.remove(proxy)
        proxy.destroy()
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:       # they mostly wait
        list(pool.map(one, chosen(found, 120)))
    figure(matrix.text())
    rows.record(28, "-", f"while a worker is replaced: {matrix.text()} (of {len(found)}, seed {SEED})")
    assert not matrix.wrong, "\n".join(matrix.wrong)


def test_a_shipped_build_dies_of_an_injected_call(world, install):
    """Only the test build may let number -1 pass."""
    proxy = world.relay(world.serve(peers.echo))
    proxy.check_workers = False
    proxy.expect_log("worker", "lost")
    victim = proxy.workers()[0]
    with strace.injecting([victim], "recvmsg", "EINTR", "1"):
        waits.until(lambda: not proc.alive(victim) or peers_try(world, proxy), "the worker's end")
    proxy.wait_log("killed by signal 31")


def peers_try(world, proxy):
    """A client that makes the worker work; what becomes of it does not matter."""
    try:
        peers.connect(world.pub, "10.10.10.10", proxy.port, timeout=1).close()
    except OSError:
        pass
    return False
