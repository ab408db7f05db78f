# SPDX-License-Identifier: ISC
"""One line for each connection, in both formats, to each place, with every field true."""

import datetime
import json
import os
import subprocess

import pytest

from conftest import PRIVATE, PUBLIC
from support import daemon, peers, waits

FIELDS = ["service", "client", "listener", "local", "target", "netns", "worker", "engine", "start", "connect_ms", "duration_ms", "up", "down", "end"]


def exchange(world, proxy, up=b"four", server=None):
    """One connection through an echo server; the client's address."""
    with peers.connect(world.pub, PUBLIC, proxy.port) as client:
        name = "%s:%d" % client.getsockname()
        if up:
            client.sendall(up)
            assert peers.receive_exactly(client, len(up)) == up
        client.shutdown(1)
        assert client.recv(1) == b""
    return name


def lines_of(path):
    try:
        with open(path) as file:
            return file.read().splitlines()
    except FileNotFoundError:
        return []


def check_record(world, record, proxy, server, client):
    assert record["client"] == f"{world.pub.name}@{client}"
    assert daemon.split_address(record["listener"])[1:] == (PUBLIC, proxy.port)
    assert record["target"].endswith(f"{PRIVATE}:{server.port}")
    assert record["netns"] == world.priv.name
    assert record["local"].split("@")[-1].rpartition(":")[0] == PRIVATE
    assert (record["up"], record["down"], record["end"]) == ("4", "4", "closed-by-client")
    started = datetime.datetime.fromisoformat(record["start"])
    assert abs((datetime.datetime.now(datetime.timezone.utc) - started).total_seconds()) < 60
    assert 0 <= float(record["connect_ms"]) < 5000 and 0 <= float(record["duration_ms"]) < 20000
    assert int(record["worker"]) >= 0
    assert record["engine"] == "adaptive"


def test_pairs(world):
    server = world.serve(peers.echo)
    proxy = world.relay(server)
    client = exchange(world, proxy)
    record = proxy.wait_access()[0]
    assert list(record) == FIELDS
    check_record(world, record, proxy, server, client)


def test_json(world):
    server = world.serve(peers.echo)
    proxy = world.relay(server, top='access-format = "json"')
    client = exchange(world, proxy)
    check_record(world, proxy.wait_access()[0], proxy, server, client)
    raw = json.loads(next(line.text for line in proxy.lines if line.text.startswith("{")))
    assert list(raw) == FIELDS
    assert (raw["up"], raw["down"]) == (4, 4), "numbers are numbers"
    assert isinstance(raw["connect_ms"], (int, float)) and isinstance(raw["duration_ms"], (int, float))


@pytest.mark.parametrize("form", ["pairs", "json"])
def test_file(world, form):
    path = os.path.join(world.directory, "access.log")
    server = world.serve(peers.echo)
    proxy = world.relay(server, options=("-a", f"file:{path}"), top=f'access-format = "{form}"')
    client = exchange(world, proxy)
    line = waits.until(lambda: lines_of(path), "a line in the file")[0]
    check_record(world, daemon.parse_access(line), proxy, server, client)
    assert not proxy.access(), "it also went to the log"


def test_file_is_appended_to(world):
    path = os.path.join(world.directory, "access.log")
    with open(path, "w") as file:
        file.write("old line\n")
    proxy = world.relay(world.serve(peers.echo), options=("-a", f"file:{path}"))
    exchange(world, proxy)
    waits.until(lambda: len(lines_of(path)) == 2, "a second line")
    assert lines_of(path)[0] == "old line"


def test_none(world):
    server = world.serve(peers.echo)
    proxy = world.relay(server, options=("-a", "none"))
    exchange(world, proxy)
    assert server.accepted == 1
    proxy.wait_settled()
    assert not proxy.access()


def test_each_service_its_own(world):
    server = world.serve(peers.echo)
    paths = {name: os.path.join(world.directory, f"{name}.log") for name in ("one", "two")}
    settings = {"one": f'"file:{paths["one"]}"', "two": f'"file:{paths["two"]}"', "quiet": '"none"', "common": '"log"'}
    proxy = world.proxy("-w", "1", "-f", world.config("".join(
        f'service {name} {{\n listen = {{"{world.public()}"}}\n connect = {{"{world.private(server.port)}"}}\n access-log = {where}\n}}\n'
        for name, where in settings.items())))
    for number, name in enumerate(settings, 1):
        with peers.connect(world.pub, PUBLIC, proxy.addresses(name)[0][2]) as client:
            client.sendall(b"x" * number)
            assert peers.receive_exactly(client, number) == b"x" * number
    for number, name in enumerate(("one", "two"), 1):
        line = waits.until(lambda: lines_of(paths[name]), f"a line for {name}")
        assert len(line) == 1
        record = daemon.parse_access(line[0])
        assert (record["service"], record["up"]) == (name, str(number))
    assert [record["service"] for record in proxy.wait_access()] == ["common"]


