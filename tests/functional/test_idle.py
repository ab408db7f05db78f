# SPDX-License-Identifier: ISC
"""Many connections that do nothing: what each costs, kernel included, and that nobody wakes up for them."""

from conftest import LONG, PRIVATE, PUBLIC
from support import peers, proc, waits

COUNT = 4000 if LONG else 1000
MOST_EACH = 7 * 1024    # bytes
SECONDS = 2.0


def slab_bytes():
    """Bytes in the kernel's object caches; None where that is not shown."""
    try:
        with open("/proc/slabinfo") as file:
            rows = [line.split() for line in file][2:]
    except OSError:
        return None
    return sum(int(row[1]) * int(row[3]) for row in rows)


def open_all(world, connect, server):
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


def memory_of(world, connect, keeper, proxy=None):
    """Growth of slab, and of the daemon's own memory, for COUNT connections."""
    def own():
        return sum(proc.rss(pid) for pid in proxy.pids()) if proxy else 0
    slab, user = slab_bytes(), own()
    clients = open_all(world, connect, keeper)
    slab, user = slab_bytes() - slab if slab is not None else 0, own() - user
    return slab, user, clients


def test_memory_of_idle_connections(world, figure):
    """The same clients and targets without nsproxy between them are subtracted. Others use the kernel too, so the best of three counts."""
    keeper = Keeper(world)
    proxy = world.relay(keeper.server.port, workers=2)
    rounds = []
    for _ in range(3):
        slab_direct, _, clients = memory_of(world, lambda: peers.connect(world.priv, PRIVATE, keeper.server.port), keeper)
        keeper.close_all(clients)
        slab, user, clients = memory_of(world, lambda: peers.connect(world.pub, PUBLIC, proxy.port), keeper, proxy)
        keeper.close_all(clients)
        proxy.wait_settled()
        rounds.append(((slab - slab_direct) / COUNT, user / COUNT))
        if sum(rounds[-1]) <= MOST_EACH:
            break
    kernel, user = min(rounds, key=sum)
    measured = "" if slab_bytes() is not None else " (the kernel's share is not shown here)"
    figure(f"{COUNT} idle: {kernel / 1024:.1f} KiB kernel + {user / 1024:.1f} KiB own memory each{measured}")
    assert kernel + user <= MOST_EACH


def test_nobody_wakes_up_for_idle_connections(world, engine, figure):
    keeper = Keeper(world)
    proxy = world.relay(keeper.server.port, engine, workers=2)
    clients = open_all(world, lambda: peers.connect(world.pub, PUBLIC, proxy.port), keeper)
    for client in clients[:10]:
        client.sendall(b"x")
    waits.stays(proxy.alive, 0.3, "it settles")
    before = {pid: (proc.wakeups(pid), proc.cpu_seconds(pid)) for pid in proxy.pids()}
    waits.stays(proxy.alive, SECONDS, "it serves")
    after = {pid: (proc.wakeups(pid), proc.cpu_seconds(pid)) for pid in before}
    rows = {proc.program(pid) + f"[{pid}]": after[pid][0] - before[pid][0] for pid in before}
    figure(f"{COUNT} idle, wake-ups in {SECONDS:g} s: {rows}")
    for pid in before:
        assert after[pid][0] - before[pid][0] <= SECONDS + 2, f"{proc.program(pid)} woke up {rows}"
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
    proxy = world.proxy("-w", "1", "-f", world.config(text))
    port = proxy.addresses("idle")[0][2]
    clients = open_all(world, lambda: peers.connect(world.pub, PUBLIC, port), keeper)
    busy = world.keep(peers.connect(world.pub, PUBLIC, proxy.addresses("busy")[0][2]))
    for _ in range(500):
        busy.sendall(b"x")
        assert busy.recv(1) == b"x"
    keeper.close_all(clients)
