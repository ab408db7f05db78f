# SPDX-License-Identifier: ISC
"""
A reader that does not read, or slowly, slows its own sender, costs a bounded amount of memory, and disturbs nobody else.
With NSPROXY_LONG there are a thousand, with smaller buffers, since all of them together are to stay below net.ipv4.tcp_mem.
"""

import contextlib
import re
import selectors
import threading
import time

import pytest

from conftest import LONG
from support import peers, proc, rows

BLOCKED = 0.4           # seconds without a byte accepted: the sender is held back
SLOW = 1000 if LONG else 20
KERNEL_BUFFER = 1 << 18 if LONG else 1 << 20
BOUND = 8 * KERNEL_BUFFER       # bytes in flight: two hops of kernel buffers, twice the socket buffers set below, and ours
PACE = 1000             # bytes a second that a slow reader takes
SECONDS = 30 if LONG else 3     # how long it is looked at
# Bytes for each of them: of the kernel for three sockets, which go beyond their buffer by a packet at most; the fourth has the smallest there is. Of the worker.
SLOW_EACH = 3 * (KERNEL_BUFFER + (64 << 10)) + (256 << 10)


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


def transfer(world, proxy, server):
    """Seconds that a fast connection of the same daemon takes."""
    size = 32 << 20
    client, target = world.pair(proxy, server)
    started = time.monotonic()
    sending = peers.Background(peers.send_pattern, client, size)
    assert peers.drain(target, size)[0] == size
    sending.result()
    client.close()
    target.close()
    return time.monotonic() - started


def test_others_keep_their_speed(world, engine, small_buffers, figure):
    """The same worker serves a fast connection while many sleep: about as fast as before."""
    size = 32 << 20
    server = world.serve()
    proxy = world.relay(server, engine)
    alone = min(transfer(world, proxy, server) for _ in range(2))
    sleepers = [world.pair(proxy, server) for _ in range(SLOW)]
    for work in [peers.Background(fill, client) for client, _ in sleepers]:
        work.result()
    among = min(transfer(world, proxy, server) for _ in range(2))
    figure(f"{size / alone / 2**20:.0f} MiB/s alone, {size / among / 2**20:.0f} among {SLOW} sleepers")
    rows.record(14, engine, f"another connection keeps {100 * alone / among:.0f} % of its rate among {SLOW} sleepers")
    assert among < alone * 3 + 5, "it waits for sleepers"


class Reader:
    """A client with the smallest buffers that takes a little each second, and its target, which sends as fast as it may."""

    def __init__(self, world, proxy, server):
        self.client, self.target = world.pair(proxy, server, receive_buffer=4096)
        self.client.setblocking(False)
        self.target.setblocking(False)
        self.sent = self.got = 0

    def send(self):
        with contextlib.suppress(BlockingIOError):
            self.sent += self.target.send(memoryview(peers.BLOCK)[self.sent % len(peers.BLOCK):])

    def take(self, seconds):
        """What it may have had after so many. Does what came stand where it belongs?"""
        due = PACE * seconds - self.got
        with contextlib.suppress(BlockingIOError):
            part = self.client.recv(due)
            at = self.got % len(peers.BLOCK)
            self.got += len(part)
            return bool(part) and part == (peers.BLOCK[at:at + due] + peers.BLOCK[:due])[:len(part)]
        return True


def feed(readers, stop):
    """Sends for all of them until told to stop."""
    with selectors.DefaultSelector() as selector:
        for reader in readers:
            selector.register(reader.target, selectors.EVENT_WRITE, reader)
        while not stop.is_set():
            for key, _ in selector.select(0.1):
                key.data.send()


def socket_memory(*spaces):
    """Bytes that the kernel has for connections of these namespaces: received, to be sent, reserved. (/proc/net/sockstat has those of the machine.)"""
    total = 0
    for space in spaces:
        text = space.run(["ss", "-tmnH"], capture_output=True, text=True, check=True).stdout
        total += sum(int(number) for number in re.findall(r"(?<=[(,])[rfw](\d+)", text))
    return total


def test_many_slow_readers(world, engine, small_buffers):
    """A kilobyte a second each: order is kept, what they cost is bounded, and a fast connection of the same worker goes on."""
    server = world.serve()
    proxy = world.relay(server, engine)
    worker = proxy.workers()[0]
    alone = min(transfer(world, proxy, server) for _ in range(2))
    before = proc.rss(worker)
    readers = [Reader(world, proxy, server) for _ in range(SLOW)]
    stop = threading.Event()
    feeding, among, most, cpu, started = peers.Background(feed, readers, stop), [], 0, proc.cpu_seconds(worker), time.monotonic()
    for turn in range(SECONDS):
        stop.wait(max(started + turn + 1 - time.monotonic(), 0))        # the pace of the readers, not a wait for anything
        assert all(reader.take(turn + 1) for reader in readers), "bytes were lost or reordered, or an end came"
        most = max(most, socket_memory(world.pub, world.priv) + proc.rss(worker) - before)
        if turn >= SECONDS - 3:
            among.append(transfer(world, proxy, server))
    seconds, cpu = time.monotonic() - started, proc.cpu_seconds(worker) - cpu
    stop.set()
    feeding.result()
    got, sent = sum(reader.got for reader in readers), sum(reader.sent for reader in readers)
    rows.record(14, engine, f"{SLOW} readers of {PACE} bytes a second for {seconds:.0f} s: {got} bytes in order, {(sent - got) / SLOW / 1024:.0f} KiB each in flight, "
                f"at most {most / 2**20:.0f} MiB of kernel and worker; another connection keeps {100 * alone / min(among):.0f} % of its rate; worker's CPU {cpu:.2f} s")
    assert sent - got < SLOW * BOUND
    assert got >= SLOW * PACE * (SECONDS - 1), "readers did not get what they could have taken"
    assert min(among) < alone * 3 + 5, "it waits for slow readers"
    assert most < SLOW * SLOW_EACH + (4 << 20), f"{most >> 10} KiB"
    for reader in readers:
        peers.reset(reader.client)
        reader.target.close()


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
