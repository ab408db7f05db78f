# SPDX-License-Identifier: ISC
"""idle-timeout and half-close-timeout: when they strike, when not, and what both sides and the log see."""

import time

from support import peers, rows, waits


def test_idle_timeout(world, engine, figure):
    server = world.serve()
    proxy = world.relay(server, engine, idle_timeout='"400ms"')
    client, target = world.pair(proxy, server)
    started = time.monotonic()
    assert peers.drain(client)[2] == peers.RESET
    seconds = time.monotonic() - started
    assert peers.drain(target)[2] == peers.RESET
    assert 0.3 < seconds < 10
    figure(f"{seconds * 1000:.0f} ms for 400")
    assert proxy.wait_access()[0]["end"] == "idle-timeout"


def test_a_byte_in_either_direction_keeps_it(world, engine):
    server = world.serve()
    proxy = world.relay(server, engine, idle_timeout='"2s"')       # a pause of 1.7 s more is what a busy machine may take
    client, target = world.pair(proxy, server)
    for number in range(8):
        sender, receiver = (client, target) if number % 2 else (target, client)
        assert not waits.readable(receiver, 0.3)      # 2.4 s in all
        sender.sendall(b"x")
        assert receiver.recv(1) == b"x"
    assert not proxy.access()


def test_half_close_timeout_by_client(world, engine):
    server = world.serve()
    proxy = world.relay(server, engine, half_close_timeout='"300ms"')
    client, target = world.pair(proxy, server)
    client.sendall(b"x")
    client.shutdown(1)
    started = time.monotonic()
    assert peers.drain(target)[::2] == (1, "eof")
    assert peers.drain(client)[2] == peers.RESET
    rows.record(17, engine, f"half-open client: closed after {(time.monotonic() - started) * 1000:.0f} ms of 300")
    assert proxy.wait_access()[0]["end"] == "half-close-timeout"
    waits.until(lambda: proxy.wait_settled() is None, "descriptors back")


def test_half_close_timeout_by_target(world, engine):
    server = world.serve()
    proxy = world.relay(server, engine, half_close_timeout='"300ms"')
    client, target = world.pair(proxy, server)
    target.shutdown(1)
    started = time.monotonic()
    assert peers.drain(client)[::2] == (0, "eof")
    assert peers.drain(target)[2] == peers.RESET
    rows.record(17, engine, f"half-open target: closed after {(time.monotonic() - started) * 1000:.0f} ms of 300")
    assert proxy.wait_access()[0]["end"] == "half-close-timeout"


def test_half_close_timeout_counts_from_the_last_byte(world, engine):
    server = world.serve()
    proxy = world.relay(server, engine, half_close_timeout='"1500ms"')
    client, target = world.pair(proxy, server)
    client.shutdown(1)
    assert target.recv(1) == b""
    for _ in range(7):
        assert not waits.readable(client, 0.25)      # 1.75 s in all
        target.sendall(b"y")
        assert client.recv(1) == b"y"
    target.close()
    assert client.recv(1) == b""
    assert proxy.wait_access()[0]["end"] == "closed-by-client"


def test_zero_means_none(world, engine):
    server = world.serve()
    proxy = world.relay(server, engine, idle_timeout="0", half_close_timeout="0")
    client, target = world.pair(proxy, server)
    client.shutdown(1)
    assert target.recv(1) == b""
    assert not waits.readable(client, 1.0)
    target.sendall(b"late")
    assert peers.receive_exactly(client, 4) == b"late"


def test_idle_while_the_receiver_does_not_read(world, engine):
    """No byte moves because nobody reads: that is idle as well."""
    server = world.serve()
    proxy = world.relay(server, engine, idle_timeout='"500ms"')
    client, _target = world.pair(proxy, server)
    sending = peers.Background(peers.send_pattern, client, 1 << 30)
    proxy.wait_access(end="idle-timeout")
    rows.record(25, engine, "a reader that does not read: reset by idle-timeout")
    try:
        sending.result(5)
        raise AssertionError("one GiB went to somebody who does not read")
    except (ConnectionResetError, BrokenPipeError):
        pass
