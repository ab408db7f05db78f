# SPDX-License-Identifier: ISC
"""The tail of a burst does not wait for a later one, whatever a bulk direction does to be woken less often."""

import socket
import statistics
import time

import pytest

from conftest import LONG
from support import peers, waits

BURSTS = 200 if LONG else 40
SIZES = (1 << 20, (1 << 20) - 1, 700001, 1500000, 300000)
LATE = 0.15             # seconds: below the first of the kernel's own timers that would free a held tail (200 ms), far above a busy machine's noise


@pytest.mark.parametrize("direction", ["up", "down"])
def test_tail_of_a_burst(world, engine, direction, figure):
    server = world.serve()
    client, target = world.pair(world.relay(server, engine), server)
    sender, receiver = (client, target) if direction == "up" else (target, client)
    waited = []
    # First much at once, so that the direction is bulk; then bursts with nothing behind them.
    sending = peers.Background(peers.send_pattern, sender, 64 << 20)
    assert peers.drain(receiver, 64 << 20)[2] == "limit"
    sending.result()
    for number in range(BURSTS):
        size = SIZES[number % len(SIZES)]
        sending = peers.Background(lambda: (peers.send_pattern(sender, size, number), time.monotonic())[1])
        assert peers.drain(receiver, size) == (size, peers.digest(size, number), "limit")
        arrived = time.monotonic()
        waited.append(arrived - sending.result())
        assert not waits.readable(receiver, (number % 4) * 0.001)
    figure(f"last byte {statistics.median(waited) * 1e6:.0f} us after the last send on average, {max(waited) * 1e6:.0f} us at worst")
    assert sorted(waited)[len(waited) * 9 // 10] < LATE


def test_small_and_bulk_in_turns(world, engine):
    """A direction changes its way of moving bytes again and again, in the middle of the stream."""
    server = world.serve()
    client, target = world.pair(world.relay(server, engine), server)
    turns, bulk, message = 12, 6 << 20, b"one small message"

    def send():
        for turn in range(turns):
            peers.send_pattern(client, bulk, turn)
            for _ in range(20):
                client.sendall(message)
                assert client.recv(1) == b"."
        client.shutdown(socket.SHUT_WR)
    sending = peers.Background(send)
    for turn in range(turns):
        assert peers.drain(target, bulk) == (bulk, peers.digest(bulk, turn), "limit")
        for _ in range(20):
            assert peers.receive_exactly(target, len(message)) == message
            target.sendall(b".")
    assert target.recv(1) == b""
    sending.result()
