# SPDX-License-Identifier: ISC
"""A reader that does not read slows its own sender, costs a bounded amount of memory, and disturbs nobody else."""

import threading
import time

import pytest

from conftest import LONG
from support import peers, proc, rows

BLOCKED = 0.4           # seconds without a byte accepted: the sender is held back
SLOW = 200 if LONG else 20
KERNEL_BUFFER = 1 << 20
BOUND = 8 << 20         # bytes in flight: two hops of kernel buffers, twice the socket buffers set below, and ours


@pytest.fixture
def small_buffers(pub, priv):
    """Autotuning with a low ceiling, so that the kernel's part of what is in flight is known."""
    keys = ("net/ipv4/tcp_rmem", "net/ipv4/tcp_wmem")
    before = [(space, key, space.sysctl(key)) for space in (pub, priv) for key in keys]
    for space, key, _ in before:
        space.sysctl(key, f"4096 131072 {KERNEL_BUFFER}")
    yield
    for space, key, value in before:
        space.sysctl(key, value)


def fill(sock):
    """Sends until the other side takes no more; how much it took."""
    sock.settimeout(BLOCKED)
    sent = 0
    try:
        while True:
            sent += sock.send(memoryview(peers.BLOCK)[sent % (1 << 16):])
    except TimeoutError:
        sock.settimeout(peers.PATIENCE)
        return sent


@pytest.mark.parametrize("direction", ["up", "down"])
def test_sender_is_held_back_and_nothing_is_lost(world, engine, small_buffers, direction, figure):
    server = world.serve()
    client, target = world.pair(world.relay(server, engine), server)
    sender, receiver = (client, target) if direction == "up" else (target, client)
    sha_sent = []

    def send():
        import hashlib
        sha, total = hashlib.sha256(), 0
        sender.settimeout(BLOCKED)
        try:
            while total < 1 << 30:
                count = sender.send(peers.BLOCK)
                sha.update(memoryview(peers.BLOCK)[:count])
                total += count
        except TimeoutError:
            pass
        sha_sent.append((total, sha.hexdigest()))
        sender.shutdown(1)
    send()
    assert sha_sent[0][0] < BOUND, f"{sha_sent[0][0]} bytes are in flight for a reader that does not read"
    figure(f"{sha_sent[0][0] >> 10} KiB in flight, kernel buffers of both hops included")
    rows.record(13, engine, f"{direction}: sender held back after {sha_sent[0][0] >> 10} KiB, kernel buffers of both hops included")
    assert peers.drain(receiver)[:2] == sha_sent[0]


def test_memory_is_bounded(world, engine, small_buffers, figure):
    server = world.serve()
    proxy = world.relay(server, engine)
    worker = proxy.workers()[0]
    before = proc.rss(worker)
    pairs = [world.pair(proxy, server) for _ in range(SLOW)]
    filling = [peers.Background(fill, client) for client, _ in pairs]
    sent = sum(work.result() for work in filling)
    grown = proc.rss(worker) - before
    figure(f"{SLOW} readers asleep: worker grew by {grown >> 10} KiB, {(sent // SLOW) >> 10} KiB each in flight")
    rows.record(13, engine, f"{SLOW} readers asleep: {(grown >> 10) / SLOW:.1f} KiB of the worker each, {(sent // SLOW) >> 10} KiB each in flight")
    assert grown < SLOW * (256 << 10) + (4 << 20)
    assert sent < SLOW * BOUND
    for client, target in pairs:
        peers.reset(client)
        target.close()
    proxy.wait_access(SLOW)


def test_others_keep_their_speed(world, engine, small_buffers, figure):
    """The same worker serves a fast connection while many sleep: about as fast as before."""
    size = 32 << 20
    server = world.serve()
    proxy = world.relay(server, engine)

    def transfer():
        client, target = world.pair(proxy, server)
        started = time.monotonic()
        sending = peers.Background(peers.send_pattern, client, size)
        assert peers.drain(target, size)[0] == size
        sending.result()
        client.close()
        target.close()
        return time.monotonic() - started
    alone = min(transfer() for _ in range(2))
    sleepers = [world.pair(proxy, server) for _ in range(SLOW)]
    for work in [peers.Background(fill, client) for client, _ in sleepers]:
        work.result()
    among = min(transfer() for _ in range(2))
    figure(f"{size / alone / 2**20:.0f} MiB/s alone, {size / among / 2**20:.0f} among {SLOW} sleepers")
    rows.record(14, engine, f"another connection keeps {100 * alone / among:.0f} % of its rate among {SLOW} sleepers")
    assert among < alone * 3 + 5, "it waits for sleepers"


def test_slow_but_steady(world, engine, small_buffers):
    """A reader that takes a little at a time gets everything in order."""
    server = world.serve()
    proxy = world.relay(server, engine)
    client, target = world.pair(proxy, server, receive_buffer=4096)
    size = 1 << 20
    sending = peers.Background(lambda: (peers.send_pattern(target, size, 6), target.shutdown(1)))
    pause = threading.Event()
    import hashlib
    sha, total = hashlib.sha256(), 0
    while part := client.recv(3000):
        sha.update(part)
        total += len(part)
        pause.wait(0.001)           # the pace of the reader, not a wait for anything
    sending.result()
    assert (total, sha.hexdigest()) == (size, peers.digest(size, 6))
    rows.record(14, engine, f"a slow reader got {total} of {size} bytes, digest equal")
