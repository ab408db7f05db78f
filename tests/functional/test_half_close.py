# SPDX-License-Identifier: ISC
"""A closed direction closes that direction only; what flows the other way arrives whole."""

import socket

import pytest

from conftest import LONG, PUBLIC
from support import peers, rows, waits

REPLY = 100 << 20 if LONG else 10 << 20
MANY = 10000 if LONG else 100


def test_client_closes_first_then_a_long_reply(world, engine):
    server = world.serve(peers.reply_after_end(REPLY, 2))
    proxy = world.relay(server, engine)
    client = world.connect(proxy)
    client.sendall(b"question")
    client.shutdown(socket.SHUT_WR)
    assert len(peers.receive_exactly(client, 64)) == 64
    assert peers.drain(client) == (REPLY, peers.digest(REPLY, 2), "eof")
    record = proxy.wait_access()[0]
    assert (record["up"], record["down"], record["end"]) == ("8", str(REPLY + 64), "closed-by-client")
    rows.record(15, engine, f"reply after the end: {REPLY} of {REPLY} bytes, digest equal")


def test_target_closes_first_then_a_long_upload(world, engine):
    server = world.serve()
    proxy = world.relay(server, engine)
    client, target = world.pair(proxy, server)
    target.sendall(b"banner")
    target.shutdown(socket.SHUT_WR)
    assert peers.drain(client)[::2] == (6, "eof")
    sending = peers.Background(peers.send_pattern, client, REPLY, 4)
    assert peers.drain(target, REPLY) == (REPLY, peers.digest(REPLY, 4), "limit")
    sending.result()
    client.shutdown(socket.SHUT_WR)
    assert target.recv(1) == b""
    record = proxy.wait_access()[0]
    assert (record["up"], record["down"], record["end"]) == (str(REPLY), "6", "closed-by-target")
    rows.record(16, engine, f"target first: {REPLY} of {REPLY} bytes up after it, digest equal")


def test_both_close_at_once(world, engine):
    server = world.serve()
    proxy = world.relay(server, engine)
    for _ in range(MANY // 10):
        client, target = world.pair(proxy, server)
        client.sendall(b"up" * 1000)
        target.sendall(b"down" * 1000)
        client.shutdown(socket.SHUT_WR)
        target.shutdown(socket.SHUT_WR)
        assert peers.drain(target)[::2] == (2000, "eof")
        assert peers.drain(client)[::2] == (4000, "eof")
        client.close()
        target.close()
    proxy.wait_access(MANY // 10)


def test_close_without_a_byte(world, engine):
    server = world.serve()
    proxy = world.relay(server, engine)
    client, target = world.pair(proxy, server)
    client.shutdown(socket.SHUT_WR)
    assert target.recv(1) == b""
    assert not waits.readable(client, 0.1), "the other direction was closed too"
    target.close()
    assert client.recv(1) == b""
    assert proxy.wait_access()[0]["end"] == "closed-by-client"


@pytest.mark.parametrize("size", [0, 1, 70000])
def test_many_times(world, engine, size):
    """Question, end, reply, end; over and over, the descriptors must come back (asserted by the fixture)."""
    server = world.serve(peers.reply_after_end(size, 1))
    proxy = world.relay(server, engine)
    for _ in range(MANY):
        with peers.connect(world.pub, PUBLIC, proxy.port) as client:
            client.sendall(b"?")
            client.shutdown(socket.SHUT_WR)
            assert len(peers.receive_exactly(client, 64)) == 64
            assert peers.drain(client)[::2] == (size, "eof")
    assert {record["end"] for record in proxy.wait_access(MANY)} == {"closed-by-client"}
    rows.record(15, engine, f"{MANY} times with a reply of {size}: 0 bytes missing")


def test_half_closed_with_a_pause(world, engine):
    """The reply begins long after the client's end, in small pieces."""
    server = world.serve()
    client, target = world.pair(world.relay(server, engine), server)
    client.sendall(b"x" * 300000)
    client.shutdown(socket.SHUT_WR)
    assert peers.drain(target)[::2] == (300000, "eof")
    for number in range(20):
        assert not waits.readable(client, 0.01)
        target.sendall(bytes([number]))
        assert client.recv(2) == bytes([number])
    target.close()
    assert client.recv(1) == b""
