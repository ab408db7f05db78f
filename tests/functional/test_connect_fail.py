# SPDX-License-Identifier: ISC
"""Targets that refuse, do not answer, cannot be reached: the client gets RST at once and a log line says why."""

import statistics
import time

import pytest

from conftest import PRIVATE, PUBLIC
from support import netns, peers, rows, waits


def expect_reset(world, proxy, send=b""):
    _, host, port = proxy.addresses()[0]
    return peers.expect_reset(world.pub, host, port, send)


@pytest.fixture
def blackhole(priv):
    """An address in the private namespace that swallows every packet: behind a veth pair whose neighbour entry is wrong for good."""
    priv.ip_batch(["link add bh0 type veth peer name bh1", "addr add 10.99.0.1/24 dev bh0", "link set bh0 up", "link set bh1 up",
                   "neigh add 10.99.0.2 lladdr 02:00:00:00:00:99 nud permanent dev bh0"])
    yield "10.99.0.2"
    priv.ip_batch(["link del bh0"])


def test_refused(world, engine, figure):
    port = world.priv.free_port(PRIVATE)
    proxy = world.relay(port, engine)
    proxy.expect_log("refused")
    times = [expect_reset(world, proxy) for _ in range(20)]
    assert statistics.median(times) < 1
    figure(f"reset after at most {max(times) * 1000:.1f} ms")
    times.sort()
    rows.record(11, engine, f"reset p50 {times[len(times) // 2] * 1000:.1f} ms, most {times[-1] * 1000:.1f} ms of {len(times)}")
    proxy.wait_access(20, end="connect-refused", up=0, down=0)
    text = proxy.wait_log(r"(?i)connection refused").string
    assert f"{PRIVATE}:{port}" in text, text


def test_refused_with_bytes_sent(world, engine):
    """The client has sent already: still a reset, never an end of data."""
    proxy = world.relay(world.priv.free_port(PRIVATE), engine)
    proxy.expect_log("refused")
    for _ in range(10):
        expect_reset(world, proxy, b"x" * 100000)


def test_no_answer(world, blackhole, figure):
    proxy = world.proxy("-w", "1", "-f", world.config(
        f'service hole {{\n listen = {{"{world.public()}"}}\n connect = {{"{world.private(80, blackhole)}"}}\n connect-timeout = "300ms"\n}}\n'))
    proxy.expect_log("timed out|timeout")
    seconds = expect_reset(world, proxy)
    assert 0.2 < seconds < 10
    figure(f"gave up after {seconds * 1000:.0f} ms of 300")
    rows.record(12, "-", f"gave up after {seconds * 1000:.0f} ms of 300")
    record = proxy.wait_access()[0]
    assert record["end"] == "connect-timeout"
    assert blackhole in proxy.wait_log(r"(?i)(timed out|timeout)").string


def test_client_leaves_while_connecting(world, blackhole):
    """A client that goes away before the target answers is not waited for with a descriptor."""
    proxy = world.proxy("-w", "1", "-f", world.config(
        f'service hole {{\n listen = {{"{world.public()}"}}\n connect = {{"{world.private(80, blackhole)}"}}\n connect-timeout = "30s"\n}}\n'))
    clients = [world.connect(proxy) for _ in range(5)]
    for client in clients:
        peers.reset(client)
    proxy.wait_access(5, end="client-reset")


def test_no_answer_does_not_hold_up_others(world, blackhole):
    """Half of the clients wait for a target that never answers; the other half is served at full speed by the same worker."""
    server = world.serve(peers.echo)
    proxy = world.proxy("-w", "1", "-f", world.config(
        f'service hole {{\n listen = {{"{world.public()}"}}\n connect = {{"{world.private(80, blackhole)}"}}\n connect-timeout = "30s"\n}}\n'
        f'service echo {{\n listen = {{"{world.public()}"}}\n connect = {{"{world.private(server.port)}"}}\n}}\n'))
    waiting = [world.connect(proxy) for _ in range(50)]
    started = time.monotonic()
    for _ in range(20):
        client = world.keep(peers.connect(world.pub, PUBLIC, proxy.addresses("echo")[0][2]))
        client.sendall(b"hello")
        assert peers.receive_exactly(client, 5) == b"hello"
    assert time.monotonic() - started < 20, "they waited for those who wait"
    rows.record(12, "-", f"20 others served one after the other in {(time.monotonic() - started) * 1000:.0f} ms while {len(waiting)} wait")
    for client in waiting:
        peers.reset(client)         # an orderly end would only be half a close, and nsproxy would rightly go on trying


def test_unreachable(world):
    proxy = world.proxy("-w", "1", "-l", world.public(), "-c", world.private(80, "10.98.0.1"))
    proxy.expect_log("unreachable")
    expect_reset(world, proxy)
    assert proxy.wait_access()[0]["end"] == "connect-unreachable"
    assert "10.98.0.1:80" in proxy.wait_log("(?i)unreachable").string


def test_full_backlog_recovers(world):
    """A target that does not accept: its backlog takes some, the rest waits and is served as soon as it accepts again."""
    listener = world.priv.listener(PRIVATE, backlog=1)
    proxy = world.relay(listener.getsockname()[1], connect_timeout='"30s"')
    clients = [world.connect(proxy) for _ in range(6)]
    for client in clients:
        client.sendall(b"ping")
    server = world.keep(peers.Server(listener, peers.echo))
    for client in clients:
        assert peers.receive_exactly(client, 4) == b"ping"
    assert server.accepted == 6


@pytest.fixture
def other(namespaces_work):
    made = netns.Namespace("link", [f"{PRIVATE}/32"])
    yield made
    made.remove()


def test_namespace_that_lost_its_link(other, world):
    """The private link goes down and comes back: connects fail meanwhile, and work again without any help."""
    server = world.serve(peers.echo, namespace=other)
    proxy = world.proxy("-w", "1", "-f", world.config(
        f'service link {{\n listen = {{"{world.public()}"}}\n connect = {{"{other.name}@{PRIVATE}:{server.port}"}}\n connect-timeout = "300ms"\n}}\n'))
    proxy.expect_log("unreachable|timed out|timeout")
    other.ip_batch(["link set lo down"])
    expect_reset(world, proxy)
    other.ip_batch(["link set lo up"])

    def works():
        with peers.connect(world.pub, PUBLIC, proxy.port) as again:
            try:
                again.sendall(b"x")
                return again.recv(1) == b"x"
            except ConnectionError:
                return False
    waits.until(works, "relaying after the link came back")
