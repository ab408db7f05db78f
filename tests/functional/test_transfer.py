# SPDX-License-Identifier: ISC
"""Bytes come through unchanged: big files, many connections of random sizes, single bytes."""

import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time

import pytest

from conftest import LONG, PRIVATE, PUBLIC
from support import crowd, exchange, peers, rows, strace

BIG = 1 << 30 if LONG else 64 << 20
CONNECTIONS = 2000 if LONG else 200
GREATEST = 1 << 20
TIMER = 0.035           # seconds: the shortest timer that a byte could wait for is 40 ms
SINGLES = [bytes([number]) for number in range(251)]
SINGLE_BYTES = 1000000 if LONG else 20000
FIRST_BYTES = 10000 if LONG else 20


def test_file_up(world, engine, figure):
    server = world.serve(peers.sink)
    client = world.connect(world.relay(server, engine))
    started = time.monotonic()
    peers.send_pattern(client, BIG)
    client.shutdown(1)
    assert peers.receive_exactly(client, 64).decode() == peers.digest(BIG)
    figure(f"{BIG / (time.monotonic() - started) / 2**20:.0f} MiB/s with the peers' SHA-256")
    assert client.recv(1) == b""


def test_file_down(world, engine):
    server = world.serve(peers.source(BIG, 3))
    proxy = world.relay(server, engine)
    client = world.connect(proxy)
    total, sha, how = peers.drain(client)
    assert (total, sha, how) == (BIG, peers.digest(BIG, 3), "eof")
    client.shutdown(1)
    record = proxy.wait_access()[0]
    assert (record["up"], record["down"], record["end"], record["engine"]) == ("0", str(BIG), "closed-by-target", engine)


