# SPDX-License-Identifier: ISC
"""
Peers that vanish in silence while nothing is under way: only keepalive finds them. Those that live and do not read must outlive them.
The everyday run uses programs with test hooks, whose probes go out after 2 s, every 1 s, two of them: half a minute. With NSPROXY_LONG also
those that are shipped: eight minutes, nearly all of it waiting, for all engines together.
"""

import time

import pytest

from conftest import LONG, PRIVATE
from support import peers, rows, waits
from support.link import FAR, NEAR

# Seconds of silence, between two probes, and how many of these; see src/parent_keepalive.h.
SETTINGS = {"short": (2, 1, 2), "shipped": (300, 30, 5)}
SETTLE = 11             # seconds after which the private side gets its settings, as worker_relay.c has it: 10, rounded up to a full second
SPREAD = 7              # seconds that intervals may be longer by
LATE = 5                # seconds: a busy machine
BLOCKED = 0.5           # seconds without a byte taken: the window is closed


@pytest.fixture(params=["short", "shipped"] if LONG else ["short"])
def settings(request, world):
    """Of the programs that the test uses."""
    if request.param == "short":
        world.install = request.getfixturevalue("hooked")
    return SETTINGS[request.param]


def fill(sock):
    """Sends until nothing is taken any more: how much that was."""
    sent = 0
    sock.settimeout(BLOCKED)
    try:
        while True:
            sent += sock.send(peers.BLOCK)
    except TimeoutError:
        sock.settimeout(peers.PATIENCE)
        return sent


def until_reset(sock, limit):
    """In the background: when the reset came."""
    sock.settimeout(limit)

    def wait():
        total, _, how = peers.drain(sock)
        assert (total, how) == (0, peers.RESET)
        return time.monotonic()
    return peers.Background(wait)


def services(world, link, engines, far, near):
    """Of each engine: its client far away, its target far away, both here."""
    public, private = world.public(), world.private(near.port)
    places = {"client": (f"{link.near.name}@{NEAR}:0", private), "target": (public, f"{link.near.name}@{FAR}:{far.port}"),
              "living": (public, private)}
    return world.config("".join(
        f'service {kind}-{engine} {{\n listen = {{"{listen}"}}\n connect = {{"{connect}"}}\n engine = "{engine}"\n}}\n'
        for engine in engines for kind, (listen, connect) in places.items()))


def test_peers_that_vanish(link, world, settings):
    idle, interval, count = settings
    engines = world.install.engines()
    far, near = world.serve(host=FAR, namespace=link.far), world.serve(host=PRIVATE)
    proxy = world.proxy("-w", "1", "-f", services(world, link, engines, far, near))
    proxy.expect_log("failed at its (client|target): (Connection timed out|No route to host)")
    limit = SETTLE + idle + count * (interval + SPREAD) + LATE

    def pair(kind, engine, server, space):
        _, host, port = proxy.addresses(f"{kind}-{engine}")[0]
        client = world.keep(peers.connect(space, host, port))
        return client, server.take()
    left, blocked, silent = {}, {}, {}
    opened = time.monotonic()
    for engine in engines:
        gone, left["client", engine] = pair("client", engine, near, link.far)
        left["target", engine], target = pair("target", engine, far, world.pub)
        silent[engine] = pair("living", engine, near, world.pub)
        for direction in ("up", "down"):
            client, target = pair("living", engine, near, world.pub)
            sender, reader = (client, target) if direction == "up" else (target, client)
            blocked[direction, engine] = (reader, fill(sender))
    begun = time.monotonic()
    least = max(idle - (begun - opened), 0) + count * interval - 1      # what was answered a moment ago is probed after `idle`
    link.set("far", "down")         # nobody is told: no socket ends, no packet comes
    waiting = {key: until_reset(sock, limit + peers.PATIENCE) for key, sock in left.items()}
    for (side, engine), work in waiting.items():
        seconds = work.result(limit + 2 * peers.PATIENCE) - begun
        assert least < seconds < limit, f"{side}, {engine}: {seconds:.1f} s"
        rows.record(25, engine, f"silent {side}, keepalive after {idle} s, {count} times every {interval} to {interval + SPREAD} s: "
                    f"reset after {seconds:.1f} s")
    assert {record["service"] for record in proxy.wait_access(len(left), end="error")} == {f"{side}-{engine}" for side, engine in left}
    assert len(proxy.access()) == len(left), "somebody who lives was cut"
    for client, target in silent.values():
        client.sendall(b"still here")
        assert peers.receive_exactly(target, 10) == b"still here"
    for (direction, engine), (reader, sent) in blocked.items():
        assert peers.drain(reader, sent)[::2] == (sent, "limit")
        rows.record(25, engine, f"living, zero window, {direction}: still there after {time.monotonic() - begun:.0f} s, {sent >> 10} KiB arrive")
