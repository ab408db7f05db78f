# SPDX-License-Identifier: ISC
"""max-connections and the end of descriptors: exactly as many as allowed are served, the others wait, nobody is lost, nothing spins."""

import os
import resource
import socket
import time

import pytest

from conftest import PUBLIC
from support import ctl, peers, proc, rows, waits


def ask(client, text=b"ping"):
    client.sendall(text)
    return peers.receive_exactly(client, len(text)) == text


@pytest.mark.parametrize("workers", [1, 2])
def test_max_connections_exactly(world, engine, workers):
    limit = 5
    server = world.serve(peers.echo)
    proxy = world.relay(server, engine, workers=workers, max_connections=limit)
    proxy.expect_log("max-connections|limit")
    clients = [world.connect(proxy) for _ in range(limit + 3)]
    assert all(ask(client) for client in clients[:limit])
    for client in clients[limit:]:
        client.sendall(b"late")
    assert not any(waits.readable(client, 0.1) for client in clients[limit:]), "more than max-connections are served"
    assert server.accepted == limit
    for number, client in enumerate(clients[limit:]):
        clients[number].close()
        assert peers.receive_exactly(client, 4) == b"late"
        assert server.accepted <= limit + number + 1
    for client in clients:
        client.close()
    proxy.wait_access(limit + 3)


def test_limit_of_one(world):
    server = world.serve(peers.echo)
    proxy = world.relay(server, max_connections=1)
    proxy.expect_log("max-connections|limit")
    for _ in range(30):
        with peers.connect(world.pub, PUBLIC, proxy.port) as client:
            assert ask(client)


def test_limit_is_of_the_service(world):
    server = world.serve(peers.echo)
    text = "".join(f'service s{number} {{\n listen = {{"{world.public()}"}}\n connect = {{"{world.private(server.port)}"}}\n max-connections = {most}\n}}\n'
                   for number, most in ((1, 1), (2, 100)))
    proxy = world.proxy("-w", "1", "-f", world.config(text))
    proxy.expect_log("max-connections|limit")
    ports = [proxy.addresses(name)[0][2] for name in ("s1", "s2")]
    first = world.keep(peers.connect(world.pub, PUBLIC, ports[0]))
    assert ask(first)
    waiting = world.keep(peers.connect(world.pub, PUBLIC, ports[0]))
    waiting.sendall(b"ping")
    others = [world.keep(peers.connect(world.pub, PUBLIC, ports[1])) for _ in range(10)]
    assert all(ask(other) for other in others)
    assert not waits.readable(waiting, 0.1)
    first.close()
    assert peers.receive_exactly(waiting, 4) == b"ping"


def test_a_number_that_does_not_fit_is_lowered_with_one_warning(world):
    proxy = world.relay(world.serve(peers.echo), max_connections=10_000_000)
    proxy.expect_log("max-connections")
    proxy.wait_log("max-connections")
    assert len([line for line in proxy.lines if "max-connections" in line.text and (line.level or 4) <= 4]) == 1
    with peers.connect(world.pub, PUBLIC, proxy.port) as client:
        assert ask(client)


def limited(files):
    """For a child: no more than that many descriptors, and no way to get more."""
    return lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))


def test_few_descriptors(world, engine, figure):
    """More clients than descriptors: all are served in the end, in turns, and the parent sleeps meanwhile."""
    files, crowd = 400, 600
    server = world.serve(peers.echo)
    proxy = world.relay(server, engine, workers=1, popen={"preexec_fn": limited(files)})
    proxy.expect_log("descriptor|limit|connections|full")
    waiting = [world.connect(proxy) for _ in range(crowd)]
    for client in waiting:
        client.sendall(b"ping")
    cpu = proc.cpu_seconds(proxy.pid)
    at_once = len([client for client in waiting if waits.readable(client, 0.001)])
    waits.stays(proxy.alive, 1.0, "it lives")
    cpu = proc.cpu_seconds(proxy.pid) - cpu
    served = 0
    while waiting:
        ready = waits.until(lambda: [client for client in waiting if waits.readable(client, 0)], lambda: f"an answer for the rest of {len(waiting)}")
        for client in ready:
            assert peers.receive_exactly(client, 4) == b"ping", "a client was dropped"
            client.close()
            waiting.remove(client)
            served += 1
    assert served == crowd
    assert cpu < 0.3, f"the parent used {cpu:.2f} s of processor time in a second of waiting"
    figure(f"{files} descriptors: {at_once} of {crowd} served at once, all in the end, parent's processor time while waiting {cpu * 1000:.0f} ms")
    rows.record(26, engine, f"{files} descriptors: {at_once} of {crowd} at once, {served} in the end, parent's CPU time {cpu * 1000:.0f} ms a second meanwhile")
    proxy.wait_access(crowd)


@pytest.mark.parametrize("services, ports", [(120, 1), (1, 120)])
def test_directories_of_unix_targets(world, short_path, services, ports):
    """A worker has one for each service: it serves as many connections as it says all the same, and the next client waits."""
    path = f"{short_path}/target"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(1024)
    os.chmod(path, 0o666)
    server = world.keep(peers.Server(listener, peers.echo))
    control = ctl.Control(world.install, f"{short_path}/control.sock")
    if not control.present():
        pytest.skip("nsproxyctl tells how many there may be, and is not installed")
    listen = world.public() if ports == 1 else f"{world.public(30000)}-{30000 + ports - 1}"
    text = "".join(f'service s{number} {{\n listen = {{"{listen}"}}\n connect = {{"unix:{path}"}}\n}}\n' for number in range(services))
    proxy = world.proxy("-w", "1", "-s", control.path, "-f", world.config(text), preexec_fn=limited(1024))
    most = control.ask("workers")[0]["max_connections"]
    assert most == (1024 - 256 - (128 if services > 1 else 0)) // 2
    where = [port for _, _, port in proxy.addresses()]
    clients = [world.keep(peers.connect(world.pub, PUBLIC, where[number % len(where)])) for number in range(most)]
    assert all(ask(client) for client in clients)
    late = world.keep(peers.connect(world.pub, PUBLIC, where[0]))
    late.sendall(b"late")
    assert not waits.readable(late, 0.3) and server.accepted == most
    clients[0].close()
    assert peers.receive_exactly(late, 4) == b"late"
    for client in [late, *clients]:
        client.close()
    assert not [record["end"] for record in proxy.wait_access(most + 1) if record["end"] != "closed-by-client"]


def test_burst_of_connections(world, engine):
    """Many clients within moments, none lost."""
    server = world.serve(peers.echo)
    proxy = world.relay(server, engine, workers=2)
    started = time.monotonic()
    clients = [world.connect(proxy) for _ in range(500)]
    for client in clients:
        client.sendall(b"ping")
    assert all(peers.receive_exactly(client, 4) == b"ping" for client in clients)
    rows.record(30, engine, f"{len(clients)} connects at once: all served, within {time.monotonic() - started:.2f} s")
    for client in clients:
        client.close()
    proxy.wait_access(500)
