# SPDX-License-Identifier: ISC
"""Urgent data arrives in line, whole and in order; nothing stalls and nobody spins."""

import socket

import pytest

from support import peers, proc, rows, waits


@pytest.mark.parametrize("where", ["start", "middle", "end", "everywhere"])
@pytest.mark.parametrize("direction", ["up", "down"])
def test_urgent_byte(world, engine, where, direction):
    server = world.serve()
    proxy = world.relay(server, engine)
    client, target = world.pair(proxy, server)
    sender, receiver = (client, target) if direction == "up" else (target, client)
    body = bytes(peers.BLOCK[:300000])
    marks = {"start": [0], "middle": [150000], "end": [len(body)], "everywhere": list(range(0, len(body) + 1, 30000))}[where]
    expected = b""
    reading = peers.Background(peers.receive_exactly, receiver, len(body) + len(marks) + 1)
    position = 0
    for mark in marks:
        sender.sendall(body[position:mark])
        sender.send(b"!", socket.MSG_OOB)
        expected += body[position:mark] + b"!"
        position = mark
    sender.sendall(body[position:])
    sender.shutdown(socket.SHUT_WR)
    assert reading.result(20) == expected + body[position:]
    if where == "everywhere":
        rows.record(24, engine, f"{direction}, at the start, {len(marks) - 2} times between, at the end: all {len(body) + len(marks)} bytes in order")


def test_urgent_byte_then_silence(world, engine, figure):
    """The connection stays open and idle after the urgent byte: the worker must sleep."""
    server = world.serve()
    proxy = world.relay(server, engine)
    client, target = world.pair(proxy, server)
    worker = proxy.workers()[0]
    client.sendall(b"abc")
    client.send(b"!", socket.MSG_OOB)
    assert peers.receive_exactly(target, 4) == b"abc!"
    wakeups, cpu = proc.wakeups(worker), proc.cpu_seconds(worker)
    assert not waits.readable(target, 1.0)
    wakeups, cpu = proc.wakeups(worker) - wakeups, proc.cpu_seconds(worker) - cpu
    figure(f"{wakeups} wake-ups and {cpu * 1000:.0f} ms of processor time in one idle second")
    rows.record(24, engine, f"idle after it: {wakeups} wake-ups and {cpu * 1000:.0f} ms of processor time in a second")
    assert wakeups <= 5 and cpu <= 0.02
    client.sendall(b"more")
    assert peers.receive_exactly(target, 4) == b"more"


def test_bulk_with_urgent_bytes(world, engine):
    """Splice is at work when the urgent byte comes."""
    server = world.serve()
    client, target = world.pair(world.relay(server, engine), server)
    rounds, size = 16, 1 << 20

    def send():
        for number in range(rounds):
            client.sendall(peers.BLOCK)
            client.send(bytes([number]), socket.MSG_OOB)
        client.shutdown(socket.SHUT_WR)
    sending = peers.Background(send)
    for number in range(rounds):
        assert peers.receive_exactly(target, size) == peers.BLOCK
        assert target.recv(1) == bytes([number])
    assert target.recv(1) == b""
    sending.result()
