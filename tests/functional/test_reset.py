# SPDX-License-Identifier: ISC
"""A reset on one side is a reset on the other, soon, and never a clean end of data."""

import socket
import statistics
import struct
import time

import pytest

from conftest import PRIVATE, PUBLIC
from support import peers, rows, waits

SOON = 1.0              # seconds, of most; the aim is 50 ms, the figure is reported


@pytest.mark.parametrize("side", ["client", "target"])
def test_reset_of_an_idle_connection(world, engine, side, figure):
    server = world.serve()
    proxy = world.relay(server, engine)
    times = []
    for turn in range(10):
        client, target = world.pair(proxy, server)
        greeter, greeted = (client, target) if turn % 2 else (target, client)
        greeter.sendall(b"a")
        assert greeted.recv(1) == b"a"
        breaker, other = (client, target) if side == "client" else (target, client)
        started = time.monotonic()
        peers.reset(breaker)
        assert peers.drain(other)[2] == peers.RESET
        times.append(time.monotonic() - started)
        other.close()
    assert statistics.median(times) < SOON
    figure(f"reset passed on after at most {max(times) * 1000:.1f} ms")
    times.sort()
    rows.record(18, engine, f"by the {side}: 0 FIN of {len(times)}, passed on after {times[len(times) // 2] * 1000:.1f} ms, at most {times[-1] * 1000:.1f}")
    assert {record["end"] for record in proxy.wait_access(10)} == {f"{side}-reset"}


@pytest.mark.parametrize("side", ["client", "target"])
def test_reset_in_the_middle_of_a_stream(world, engine, side):
    server = world.serve()
    proxy = world.relay(server, engine)
    client, target = world.pair(proxy, server)
    sender, receiver = (client, target) if side == "client" else (target, client)
    reading = peers.Background(peers.drain, receiver)
    peers.send_pattern(sender, 5 << 20)
    peers.reset(sender)
    total, _, how = reading.result()
    assert how == peers.RESET, f"{how} after {total} bytes"
    assert proxy.wait_access()[0]["end"] == f"{side}-reset"
    rows.record(18, engine, f"by the {side} in mid-stream: reset after {total >> 10} KiB, no clean end")


@pytest.mark.parametrize("side", ["client", "target"])
def test_reset_while_the_other_side_does_not_read(world, engine, side):
    """With data queued for a reader that sleeps: it may get some of it, then the reset; never a clean end."""
    server = world.serve()
    proxy = world.relay(server, engine)
    client, target = world.pair(proxy, server)
    sender, sleeper = (client, target) if side == "client" else (target, client)
    sender.settimeout(0.3)
    sent = 0
    try:
        while True:
            sent += sender.send(peers.BLOCK)
    except TimeoutError:
        pass
    peers.reset(sender)
    proxy.wait_access(end=f"{side}-reset")
    total, _, how = peers.drain(sleeper)
    assert how == peers.RESET, f"{how} after {total} of {sent} bytes"
    rows.record(19, engine, f"by the {side}: 0 clean ends, {total >> 10} of {sent >> 10} KiB sent came before the reset")


@pytest.mark.parametrize("side", ["client", "target"])
def test_reset_by_the_receiver_of_a_stream(world, engine, side):
    """The reader goes away in the middle: its sender gets an error, not an endless wait."""
    server = world.serve()
    proxy = world.relay(server, engine)
    client, target = world.pair(proxy, server)
    breaker, sender = (client, target) if side == "client" else (target, client)

    def send_for_ever():
        while True:
            sender.sendall(peers.BLOCK)
    sending = peers.Background(send_for_ever)
    peers.drain(breaker, 3 << 20)
    peers.reset(breaker)
    with pytest.raises((ConnectionResetError, BrokenPipeError)):
        sending.result()
    assert proxy.wait_access()[0]["end"] == f"{side}-reset"


@pytest.mark.parametrize("side", ["client", "target"])
def test_reset_of_a_half_closed_connection(world, engine, side):
    server = world.serve()
    proxy = world.relay(server, engine)
    client, target = world.pair(proxy, server)
    closer, other = (client, target) if side == "client" else (target, client)
    closer.sendall(b"last words")
    closer.shutdown(1)
    assert peers.drain(other)[::2] == (10, "eof")
    other.sendall(b"reply")
    assert peers.receive_exactly(closer, 5) == b"reply"
    peers.reset(other)
    assert peers.drain(closer)[2] == peers.RESET
    assert proxy.wait_access()[0]["end"] == f"{'target' if side == 'client' else 'client'}-reset"


def test_target_resets_at_once(world, engine):
    """It accepts and resets, perhaps before the worker has noticed that it is connected: the client sees a reset, and the record says who did it."""
    listener = world.keep(world.priv.listener(PRIVATE))
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))     # inherited

    def accept_and_reset():
        for _ in range(100):
            listener.accept()[0].close()
    resetting = peers.Background(accept_and_reset)
    proxy = world.relay(listener.getsockname()[1], engine)
    proxy.expect_log("reset by peer")
    for _ in range(100):
        peers.expect_reset(world.pub, PUBLIC, proxy.port)
    resetting.result()
    assert {record["end"] for record in proxy.wait_access(100)} == {"target-reset"}


def test_client_gone_before_the_target_answered(world, engine):
    """Clients that reset at once, many of them: nothing leaks, others are served."""
    server = world.serve(peers.echo)
    proxy = world.relay(server, engine)
    for _ in range(50):
        peers.reset(world.connect(proxy))
    client = world.connect(proxy)
    client.sendall(b"still here")
    assert peers.receive_exactly(client, 10) == b"still here"
    client.close()
    waits.until(lambda: proxy.access(up=10), "the last connection's record")