def test_file_both_ways_at_once(world, engine):
    def both(sock):
        sending = peers.Background(peers.send_pattern, sock, BIG // 2, 5)
        _, sha, _ = peers.drain(sock, BIG // 2)
        sending.result()
        sock.sendall(sha.encode())
    server = world.serve(both)
    client = world.connect(world.relay(server, engine))
    sending = peers.Background(peers.send_pattern, client, BIG // 2, 9)
    _, sha, _ = peers.drain(client, BIG // 2)
    sending.result()
    assert sha == peers.digest(BIG // 2, 5)
    assert peers.receive_exactly(client, 64).decode() == peers.digest(BIG // 2, 9)


def test_many_connections_of_random_sizes(world, engine, figure):
    program = [sys.executable, exchange.__file__]
    server = world.priv.popen([*program, "server", PRIVATE], stdout=subprocess.PIPE, text=True)
    try:
        port = int(server.stdout.readline())
        proxy = world.relay(port, engine, workers=2)
        run = world.pub.run([*program, "client", PUBLIC, str(proxy.port), str(CONNECTIONS), str(GREATEST), str(os.getpid())],
                            stdout=subprocess.PIPE, text=True, timeout=300)
        assert run.returncode == 0, "the generator failed, see its traceback above"
        summary = json.loads(run.stdout)
        assert not summary["errors"] and summary["mismatches"] == 0, summary
        figure(f"{CONNECTIONS} connections, {summary['bytes'] >> 20} MiB in {summary['seconds']} s, all open after {summary['open_s']} s")
        rows.record(22, engine, f"{CONNECTIONS} connections, {summary['bytes'] >> 20} MiB of random sizes both ways at once, 0 mismatches")
        records = proxy.wait_access(CONNECTIONS)
        assert len(records) == CONNECTIONS
        assert len({record["worker"] for record in records}) == 2, "one worker did all the work"
    finally:
        server.kill()
        server.communicate()


def test_ping_pong_of_single_bytes(world, engine, figure):
    target = world.keep(crowd.Target(world.priv, PRIVATE, 1))
    proxy = world.relay(target.port, engine)
    measured = world.keep(crowd.pong(world.pub, PUBLIC, proxy.port, SINGLE_BYTES)).result()
    times = measured["answered"]
    assert times["count"] == SINGLE_BYTES
    text = f"p50 {times['p50']:.0f} us, p99 {times['p99']:.0f} us, most {times['max']:.0f} us, {measured['stalls']} above 50 ms"
    figure(text)
    rows.record(21, engine, f"{SINGLE_BYTES} round trips: {text}")
    assert times["p99"] < TIMER * 1e6, f"round trips wait for a timer: {times}"


def test_stream_of_single_bytes(world, engine):
    server = world.serve()
    client, target = world.pair(world.relay(server, engine), server)

    def send():
        for number in range(SINGLE_BYTES):
            client.send(SINGLES[number % 251])
        client.shutdown(1)
    sending = peers.Background(send)
    received, pauses, since = bytearray(), [], time.monotonic()
    while part := target.recv(1 << 16):
        received += part
        now = time.monotonic()
        pauses.append(now - since)
        since = now
    sending.result()
    assert received == (b"".join(SINGLES) * (SINGLE_BYTES // 251 + 1))[:SINGLE_BYTES]
    pauses.sort()
    rows.record(21, engine, f"stream: {SINGLE_BYTES} single bytes in order; pauses p99 {pauses[len(pauses) * 99 // 100] * 1e6:.0f} us, "
                f"most {pauses[-1] * 1e6:.0f} us, {len([pause for pause in pauses if pause > 0.05])} above 50 ms")
    assert pauses[len(pauses) * 99 // 100] < TIMER, "bytes wait for a timer"


@pytest.mark.parametrize("size", [1, 4096, 65536])
def test_first_bytes_sent_with_the_handshake(world, engine, size):
    """What the client sends before the worker has connected is neither lost nor reordered."""
    server = world.serve(peers.sink)
    proxy = world.relay(server, engine)
    for turn in range(FIRST_BYTES):
        client = peers.connect(world.pub, PUBLIC, proxy.port)
        with client:
            peers.send_pattern(client, size, turn)
            client.shutdown(1)
            assert peers.receive_exactly(client, 65).decode() == peers.digest(size, turn)
    rows.record(20, engine, f"{turn + 1} connections with {size} bytes at once after the SYN, and an end: 0 bytes lost or reordered")


def test_change_of_traffic_within_one_connection(world, engine):
    """Small messages, bulk, small messages again: the adaptive engine changes its ways in the middle."""
    server = world.serve(peers.echo)
    client = world.connect(world.relay(server, engine))
    for turn in range(6):
        for size in (1, 100, 4000):
            message = peers.BLOCK[turn:turn + size]
            client.sendall(message)
            assert peers.receive_exactly(client, size) == message
        size = (8 << 20) + turn
        sending = peers.Background(peers.send_pattern, client, size, turn)
        total, sha, _ = peers.drain(client, size)
        sending.result()
        assert (total, sha) == (size, peers.digest(size, turn))


@pytest.mark.parametrize("direction", ["up", "down"])
def test_no_byte_waits_for_the_acknowledgement_of_the_one_before(world, engine, direction, figure):
    """TCP_NODELAY on both sides: a receiver that answers now and then acknowledges late, which must hold up nobody."""
    server = world.serve()
    client, target = world.pair(world.relay(server, engine), server)
    sender, receiver = (client, target) if direction == "up" else (target, client)
    times = []
    for _ in range(60):
        receiver.sendall(b"?")
        assert sender.recv(1) == b"?"
        for byte in (b"1", b"2", b"3"):
            started = time.monotonic()
            sender.sendall(byte)
            assert receiver.recv(2) == byte
            times.append(time.monotonic() - started)
    times.sort()
    figure(f"p50 {statistics.median(times) * 1e6:.0f} us, p90 {times[len(times) * 9 // 10] * 1e6:.0f} us")
    assert times[len(times) * 9 // 10] < 0.035      # the shortest timer that an acknowledgement waits for is 40 ms


@pytest.fixture(params=["4096 131072 1048576", "4096 131072 6291456"], ids=["1MiB", "6MiB"])
def receive_buffers(priv, request):
    before = priv.sysctl("net/ipv4/tcp_rmem")
    priv.sysctl("net/ipv4/tcp_rmem", request.param)
    yield int(request.param.split()[-1])
    priv.sysctl("net/ipv4/tcp_rmem", before)


@pytest.mark.skipif(not strace.present(), reason="strace is missing (apt-get install strace)")
def test_mark_leaves_room_for_the_sender(world, receive_buffers):
    """A low-water mark as large as the window would stop the sender before each wake-up: however small buffers are, it is half of it at most."""
    size = 256 << 20
    proxy = world.relay(world.serve(lambda sock: sock.sendall(bytes(size))), "splice", options=("-w", "1"))
    with tempfile.NamedTemporaryFile("r") as log:
        with strace.attached(proxy.workers(), "-e", "trace=setsockopt,getsockopt", "-o", log.name):
            client = world.connect(proxy)
            room, got = bytearray(1 << 20), 0
            while got < size:
                got += client.recv_into(room) or size
            assert got == size
        asked = re.findall(r"(\w)etsockopt\((\d+), SOL_SOCKET, SO_RCVLOWAT, \[(\d+)\]", log.read())
    granted = [int(value) for how, _, value in asked if how == "g"]
    marks = [int(value) for how, _, value in asked if how == "s" and 1 < int(value) <= 1 << 20]
    assert granted and set(granted) == {receive_buffers // 2}
    assert set(marks) == {min(receive_buffers // 4, 1 << 20)}
