# SPDX-License-Identifier: ISC
"""What a machine does to its programs: no memory left, a clock that jumps, a port that is its own other end, floods, features switched off."""

import contextlib
import os
import random
import socket
import struct
import subprocess
import sys

import pytest

from conftest import LONG, PRIVATE, PUBLIC
from support import cgroup, peers, proc, rows, waits

PORTS = "40000 40003"
ATTEMPTS = 200 if LONG else 40


def served(sock, text=b"ping"):
    sock.sendall(text)
    return peers.receive_exactly(sock, len(text)) == text


# -- a TCP connection whose two ends are one socket --

@pytest.fixture
def few_ports(priv):
    before = priv.sysctl("net/ipv4/ip_local_port_range")
    priv.sysctl("net/ipv4/ip_local_port_range", PORTS)
    yield int(PORTS.split()[0])
    priv.sysctl("net/ipv4/ip_local_port_range", before)


@pytest.mark.parametrize("log", ["log", "none"])
def test_target_is_its_own_end(world, engine, few_ports, log):
    """Nobody listens on a port that the kernel may choose for the connecting side: then it connects to itself, which is no target."""
    proxy = world.relay(few_ports, engine, options=("-a", log))
    proxy.expect_log("cannot connect")
    for _ in range(ATTEMPTS):
        peers.expect_reset(world.pub, PUBLIC, proxy.port, b"to myself")
    if log == "log":
        records = proxy.wait_access(ATTEMPTS)
        assert {(record["end"], record["down"]) for record in records} == {("connect-refused", "0")}
    rows.record(11, engine, f"a target port that is the connection's own: {ATTEMPTS} of {ATTEMPTS} refused")
