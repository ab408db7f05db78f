# SPDX-License-Identifier: ISC
"""What a machine does to its programs: no memory left, a clock that jumps, a port that is its own other end, floods, features switched off."""

import contextlib
import os
import socket
import subprocess
import sys

import pytest

from conftest import LONG, PUBLIC
from support import cgroup, peers, proc, rows, waits

PORTS = "40000 40003"
ATTEMPTS = 200 if LONG else 40
MEMORY = 96 << 20       # of the control group


def served(sock, text=b"ping"):
    sock.sendall(text)
    return peers.receive_exactly(sock, len(text)) == text


# -- a TCP connection whose two ends are one socket --

@pytest.fixture
def few_ports(priv):
    before = priv.sysctl("net/ipv4/ip_local_port_range")
    priv.sysctl("net/ipv4/ip_local_port_range", PORTS)
    yield int(PORTS.split()[0])
    priv.sysctl("net/ipv4/ip_local_port_range", before)


@pytest.mark.parametrize("log", ["log", "none"])
def test_target_is_its_own_end(world, engine, few_ports, log):
    """Nobody listens on a port that the kernel may choose for the connecting side: then it connects to itself, which is no target."""
    proxy = world.relay(few_ports, engine, options=("-a", log))
    proxy.expect_log("cannot connect")
    for _ in range(ATTEMPTS):
        peers.expect_reset(world.pub, PUBLIC, proxy.port, b"to myself")
    if log == "log":
        records = proxy.wait_access(ATTEMPTS)
        assert {(record["end"], record["down"]) for record in records} == {("connect-refused", "0")}
    rows.record(11, engine, f"a target port that is the connection's own: {ATTEMPTS} of {ATTEMPTS} refused")


# -- no memory left --

@pytest.fixture
def memory_group():
    try:
        made = cgroup.MemoryGroup(f"nt{os.getpid()}oom")
    except OSError as error:
        pytest.skip(f"no memory control group can be made here ({error})")
    yield made
    waits.until(lambda: removed(made), "the end of all that was in the control group")


def removed(group):
    try:
        group.remove()
        return True
    except OSError:
        return False


# Pages of a file in memory belong to no process, so that the kernel looks for another one; a step at a time, until it is told to stop.
FILLER = """
import os, sys
fd = os.memfd_create("filler")
for line in sys.stdin:
    os.write(fd, bytes(1 << 16))
    print("written", flush=True)
"""


def fill_until(filler, condition):
    """Takes memory in steps; gives it back as soon as the condition is true."""
    steps = 0
    while not condition():
        assert steps < 4 * MEMORY >> 16, "the limit does not bite"
        assert filler.poll() is None, "the kernel chose the process that takes the memory"
        filler.stdin.write("more\n")
        filler.stdin.flush()
        assert filler.stdout.readline() == "written\n", "the kernel chose the process that takes the memory"
        steps += 1
    filler.kill()
    filler.wait()


def test_out_of_memory(memory_group, world):
    """The kernel kills a worker, since workers ask to be first; the parent and what the other workers hold live on, and a new worker starts."""
    server = world.serve(peers.echo)
    proxy = world.relay(server, workers=3, popen={"preexec_fn": memory_group.enter})
    proxy.check_workers = False
    proxy.expect_log("worker", "lost", "reporter")
    clients = [world.connect(proxy) for _ in range(9)]
    assert all(served(client) for client in clients)
    memory_group.limit(MEMORY)
    filler = subprocess.Popen([sys.executable, "-c", FILLER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, preexec_fn=memory_group.enter)
    with contextlib.ExitStack() as stack:
        stack.callback(filler.kill)
        fill_until(filler, lambda: [pid for pid in proxy.first_workers if not proc.alive(pid)])
    dead = [pid for pid in proxy.first_workers if not proc.alive(pid)]
    proxy.wait_log("killed by signal 9")
    assert proxy.alive() and len(dead) < 3, f"{len(dead)} of 3 workers were killed"
    alive = 0
    for client in clients:
        try:
            alive += served(client)
        except (ConnectionResetError, BrokenPipeError):
            pass
    assert alive == 9 - 3 * len(dead), "connections of a worker that lives"
    waits.until(lambda: len(proxy.workers()) == 3, "three workers again")
    client = world.connect(proxy)
    assert served(client)
    rows.record(41, "-", f"{len(dead)} of 3 workers killed for want of memory, parent and reporter live, {alive} of 9 connections survive, "
                "the next client is served")


# -- the clock --

def test_wall_clock_jumps(world, hooked, engine):
    """The build for it has a wall clock that jumps by a day five times a second. Nothing but the dates in the log goes by it."""
    server = world.serve(peers.echo)
    world.install = hooked
    proxy = world.relay(server, engine, workers=2, idle_timeout='"1h"', half_close_timeout='"1h"', connect_timeout='"1h"')
    client = world.connect(proxy)
    assert served(client)
    others = [world.connect(proxy) for _ in range(10)]
    for other in others:
        assert served(other)
        other.shutdown(socket.SHUT_WR)
        assert other.recv(1) == b""
        other.close()
    days = 0
    while days < 2:             # until it has been seen in the dates, so that this shows something
        with peers.connect(world.pub, PUBLIC, proxy.port) as other:
            assert served(other)
        assert served(client), "a connection was closed"
        waits.stays(proxy.alive, 0.05, "it lives")
        days = len({record["start"][:10] for record in proxy.access()})
    waits.stays(lambda: proxy.alive() and not proxy.alarms(), 3.5, "more than one heartbeat")
    assert served(client)
    records = proxy.access()
    assert {record["end"] for record in records} == {"closed-by-client"}
    assert all(0 <= float(record["duration_ms"]) < 60000 and 0 <= float(record["connect_ms"]) < 60000 for record in records)
    rows.record(42, engine, f"the wall clock jumps by a day five times a second: 0 of {len(records) + 1} connections closed by it, {days} days in the log")


# -- features switched off --

def test_unprivileged_bpf_disabled(world):
    """Debian's default since 5.16 (2). Nothing of ours needs it: filters on sockets are of the old kind, which stays allowed."""
    try:
        with open("/proc/sys/kernel/unprivileged_bpf_disabled", encoding="ascii") as file:
            value = int(file.read())
    except FileNotFoundError:
        pytest.skip("this kernel has no such switch")
    if value == 0:
        pytest.skip("the machine allows unprivileged bpf(), and the switch cannot be turned back")
    proxy = world.relay(world.serve(peers.echo))
    assert served(world.connect(proxy))
    rows.record(43, "-", f"kernel.unprivileged_bpf_disabled = {value}: serves with every layer")
