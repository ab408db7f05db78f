# SPDX-License-Identifier: ISC
"""Bytes that a relay leaves behind when it trusts a single event, a single short read or a single end. A stopped worker makes each situation certain."""

import array
import contextlib
import os
import signal
import socket

import pytest

from conftest import PRIVATE
from support import peers, proc, waits

SILENCE = 10.0          # seconds without a byte: it was left behind


@contextlib.contextmanager
def stopped(pid):
    """What happens in the block reaches the process all at once."""
    os.kill(pid, signal.SIGSTOP)
    waits.until(lambda: proc.stat(pid)[0] == "T", "the worker to stop")
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def test_target_speaks_first(world, engine):
    """Its greeting may come together with the news that it is connected. A full backlog makes the handshake wait for a second SYN."""
    listener = world.keep(world.priv.listener(PRIVATE, backlog=0))
    listener.settimeout(peers.PATIENCE)
    port = listener.getsockname()[1]
    proxy = world.relay(port, engine)
    filler = world.keep(peers.connect(world.priv, PRIVATE, port))
    client = world.connect(proxy)
    worker = proxy.workers()[0]
    waits.until(lambda: proc.descriptor_kinds(worker)["socket"] == proxy.baseline[worker]["socket"] + 2, "the worker to begin its connect()")
    with stopped(worker):
        ends = [world.keep(listener.accept()[0]) for _ in range(2)]
        assert ends[0].getpeername() == filler.getsockname()
        ends[1].sendall(b"220 ready")
    client.settimeout(SILENCE)
    assert peers.receive_exactly(client, 9) == b"220 ready"


@pytest.mark.parametrize("direction", ["up", "down"])
@pytest.mark.parametrize("before, after", [(b"abc", b"def"), (b"", b"def"), (b"abc", b""), (b"x" * 200000, b"y" * 200000)])
def test_urgent_byte_and_the_end_at_once(world, engine, direction, before, after):
    """Before urgent data splice(2) says "end" when the end has arrived, too."""
    server = world.serve()
    proxy = world.relay(server, engine)
    client, target = world.pair(proxy, server)
    sender, receiver = (client, target) if direction == "up" else (target, client)
    client.sendall(b"hello")
    assert peers.receive_exactly(target, 5) == b"hello"
    with stopped(proxy.workers()[0]):
        sender.sendall(before)
        sender.send(b"!", socket.MSG_OOB)
        sender.sendall(after)
        sender.shutdown(socket.SHUT_WR)
    receiver.settimeout(SILENCE)
    assert peers.receive_exactly(receiver, len(before + after) + 2) == before + b"!" + after


class UnixBothSides:
    """A daemon from a unix listener to a unix target, and one connection through it."""

    def __init__(self, world, engine, directory):
        os.chmod(directory, 0o777)
        self.listener = world.keep(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        self.listener.bind(f"{directory}/target")
        os.chmod(f"{directory}/target", 0o777)
        self.listener.listen(16)
        self.proxy = world.proxy("-e", engine, "-w", "1", "-l", f"unix:{directory}/public", "-c", f"unix:{directory}/target")
        self.client = world.keep(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        self.client.settimeout(SILENCE)
        self.client.connect(f"{directory}/public")
        self.target = world.keep(self.listener.accept()[0])
        self.target.settimeout(SILENCE)
        self.client.sendall(b"hello")
        assert peers.receive_exactly(self.target, 5) == b"hello"

    def ends(self, direction):
        return (self.client, self.target) if direction == "up" else (self.target, self.client)


@pytest.mark.parametrize("direction", ["up", "down"])
def test_unix_descriptor_among_bytes(world, engine, short_path, direction):
    """A descriptor that comes along (and is not relayed) cuts a read short, though more is there."""
    both = UnixBothSides(world, engine, short_path)
    sender, receiver = both.ends(direction)
    with open("/dev/null") as null:
        with stopped(both.proxy.workers()[0]):
            sender.sendmsg([b"abc"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [null.fileno()]))])
            sender.sendall(b"def")
        assert peers.receive_exactly(receiver, 6) == b"abcdef"
        with stopped(both.proxy.workers()[0]):
            sender.sendmsg([b"ghi"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [null.fileno()]))])
            sender.sendall(b"jkl")
            sender.shutdown(socket.SHUT_WR)
        assert peers.receive_exactly(receiver, 7) == b"ghijkl"


@pytest.mark.parametrize("direction", ["up", "down"])
@pytest.mark.parametrize("end", [False, True])
@pytest.mark.parametrize("before, after", [(b"abc", b"def"), (b"", b"def"), (b"abc", b"")])
def test_unix_urgent_byte(world, engine, short_path, direction, end, before, after):
    """Unix sockets know urgent data, too (Linux 5.15)."""
    both = UnixBothSides(world, engine, short_path)
    sender, receiver = both.ends(direction)
    with stopped(both.proxy.workers()[0]):
        sender.sendall(before)
        try:
            sender.send(b"!", socket.MSG_OOB)
        except OSError:
            pytest.skip("this kernel's unix sockets know no urgent data")
        sender.sendall(after)
        if end:
            sender.shutdown(socket.SHUT_WR)
    expected = before + b"!" + after
    assert peers.receive_exactly(receiver, len(expected) + end) == expected
    if not end:
        sender.sendall(b"more")
        assert peers.receive_exactly(receiver, 4) == b"more"
