# SPDX-License-Identifier: ISC
"""TERM, INT, QUIT, HUP and USR1 as nsproxy(8) says."""

import os
import signal
import socket
import time

import pytest

from conftest import LONG, PUBLIC
from support import peers, proc, rows, waits

WAITING = 2000 if LONG else 300


def ask(client, text=b"ping"):
    client.sendall(text)
    assert peers.receive_exactly(client, len(text)) == text


def ends_with_bytes(proxy):
    return [record["end"] for record in proxy.access() if record["up"] != "0"]


def refuses_new_clients(world, proxy):
    """
    True once a new client is refused. One that came just before is a connection without a byte; one whose handshake was under way for long is reset. A
    handshake that falls between the last look and the end is tried again by its kernel after a second.
    """
    try:
        peers.connect(world.pub, PUBLIC, proxy.port).close()
        return False
    except ConnectionRefusedError:
        return True
    except ConnectionResetError:
        return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_idle_daemon_ends_at_once(world, number):
    proxy = world.relay(world.serve(peers.echo))
    proxy.kill(number)
    assert proxy.wait_exit() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_connections_may_finish(world, engine, number):
    proxy = world.relay(world.serve(peers.echo), engine)
    client = world.connect(proxy)
    ask(client)
    proxy.kill(number)
    waits.until(lambda: refuses_new_clients(world, proxy), "no new clients")
    ask(client, b"still served")
    assert proxy.alive()
    client.shutdown(1)
    assert client.recv(1) == b""
    client.close()
    assert proxy.wait_exit() == 0
    assert ends_with_bytes(proxy) == ["closed-by-client"]


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_clients_in_the_backlog_at_the_end(world, short_path, kind):
    """Who saw its connection made is served, though nobody had accepted it when the signal came; more than are accepted in one turn."""
    path = f"unix:{short_path}/front"
    server = world.serve(peers.echo)
    proxy = world.proxy("-w", "1", "-l", path if kind == "unix" else world.public(), "-c", world.private(server.port))

    def client():
        if kind == "tcp":
            return world.connect(proxy)
        sock = world.keep(socket.socket(socket.AF_UNIX))
        sock.connect(path.removeprefix("unix:"))
        return sock
    os.kill(proxy.pid, signal.SIGSTOP)
    waits.until(lambda: proc.stat(proxy.pid)[0] == "T", "the parent to stop")
    clients = [client() for _ in range(WAITING)]
    proxy.kill(signal.SIGTERM)
    os.kill(proxy.pid, signal.SIGCONT)
    for sock in clients:
        ask(sock)
        sock.close()
    assert proxy.wait_exit() == 0
    assert ends_with_bytes(proxy) == ["closed-by-client"] * WAITING
    rows.record(5, "-", f"{WAITING} {kind} clients in the backlog at SIGTERM: all served")


def test_a_transfer_finishes(world, engine):
    size = 32 << 20
    proxy = world.relay(world.serve(peers.source(size)), engine)
    client = world.connect(proxy)
    first = len(peers.receive_exactly(client, 1000))
    proxy.kill(signal.SIGTERM)
    total, _, how = peers.drain(client)
    assert (first + total, how) == (size, "eof")
    client.close()
    assert proxy.wait_exit() == 0
    rows.record(5, engine, f"a transfer under way at SIGTERM finishes: {size >> 20} of {size >> 20} MiB")


def test_drain_timeout(world, engine):
    proxy = world.relay(world.serve(peers.echo), engine, top='drain-timeout = "300ms"')
    proxy.expect_log("")
    client = world.connect(proxy)
    ask(client)
    proxy.kill(signal.SIGTERM)
    started = time.monotonic()
    assert peers.drain(client)[2] == peers.RESET
    seconds = time.monotonic() - started
    assert proxy.wait_exit() == 0
    assert [record["end"] for record in proxy.access()] == ["drained"]
    rows.record(5, engine, f"drain-timeout 300 ms: the rest is reset after {seconds * 1000:.0f} ms")


def test_second_term_ends_at_once(world, engine):
    server = world.serve()
    proxy = world.relay(server, engine)
    proxy.expect_log("")
    client, target = world.pair(proxy, server)
    proxy.kill(signal.SIGTERM)
    waits.until(lambda: refuses_new_clients(world, proxy), "no new clients")
    proxy.kill(signal.SIGTERM)
    assert peers.drain(client)[2] == peers.RESET
    assert peers.drain(target)[2] == peers.RESET
    assert proxy.wait_exit() == 0


def test_quit_waits_without_limit(world):
    proxy = world.relay(world.serve(peers.echo), top='drain-timeout = "100ms"')
    client = world.connect(proxy)
    ask(client)
    proxy.kill(signal.SIGQUIT)
    waits.until(lambda: refuses_new_clients(world, proxy), "no new clients")
    waits.stays(proxy.alive, 0.8, "it waits for the last connection, whatever drain-timeout says")
    ask(client, b"still served")
    client.close()
    assert proxy.wait_exit() == 0


def test_term_after_quit(world):
    proxy = world.relay(world.serve(peers.echo), top='drain-timeout = "100ms"')
    proxy.expect_log("")
    client = world.connect(proxy)
    ask(client)
    proxy.kill(signal.SIGQUIT)
    waits.until(lambda: refuses_new_clients(world, proxy), "no new clients")
    proxy.kill(signal.SIGTERM)
    assert peers.drain(client)[2] == peers.RESET
    assert proxy.wait_exit() == 0


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGHUP])
def test_log_files_are_reopened(world, number):
    """Without a configuration file HUP does the same as USR1."""
    path = os.path.join(world.directory, "access.log")
    proxy = world.relay(world.serve(peers.echo), options=("-a", f"file:{path}"))

    def connection(text):
        client = peers.connect(world.pub, PUBLIC, proxy.port)
        ask(client, text)
        client.close()
        return f"up={len(text)} "

    def holds(name, what):
        def look():
            try:
                with open(name) as file:
                    return what in file.read()
            except FileNotFoundError:
                return False
        return look
    first = connection(b"1")
    waits.until(holds(path, first), "the first line")
    os.rename(path, f"{path}.1")
    second = connection(b"22")
    waits.until(holds(f"{path}.1", second), "a line in the renamed file, which is still the open one")
    lines = len(proxy.lines)
    proxy.kill(number)
    waits.until(lambda: os.path.exists(path), "a new file after the signal")
    proxy.wait_log("(?i)reopen|opened again", after=lines)
    third = connection(b"333")
    waits.until(holds(path, third), "a line in the new file")
    assert not holds(f"{path}.1", third)()


def test_signal_storm_loses_nothing(world, engine):
    path = os.path.join(world.directory, "access.log")
    proxy = world.relay(world.serve(peers.echo), engine, options=("-a", f"file:{path}"))
    client = world.connect(proxy)
    for _ in range(200):
        proxy.kill(signal.SIGHUP)
        proxy.kill(signal.SIGUSR1)
        ask(client, b"x")
    ask(client, b"done")
    rows.record(6, engine, "400 signals that reopen logs under load: 0 connections lost")


def test_children_ignore_stray_signals_of_a_terminal(world):
    """Ctrl-C reaches the whole group: the parent decides, workers finish their connections."""
    proxy = world.relay(world.serve(peers.echo))
    client = world.connect(proxy)
    ask(client)
    os.killpg(proxy.pid, signal.SIGINT)
    waits.until(lambda: refuses_new_clients(world, proxy), "no new clients")
    ask(client, b"still served")
    client.close()
    assert proxy.wait_exit() == 0
    assert ends_with_bytes(proxy) == ["closed-by-client"]
