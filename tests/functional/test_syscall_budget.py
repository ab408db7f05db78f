# SPDX-License-Identifier: ISC
"""
How many system calls a message and a connection cost worker and parent, beside the counts kept in syscalls.json: one more is seen here before any benchmark
shows it. NSPROXY_COUNT=write keeps what is measured now; look at the difference before committing it.
"""

import collections
import json
import os
import re
import socket
import tempfile
import time

import pytest

from conftest import RELAY_ENGINES
from support import peers, strace

KEPT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "syscalls.json")
WRITE = os.environ.get("NSPROXY_COUNT") == "write"
MESSAGES, CONNECTIONS = 400, 100
BURST, BURSTS = 16, 12
NOTICED = 0.02          # fewer than this for each operation: the heartbeat and other things of their own time
# Other names of one thing: which of them it is depends on the kernel and on the processor.
SAME = {"epoll_pwait": "epoll_wait", "epoll_pwait2": "epoll_wait"}
# How far a count may be away: calls that nobody shares, by much less than one. Which side is quicker decides how many things are found by one
# wait and whether a first read comes too early; hand-overs are gathered. Waits at a low rate (2.7 to 6 were seen, timers
# among them) say nothing; in bursts they do. An entry into the ring is a wait, too, and how many things one of them submits is chance.
NEARLY, SOME, ENTRIES, CHANCE = 0.1, 0.6, 2, 9     # entries into the ring for one connection: 6.2 to 7.0 were seen
APART = {
    "rr": {"epoll_wait": SOME, "io_uring_enter": SOME},
    "crr": {"epoll_wait": CHANCE, "io_uring_enter": ENTRIES, "recvfrom": SOME, "splice": SOME, "recvmsg": SOME},
    "burst": {"epoll_wait": SOME, "io_uring_enter": SOME, "recvfrom": SOME, "sendto": SOME, "splice": SOME, "recvmsg": SOME,
              "sendmsg": SOME, "accept4": SOME},
}
REPORT_FD = 4           # the worker's channel to the reporter
GATHERED = 0.004        # s: so long records are gathered (FLUSH_EVERY), so how many go with one message depends on how fast they come
ENGINES = (*RELAY_ENGINES, *(["io_uring"] if "io_uring" not in RELAY_ENGINES else []))


def kept():
    with open(KEPT, encoding="ascii") as file:
        return json.load(file)


def keep(engine, case, found):
    counts = kept() if os.path.exists(KEPT) else {}
    counts.setdefault(engine, {})[case] = found
    with open(KEPT, "w", encoding="ascii") as file:
        json.dump(counts, file, indent=1, sort_keys=True)
        file.write("\n")


def exchange(client):
    client.sendall(b"x" * 64)
    assert len(peers.receive_exactly(client, 64)) == 64


def messages(world, proxy):
    """One connection that is there already, one message after the other."""
    client = world.connect(proxy)
    for _ in range(10):
        exchange(client)

    def work():
        for _ in range(MESSAGES):
            exchange(client)
        return MESSAGES
    return work


def one_by_one(world, proxy):
    """A low rate of connections: each begins when the one before is over."""
    def work():
        for _ in range(CONNECTIONS):
            with peers.connect(world.pub, *proxy.addresses()[0][1:]) as client:
                exchange(client)
        proxy.wait_settled()
        return CONNECTIONS
    return work


def in_bursts(world, proxy):
    """A high rate: many at the same time, so that hand-overs can be gathered."""
    address = tuple(proxy.addresses()[0][1:])

    def burst():
        clients = [world.pub.socket() for _ in range(BURST)]
        for client in clients:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            client.connect(address)
        for client in clients:
            exchange(client)
        for client in clients:
            client.close()

    def work():
        for _ in range(BURSTS):
            burst()
        proxy.wait_settled()
        return BURSTS * BURST
    return work


CASES = {"rr": messages, "crr": one_by_one, "burst": in_bursts}


def read_calls(log):
    """{pid: Counter(call)}. A record for the reporter is told apart from what is sent to client or target: records are gathered."""
    counts = collections.defaultdict(collections.Counter)
    for line in log:
        match = re.match(r"(\d+)\s+(\w+)\((\d+, )?", line)
        if match:
            counts[int(match[1])]["record" if match[2] == "sendto" and match[3] == f"{REPORT_FD}, " else SAME.get(match[2], match[2])] += 1
    return counts


def each(counts, operations):
    """Calls for each operation, without what belongs to none."""
    return {name: round(count / operations, 2) for name, count in sorted(counts.items()) if count / operations >= NOTICED}


def differences(case, found, expected):
    """What is not as kept: one line for each call. Fewer is told as well, or one that comes back later would go unnoticed."""
    lines = []
    for who in ("worker", "parent"):
        for name in sorted({*found[who], *expected[who]}):
            now, before = found[who].get(name, 0), expected[who].get(name, 0)
            if abs(now - before) > APART[case].get(name, NEARLY):
                lines.append(f"{who}: {name} {now:g} times each, kept is {before:g}")
    return lines


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("counted", ENGINES)
def test_as_many_calls_as_kept(world, install, counted, case, figure):
    engine = counted        # not the fixture of that name: the counts of every engine are kept, whatever the other tests run for
    if not strace.present():
        pytest.skip("strace is missing (apt-get install strace)")
    if engine not in install.run("-V").stdout.split():
        pytest.skip(f"this build has no engine {engine}")
    proxy = world.relay(world.serve(peers.echo), engine, options=("-a", "none"))
    if any("is used instead" in line.text for line in proxy.lines):
        proxy.expect_log("is used instead")
        pytest.skip(f"this kernel cannot do {engine}")
    pids = {"worker": proxy.workers()[0], "parent": proxy.pid}
    work = CASES[case](world, proxy)
    with tempfile.NamedTemporaryFile("r") as log:
        with strace.attached(pids.values(), "-o", log.name):
            started = time.monotonic()
            operations = work()
            seconds = time.monotonic() - started
        counts = read_calls(log)
    records = counts[pids["worker"]].pop("record", 0)
    assert records <= min(operations, seconds / GATHERED + 1), f"{records} messages with records of {operations} connections in {seconds:.3f} s"
    assert (records > 0) == (case != "rr")
    found = {who: each(counts.get(pid, collections.Counter()), operations) for who, pid in pids.items()}
    figure(f"{sum(found['worker'].values()):.1f} in the worker, {sum(found['parent'].values()):.1f} in the parent")
    if WRITE:
        keep(engine, case, found)
        return
    lines = differences(case, found, kept()[engine][case])
    assert not lines, "\n".join(lines) + f"\nworker: {found['worker']}\nparent: {found['parent']}"


def test_one_more_is_seen():
    """The comparison itself."""
    expected = {"worker": {"recvfrom": 2, "epoll_wait": 2}, "parent": {}}
    assert not differences("rr", {"worker": {"recvfrom": 2.02, "epoll_wait": 1.8}, "parent": {}}, expected)
    assert differences("rr", {"worker": {"recvfrom": 2.5, "epoll_wait": 2}, "parent": {}}, expected)
    assert differences("rr", {"worker": {"recvfrom": 2, "epoll_wait": 2, "getsockopt": 1}, "parent": {}}, expected)
    assert differences("rr", {"worker": {"recvfrom": 2}, "parent": {}}, expected)
