# SPDX-License-Identifier: ISC
"""Engine io_uring: what only a relay by completions can get wrong."""

import re
import subprocess

import pytest

from support import peers, proc, waits

SLEEPERS = 150          # at up to 8 buffers each, more than the 512 there are
PIECE = b"x" * 1000     # small messages, so that no direction is taken for bulk
RESETS = 600
QUIET = 0.3             # seconds without a byte accepted from any of them


@pytest.fixture
def usable(install):
    if not re.search(r"\bio_uring\b", subprocess.run([install.nsproxy, "-V"], capture_output=True, text=True, check=True).stdout):
        pytest.skip("io_uring cannot be used here")


@pytest.fixture
def tiny_buffers(pub, priv):
    keys = ("net/ipv4/tcp_rmem", "net/ipv4/tcp_wmem")
    before = [(space, key, space.sysctl(key)) for space in (pub, priv) for key in keys]
    for space, key, _ in before:
        space.sysctl(key, "4096 8192 8192")
    yield
    for space, key, value in before:
        space.sysctl(key, value)


def fill_all(clients):
    """One small piece after the other to each, until none has taken any for a while."""
    def offer(client):
        try:
            return client.send(PIECE)
        except BlockingIOError:
            return 0
    for client in clients:
        client.setblocking(False)
    while True:
        try:
            waits.until(lambda: sum(offer(client) for client in clients), "a sleeper that takes a piece", QUIET)
        except waits.Timeout:
            return


def test_others_are_served(world, usable, tiny_buffers):
    """Receivers asleep hold every buffer of the worker's ring; who comes after them is served all the same."""
    server = world.serve()
    proxy = world.relay(server, "io_uring")
    sleepers = [world.pair(proxy, server) for _ in range(SLEEPERS)]
    fill_all([client for client, _ in sleepers])
    worker = proxy.workers()[0]
    for _ in range(3):
        client, target = world.pair(proxy, server)
        for sock in (client, target):
            sock.settimeout(10)
        for _ in range(20):
            client.sendall(b"question")
            assert peers.receive_exactly(target, 8) == b"question"
            target.sendall(b"answer")
            assert peers.receive_exactly(client, 6) == b"answer"
    wakeups = proc.wakeups(worker)
    assert not waits.readable(client, 1.0)
    assert proc.wakeups(worker) - wakeups <= 5
    # And once the sleepers wake up, everything they were sent is there, whole.
    for client, target in sleepers:
        client.shutdown(1)
    for _, target in sleepers:
        total, _, how = peers.drain(target)
        assert how == "eof" and total > 0


def test_reset_while_a_send_waits(world, usable, tiny_buffers):
    """The send that waits takes the target's error away, and the receive beside it says "end"; the client must learn of a reset all the same."""
    server = world.serve()
    proxy = world.relay(server, "io_uring")
    for _ in range(RESETS // SLEEPERS):
        pairs = [world.pair(proxy, server) for _ in range(SLEEPERS)]
        fill_all([client for client, _ in pairs])
        for _, target in pairs:
            target.sendall(b"reply")
            peers.reset(target)
        for client, _ in pairs:
            client.settimeout(peers.PATIENCE)
            assert peers.drain(client)[2] == peers.RESET
            client.close()
