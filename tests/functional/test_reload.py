# SPDX-License-Identifier: ISC
"""SIGHUP: the configuration is tried first, and then comes into force without a connection or a listener noticing."""

import os
import signal

from conftest import PUBLIC
from support import peers, proc, waits


def ask(client, text=b"ping"):
    client.sendall(text)
    assert peers.receive_exactly(client, len(text)) == text


def reload(proxy, pattern="reloaded", number=signal.SIGHUP):
    """Sends the signal and waits for a line that says how it went."""
    lines = len(proxy.lines)
    proxy.kill(number)
    return proxy.wait_log(pattern, after=lines)


def test_unchanged(world, engine):
    """Nobody is replaced, nothing is cut."""
    proxy = world.relay(world.serve(peers.echo), engine, workers=2, log_empty="true")
    client = world.connect(proxy)
    ask(client)
    for _ in range(3):
        reload(proxy)
        assert proxy.workers() == proxy.first_workers
        ask(client)
        ask(world.connect(proxy))
