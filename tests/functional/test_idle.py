# SPDX-License-Identifier: ISC
"""Many connections that do nothing: what each costs, kernel included, and that nobody wakes up for them."""

import os
import time

import pytest

from conftest import LONG, PUBLIC
from support import cgroup, peers, proc, rows, waits

COUNT = 8000 if LONG else 1000
MOST_EACH = 7 * 1024    # bytes
SECONDS = 2.0
ROUND_TRIPS = 500


def open_all(connect, server):
    clients = [connect() for _ in range(COUNT)]
    waits.until(lambda: server.accepted >= COUNT, lambda: f"{server.accepted} of {COUNT} connections at the target", 60)
    return clients


class Keeper:
    """A target that accepts and keeps, without a thread for each connection."""

    def __init__(self, world):
        self.server = world.serve()

    @property
    def accepted(self):
        return self.server.accepted

    def close_all(self, clients):
        for client in clients:
            peers.reset(client)
        for _ in range(len(clients)):
            self.server.take().close()
        self.server.accepted = 0


def at_rest(pids):
    """Nobody woke up for a while: what the connections brought is done."""
    def woken():
        return [proc.wakeups(pid) for pid in pids]
    before = woken()
    waits.stays(lambda: all(map(proc.alive, pids)), 0.2, "they live")
    return woken() == before


@pytest.fixture
def memory_group():
    """None where a control group cannot be made: then only the daemon's own memory is counted."""
    try:
        made = cgroup.MemoryGroup(f"nt{os.getpid()}")
    except OSError:
        yield None
        return
    yield made
    waits.until(lambda: removed(made), "the end of all that was in the control group")


def removed(group):
    try:
        group.remove()
        return True
    except OSError:
        return False


def test_memory_of_idle_connections(memory_group, world, figure):
    keeper = Keeper(world)
    proxy = world.relay(keeper.server.port, workers=2, popen={"preexec_fn": memory_group.enter} if memory_group else {})

    def used():
        return memory_group.bytes() if memory_group else sum(proc.rss(pid) for pid in proxy.pids())
    before = used()
    clients = open_all(lambda: peers.connect(world.pub, PUBLIC, proxy.port), keeper)
    each = (used() - before) / COUNT
    keeper.close_all(clients)
    figure(f"{COUNT} idle: {each / 1024:.2f} KiB each, {'kernel memory included' if memory_group else 'without the kernel memory, which is not shown here'}")
    rows.record(31, "-", f"{COUNT} idle: {each / 1024:.2f} KiB each{', kernel memory included' if memory_group else ''}")
    assert each <= MOST_EACH


def test_nobody_wakes_up_for_idle_connections(world, engine, figure):
    keeper = Keeper(world)
    proxy = world.relay(keeper.server.port, engine, workers=2)
    clients = open_all(lambda: peers.connect(world.pub, PUBLIC, proxy.port), keeper)
    for client in clients[:10]:
        client.sendall(b"x")
    waits.until(lambda: at_rest(proxy.pids()), "all to be at rest")
    before = {pid: (proc.wakeups(pid), proc.cpu_seconds(pid)) for pid in proxy.pids()}
    waits.stays(proxy.alive, SECONDS, "it serves")
    after = {pid: (proc.wakeups(pid), proc.cpu_seconds(pid)) for pid in before}
    woken = {proc.program(pid) + f"[{pid}]": after[pid][0] - before[pid][0] for pid in before}
    figure(f"{COUNT} idle, wake-ups in {SECONDS:g} s: {woken}")
    rows.record(31, engine, f"{COUNT} idle, wake-ups in {SECONDS:g} s: {sum(woken.values())}")
    for pid in before:
        assert after[pid][0] - before[pid][0] <= SECONDS + 2, f"{proc.program(pid)} woke up {woken}"
        assert after[pid][1] - before[pid][1] <= 0.05
    keeper.close_all(clients)
    proxy.wait_access(COUNT)


def test_memory_comes_back(world, engine, figure):
    """After many connections and bulk, the worker is as big as after the first few."""
    server = world.serve(peers.sink)
    proxy = world.relay(server, engine)

    def batch(count):
        clients = [peers.connect(world.pub, PUBLIC, proxy.port) for _ in range(count)]
        for client in clients:
            client.sendall(peers.BLOCK[:200000])
            client.shutdown(1)
        for client in clients:
            assert len(peers.receive_exactly(client, 64)) == 64
            client.close()
        proxy.wait_settled()
    batch(100)
    before = {pid: proc.rss(pid) for pid in proxy.pids()}
    for _ in range(5):
        batch(100)
    grown = {proc.program(pid): proc.rss(pid) - size for pid, size in before.items()}
    figure(f"growth over 500 connections more: {grown} bytes")
    assert max(grown.values()) < 512 << 10


def test_latency_among_idle_connections(world, engine):
    keeper = Keeper(world)
    echo = world.serve(peers.echo)
    text = "".join(f'service {name} {{\n listen = {{"{world.public()}"}}\n connect = {{"{world.private(server.port)}"}}\n engine = "{engine}"\n}}\n'
                   for name, server in (("idle", keeper.server), ("busy", echo)))
    proxy = world.proxy("-w", "2" if LONG else "1", "-f", world.config(text))
    port = proxy.addresses("idle")[0][2]
    clients = open_all(lambda: peers.connect(world.pub, PUBLIC, port), keeper)
    busy = world.keep(peers.connect(world.pub, PUBLIC, proxy.addresses("busy")[0][2]))
    waits.until(lambda: at_rest(proxy.pids()), "all to be at rest")
    before, begun, times = [proc.wakeups(pid) for pid in proxy.pids()], time.monotonic(), []
    for _ in range(ROUND_TRIPS):
        started = time.monotonic()
        busy.sendall(b"x")
        assert busy.recv(1) == b"x"
        times.append(time.monotonic() - started)
    woken = sum(proc.wakeups(pid) - count for pid, count in zip(proxy.pids(), before))
    spent = time.monotonic() - begun
    # A byte there and a byte back; beside them each process may wake up once a second, as above.
    assert woken <= 2 * ROUND_TRIPS + len(before) * (spent + 2), f"{woken} wake-ups for {ROUND_TRIPS} round trips: the idle ones cost some"
    times.sort()
    rows.record(31, engine, f"one active among {COUNT} idle: p50 {times[250] * 1e6:.0f} us, p99 {times[495] * 1e6:.0f} us")
    keeper.close_all(clients)