@pytest.mark.parametrize("empty", ["true", "false"])
def test_connections_without_a_byte(world, empty):
    proxy = world.relay(world.serve(peers.echo), log_empty=empty)
    exchange(world, proxy, up=b"")
    proxy.wait_settled()
    exchange(world, proxy)
    records = proxy.wait_access(up=4)
    assert len(proxy.access()) == (2 if empty == "true" else 1)
    assert records


def test_lines_are_whole_under_load(world):
    """Many at a time from two workers: one line each, none mixed."""
    path = os.path.join(world.directory, "access.log")
    proxy = world.relay(world.serve(peers.echo), workers=2, options=("-a", f"file:{path}"))
    for _ in range(10):
        clients = [peers.connect(world.pub, PUBLIC, proxy.port) for _ in range(50)]
        for client in clients:
            client.sendall(b"four")
        for client in clients:
            assert peers.receive_exactly(client, 4) == b"four"
            client.close()
    waits.until(lambda: len(lines_of(path)) >= 500, "500 lines")
    records = [daemon.parse_access(line) for line in lines_of(path)]
    assert len(records) == 500 and all(list(record) == FIELDS for record in records)
    assert len({record["client"] for record in records}) == 500


def test_log_goes_to_a_file(world):
    path = os.path.join(world.directory, "nsproxy.log")
    server = world.serve(peers.echo)
    text = (f'log = "file:{path}"\nservice s {{\n listen = {{"{world.public()}"}}\n connect = {{"{world.private(server.port)}"}}\n}}\n')
    proxy = daemon.Nsproxy(world.install, [*world.install.user_options(), "-s", "", "-w", "1", "-f", world.config(text)], ready=False)
    try:
        def listening():
            return [match for match in map(daemon.LISTENING.search, lines_of(path)) if match]
        waits.until(lambda: any(daemon.READY.search(line) for line in lines_of(path)), "the ready line in the file")
        port = daemon.split_address(listening()[0]["address"])[2]
        with peers.connect(world.pub, PUBLIC, port) as client:
            client.sendall(b"four")
            assert peers.receive_exactly(client, 4) == b"four"
        waits.until(lambda: [line for line in lines_of(path) if " end=closed-by-client" in line], "the access line in the file")
        proxy.kill(15)
        assert proxy.wait_exit() == 0
    finally:
        proxy.destroy()


@pytest.mark.parametrize("place", ["file", "pipe"])
def test_many_ends_at_once(world, place):
    """A thousand connections that end in one moment have a thousand lines: in a file, and in a pipe with a prompt reader (64 KiB, as a shell makes it)."""
    path = os.path.join(world.directory, "lines")
    server = world.serve()
    with open(path, "w") as file:
        reader = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=file)
    proxy = daemon.Nsproxy(world.install, [*world.install.user_options(), "-s", "", "-w", "1", "-a", "log" if place == "pipe" else f"file:{path}",
                                           "-l", world.public(), "-c", world.private(server.port)], ready=False, log_to=reader.stdin.fileno())
    reader.stdin.close()
    try:
        waits.until(lambda: any(daemon.READY.search(line) for line in lines_of(path)), "the ready line")
        port = daemon.split_address(next(match for match in map(daemon.LISTENING.search, lines_of(path)) if match)["address"])[2]
        clients = [peers.connect(world.pub, PUBLIC, port) for _ in range(1000)]
        waits.until(lambda: server.accepted == 1000, "1000 connections at the target")
        for client in clients:
            peers.reset(client)
        waits.until(lambda: len([line for line in lines_of(path) if " end=client-reset" in line]) == 1000,
                    lambda: f"1000 lines; {lines_of(path)[-1]}, of {len(lines_of(path))}", 10)
    finally:
        proxy.destroy()
        reader.wait(10)


def test_full_disk_does_not_stop_relaying(world, engine):
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full")
    proxy = world.relay(world.serve(peers.echo), engine, options=("-a", "file:/dev/full"))
    proxy.expect_log("")
    for _ in range(100):
        exchange(world, proxy)
