# SPDX-License-Identifier: ISC
"""A worker that dies takes its own connections along, each with a reset, and nothing else."""

import os
import signal
import time

import pytest

from conftest import LONG
from support import peers, proc, rows, waits

STREAMS = 200 if LONG else 20


def stream_for_ever(sock):
    while True:
        sock.sendall(peers.BLOCK)


def worker_of(proxy, connections):
    """Which worker holds how many connections, by its sockets."""
    return {pid: proc.descriptor_kinds(pid)["socket"] - proxy.baseline[pid]["socket"] for pid in proxy.first_workers}


def test_killed_in_the_middle_of_transfers(world, engine, figure):
    server = world.serve(stream_for_ever)
    proxy = world.relay(server, engine, workers=2)
    proxy.check_workers = False
    proxy.expect_log("worker", "lost")
    clients = [world.connect(proxy) for _ in range(STREAMS)]
    for client in clients:
        assert len(peers.receive_exactly(client, 100000)) == 100000
    held = waits.until(lambda: (w := worker_of(proxy, STREAMS)) and sum(w.values()) == 2 * STREAMS and w, "every connection relayed")
    assert min(held.values()) > 0, f"one worker has everything: {held}"
    victim = proxy.first_workers[0]
    reading = [peers.Background(peers.drain, client, 32 << 20) for client in clients]
    started = time.monotonic()
    os.kill(victim, signal.SIGKILL)
    outcomes = [work.result() for work in reading]
    lost = [outcome for outcome in outcomes if outcome[2] == peers.RESET]
    assert not [outcome for outcome in outcomes if outcome[2] == "eof"], "silent truncation: a clean end after a worker's death"
    assert len(lost) <= held[victim] // 2, "connections of other workers were lost"
    waits.until(lambda: len(proxy.workers()) == 2, "a worker in place of the one killed")
    figure(f"{len(lost)} of {STREAMS} connections lost, a new worker after {(time.monotonic() - started) * 1000:.0f} ms")
    rows.record(1, engine, f"0 silent truncations, {len(lost)} of {STREAMS} streams lost, respawn {(time.monotonic() - started) * 1000:.0f} ms")
    for client in clients:
        client.close()
    records = proxy.wait_access(held[victim] // 2, end="worker-lost")
    assert len(records) == held[victim] // 2
    assert all(record["engine"] == engine and record["client"] for record in records)


@pytest.mark.parametrize("traffic", ["idle", "up", "down", "half-closed"])
def test_both_sides_see_a_reset(world, engine, traffic):
    server = world.serve()
    proxy = world.relay(server, engine)
    proxy.check_workers = False
    proxy.expect_log("worker", "lost")
    client, target = world.pair(proxy, server)
    sides = {"client": client, "target": target}
    senders = []
    if traffic == "half-closed":
        client.sendall(b"x")
        client.shutdown(1)
        assert peers.drain(target)[::2] == (1, "eof")
        target.sendall(b"y")
        assert client.recv(1) == b"y"
        del sides["target"]             # has seen its end in order already
    elif traffic != "idle":
        senders.append(peers.Background(stream_for_ever, client if traffic == "up" else target))
        peers.receive_exactly(target if traffic == "up" else client, 1 << 20)
        del sides["client" if traffic == "up" else "target"]
    os.kill(proxy.workers()[0], signal.SIGKILL)
    for name, sock in sides.items():
        assert peers.drain(sock)[2] == peers.RESET, f"the {name} took it for an orderly end"
    for sending in senders:
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            sending.result()


def test_next_client_is_served(world, engine):
    server = world.serve(peers.echo)
    proxy = world.relay(server, engine)
    proxy.check_workers = False
    proxy.expect_log("worker", "lost")
    for _ in range(2):
        victim = waits.until(proxy.workers, "a worker")[0]
        os.kill(victim, signal.SIGKILL)
        waits.until(lambda: not proc.alive(victim), "its end")
        client = world.connect(proxy)           # accepted now, or by the backlog until the new worker is there
        client.sendall(b"hello")
        assert peers.receive_exactly(client, 5) == b"hello"


def test_log_names_the_cause(world):
    proxy = world.relay(world.priv.free_port("172.20.0.2"))
    proxy.check_workers = False
    proxy.expect_log("worker")
    os.kill(proxy.workers()[0], signal.SIGKILL)
    assert "SIGKILL" in proxy.wait_log(r"worker.*([Kk]ill|signal)").string or "signal 9" in proxy.log() or "Killed" in proxy.log()
    waits.until(lambda: len(proxy.workers()) == 1, "a new worker")


def test_stopped_worker_is_replaced(world):
    """A worker whose loop does not turn gets no clients for ever: the heartbeat finds it, it is killed and replaced."""
    server = world.serve(peers.echo)
    proxy = world.relay(server, workers=1)
    proxy.check_workers = False
    proxy.expect_log("worker", "lost")
    victim = proxy.workers()[0]
    os.kill(victim, signal.SIGSTOP)
    started = time.monotonic()
    waits.until(lambda: not proc.alive(victim), "the end of a worker that does not answer", 25)
    rows.record(2, "-", f"a stopped worker is killed after {time.monotonic() - started:.1f} s")
    client = world.connect(proxy)
    client.sendall(b"hello")
    assert peers.receive_exactly(client, 5) == b"hello"


def test_reporter_killed(world, engine):
    """Relaying goes on, a new reporter writes the rest."""
    server = world.serve(peers.echo)
    proxy = world.relay(server, engine)
    proxy.expect_log("reporter")
    client = world.connect(proxy)
    client.sendall(b"before")
    assert peers.receive_exactly(client, 6) == b"before"
    victim = proxy.reporter()
    os.kill(victim, signal.SIGKILL)
    client.sendall(b"after!")
    assert peers.receive_exactly(client, 6) == b"after!"
    waits.until(lambda: [pid for pid in proxy.children("nsproxy-reporter") if pid != victim], "a new reporter")
    client.close()
    proxy.wait_access(up=12, down=12)
