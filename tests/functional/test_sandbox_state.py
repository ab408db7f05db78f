# SPDX-License-Identifier: ISC
"""What /proc says of living processes: no privilege in workers and reporter, none in force in the parent, nothing held but what is needed."""

import contextlib
import os
import re
import signal

import pytest

from support import filters, peers, proc, rows, waits

CAPABILITY_SETS = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
WORKER_KINDS = {"/dev/null", "socket", "pipe", "anon_inode:[eventpoll]", "anon_inode:[signalfd]", "anon_inode:[timerfd]"}


@pytest.fixture
def busy(world):
    """A daemon that relays one connection."""
    server = world.serve()
    proxy = world.relay(server, workers=2)
    client, target = world.pair(proxy, server)
    client.sendall(b"x")
    assert target.recv(1) == b"x"
    return proxy


def test_workers_hold_no_privilege(busy, world):
    for pid in busy.workers():
        status = proc.status(pid)
        assert {name: int(status[name], 16) for name in CAPABILITY_SETS} == dict.fromkeys(CAPABILITY_SETS, 0)
        assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
        assert int(status["Threads"]) == 1
        if not world.install.one_id:
            assert "0" not in status["Uid"].split() + status["Gid"].split(), "root"
            assert not status["Groups"].split(), "supplementary groups"


def test_workers_live_in_the_private_namespace(busy, world):
    for pid in busy.workers():
        assert proc.netns(pid) == world.priv.inode()


def test_workers_hold_nothing_else(busy):
    for pid in busy.workers():
        found = proc.descriptors(pid)
        assert [found[number] for number in range(3)] == ["/dev/null"] * 3
        strange = {number: what for number, what in found.items() if what not in WORKER_KINDS and not what.startswith("/memfd:")}
        assert not strange
        assert len([what for what in found.values() if what.startswith("/memfd:")]) <= 1
        assert len([what for what in found.values() if what == "/dev/null"]) == 3
    counted = ", ".join(f"{count} {kind}" for kind, count in sorted(proc.descriptor_kinds(busy.workers()[0]).items()))
    rows.record(35, "-", f"descriptors of a worker: {counted}")


def test_workers_have_an_empty_environment_and_are_not_dumpable(busy, world):
    for pid in busy.workers():
        with open(f"/proc/{pid}/environ", "rb") as file:
            assert file.read() == b""
        assert os.stat(f"/proc/{pid}/mem").st_uid == 0, "a dumpable process belongs to its own user"
        if not world.install.one_id:
            assert os.stat(f"/proc/{pid}/status").st_uid == 0


def test_workers_have_limits(busy):
    for pid in busy.workers():
        with open(f"/proc/{pid}/limits") as file:
            limits = dict(re.match(r"(Max .*?)  +(\S+)", line).groups() for line in file if line.startswith("Max "))
        assert limits["Max core file size"] == "0"
        assert limits["Max processes"] == "0"
        assert limits["Max file size"] == "0"


def another_policy(pid):
    """Gives the process one: real time, or else one that anybody may give, though with it a process hardly runs on a busy machine."""
    try:
        os.sched_setscheduler(pid, os.SCHED_RR, os.sched_param(1))
    except PermissionError:
        os.sched_setscheduler(pid, os.SCHED_IDLE, os.sched_param(0))
    return os.sched_getscheduler(pid)


def test_workers_step_back_unless_told_otherwise(world):
    """Senders on the same processor go on; but a policy that somebody chose for nsproxy is its workers', too."""
    proxy = world.relay(world.serve(peers.echo))
    proxy.check_workers = False
    assert os.sched_getscheduler(proxy.pid) == os.SCHED_OTHER, "clients wait for the parent"
    for number, policy in enumerate((lambda _: os.SCHED_BATCH, another_policy), 1):
        wanted = policy(proxy.pid)
        (victim,) = waits.until(proxy.workers, "a worker")
        proxy.expect_log(rf"^worker 0 \[.*\] \(process {victim}\) ended: killed by signal 9 \(Killed\); 0 connections lost; a new one is started")
        os.kill(victim, signal.SIGKILL)
        waits.until(lambda pid=victim: not proc.alive(pid), "its end")
        with peers.connect(world.pub, "10.10.10.10", proxy.port) as client:
            client.sendall(b"x")
            assert peers.receive_exactly(client, 1) == b"x"        # so the new one serves
        proxy.wait_access(number)
        (pid,) = proxy.workers()
        assert os.sched_getscheduler(pid) == wanted
    with contextlib.suppress(PermissionError):          # rootless: who once was idle stays idle
        for pid in proxy.pids():
            os.sched_setscheduler(pid, os.SCHED_OTHER, os.sched_param(0))


def test_workers_map_nothing_writable_and_executable(busy):
    for pid in busy.workers():
        with open(f"/proc/{pid}/maps") as file:
            assert not [line for line in file if re.match(r"\S+ .wx", line)]


def test_at_most_thirty_system_calls(world, engine, figure):
    """Counted by walking the filter that is really in force."""
    proxy = world.relay(world.serve(peers.echo), engine)
    pid = proxy.workers()[0]
    try:
        numbers = filters.allowed(pid)
        kills = filters.default_kills(pid)
    except PermissionError as error:
        pytest.skip(f"this kernel shows filters to the machine's root only ({error})")
    figure(f"{len(numbers)} system calls allowed, of a worker")
    assert len(numbers) <= 30
    assert kills, "a forbidden call does not kill the process"
    rows.record(35, engine, f"{len(numbers)} system calls allowed of a worker, any other kills it")
    with peers.connect(world.pub, "10.10.10.10", proxy.port) as client:
        client.sendall(b"still works")
        assert peers.receive_exactly(client, 11) == b"still works"


def test_reporter_holds_no_privilege(busy, world):
    pid = busy.reporter()
    status = proc.status(pid)
    assert {name: int(status[name], 16) for name in CAPABILITY_SETS} == dict.fromkeys(CAPABILITY_SETS, 0)
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    assert proc.netns(pid) not in (world.priv.inode(), world.pub.inode(), os.readlink("/proc/self/ns/net")), "it has a network"
    if not world.install.one_id:
        assert "0" not in status["Uid"].split() + status["Gid"].split()
    found = proc.descriptors(pid)
    assert [found[number] for number in range(3)] == ["/dev/null"] * 3
    strange = {number: what for number, what in found.items() if number > 2 and what not in WORKER_KINDS - {"/dev/null"}}
    assert not strange


def test_parent_has_nothing_in_force_while_serving(busy, world):
    status = proc.status(busy.pid)
    assert int(status["CapEff"], 16) == 0
    assert int(status["CapInh"], 16) == int(status["CapAmb"], 16) == 0
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    assert bin(int(status["CapPrm"], 16)).count("1") <= 12, "it keeps more than it can need"
    assert int(status["CapBnd"], 16) & ~int(status["CapPrm"], 16) == 0, "the bounding set holds more than it may use"


def test_the_drop_comes_before_the_program(busy):
    """Whatever the workers' image can read of its own past: it was executed by a process without privilege (no_new_privs and an empty bounding set remain)."""
    for pid in busy.workers():
        with open(f"/proc/{pid}/auxv", "rb") as file:
            words = memoryview(file.read()).cast("N")
        auxv = dict(zip(words[::2], words[1::2]))
        assert auxv[23] == 0, "AT_SECURE: privileges changed at exec"
