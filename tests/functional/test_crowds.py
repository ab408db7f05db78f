# SPDX-License-Identifier: ISC
"""
Many clients within moments, and a flood of SYNs beside honest ones.
With NSPROXY_LONG a burst takes about 10 s for an engine, most of them to make and to end 40 000 sockets, and a flood about 15 s.
"""

import contextlib
import resource
import socket
import time

import pytest

from conftest import LONG, PRIVATE, PUBLIC
from support import crowd, netns, peers, proc, rows, waits

BURST = 20000 if LONG else 1000
BACKLOG = 65535
SMALL_BACKLOG = 128
WORKERS = 3             # two of them, with 20 000 descriptors each, could not hold 20 000 connections
# Each worker holds two descriptors for a connection, and its pipes; with a margin.
FILES = 2 * BURST // WORKERS + 300
HONEST = 1000 if LONG else 100
FLOOD = 600             # seconds, at most: the test ends it


class Counters:
    """How much counters of a namespace's TCP have grown."""

    def __init__(self, space, *names):
        self.space, self.names = space, names
        self.before = self._read()

    def _read(self):
        found = {}
        for file, prefix in (("netstat", "TcpExt:"), ("snmp", "Tcp:")):
            with self.space.inside(), open(f"/proc/thread-self/net/{file}") as lines:
                keys, values = (line.split() for line in lines if line.startswith(prefix))
            found |= dict(zip(keys, values))
        return {name: int(found[name]) for name in self.names}

    def grown(self):
        return {name: value - self.before[name] for name, value in self._read().items()}


@pytest.fixture
def room(pub, priv):
    """The backlog that the kernel allows here; and ports for everybody, where half of the usual range would be spent in looking for free ones."""
    keys = {pub: {"net/core/somaxconn": BACKLOG, "net/ipv4/tcp_max_syn_backlog": BACKLOG, "net/ipv4/ip_local_port_range": "1024 65535"},
            priv: {"net/ipv4/ip_local_port_range": "1024 65535"}}
    before = [(space, key, set_if_there(space, key, value)) for space, values in keys.items() for key, value in values.items()]
    allowed = pub.sysctl("net/core/somaxconn") if before[0][2] is not None else 4096
    yield int(allowed)
    for space, key, value in before:
        if value is not None:
            space.sysctl(key, value)


def set_if_there(space, key, value):
    """What it was; None where an ordinary user may not set it, or it is not shown."""
    try:
        before = space.sysctl(key)
        space.sysctl(key, str(value))
        return before
    except OSError:
        return None


def cpu_of(pids):
    return sum(proc.cpu_seconds(pid) for pid in pids)


@pytest.mark.parametrize("backlog", ["fits", "holds all", "too small"])
def test_burst(world, engine, room, backlog):
    """
    Whoever fits the backlog loses not even a SYN, also when a parent that is stopped for a moment leaves all of them there. Beyond it clients have to
    try again, and all are served. In the end all are there at the same time.
    """
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if most < FILES:
        pytest.skip(f"{BURST} connections need a limit of {FILES} open files, which is {most} here")
    small = backlog == "too small"
    count = max(BURST // 10, 3 * SMALL_BACKLOG) if small else min(BURST, room)
    target = world.keep(crowd.Target(world.priv, PRIVATE))
    proxy = world.relay(target.port, engine, workers=WORKERS, options=("-a", "none"), backlog=SMALL_BACKLOG if small else room)
    proxy.connections = count
    lost, opened = Counters(world.pub, "ListenOverflows", "ListenDrops", "TCPSynRetrans"), Counters(world.pub, "PassiveOpens")
    cpu = proc.cpu_seconds(proxy.pid), cpu_of(proxy.workers())
    with proc.stopped(proxy.pid) if backlog != "fits" else contextlib.nullcontext():
        burst = world.keep(crowd.burst(world.pub, PUBLIC, proxy.port, count))
        if small:
            waits.until(lambda: lost.grown()["ListenOverflows"] > 0, "a backlog that is full")
        elif backlog == "holds all":
            waits.until(lambda: opened.grown()["PassiveOpens"] >= count, lambda: f"{count} clients in the backlog: {opened.grown()}, {lost.grown()}")
    result = burst.result()
    cpu = proc.cpu_seconds(proxy.pid) - cpu[0], cpu_of(proxy.workers()) - cpu[1]
    established, answered = result["established"], result["answered"]
    assert (established["count"], answered["count"]) == (count, count)
    rows.record(30, engine, f"{count} connects in {result['seconds']:.2f} s, backlog {backlog}: all established, "
                f"all answered after {result['over']:.2f} s; established p99 {established['p99'] / 1000:.1f} ms, "
                f"accepted and answered p99 {answered['p99'] / 1000:.0f} ms; CPU of the parent {cpu[0] * 1000:.0f} ms, "
                f"of workers {cpu[1] * 1000:.0f} ms; {lost.grown()['ListenOverflows']} times the backlog was full")
    if not small:
        assert set(lost.grown().values()) == {0}, f"clients were dropped, or had to try again: {lost.grown()}"
    burst.close()
    proxy.wait_settled()


class Attacker:
    """A namespace with a link to the clients' one. What comes from its made-up addresses is answered, and the answers vanish."""

    def __init__(self, pub):
        self.pub, self.space = pub, netns.Namespace("flood")
        self.space.ip_batch([f"link add va type veth peer name vb netns {pub.name}", "addr add 198.51.100.1/29 dev va", "link set va up",
                             f"route add {PUBLIC}/32 dev va"])
        pub.ip_batch(["addr add 198.51.100.2/29 dev vb", "link set vb up", "neigh add 198.51.100.3 lladdr 02:00:00:00:00:01 nud permanent dev vb",
                      "route add 198.18.0.0/15 via 198.51.100.3 dev vb"])
        # What is half open at the end is to be gone soon.
        self.retries = pub.sysctl("net/ipv4/tcp_synack_retries")
        pub.sysctl("net/ipv4/tcp_synack_retries", "1")

    def remove(self):
        self.pub.ip_batch(["link del vb"])
        self.space.remove()
        self.pub.sysctl("net/ipv4/tcp_synack_retries", self.retries)


@pytest.fixture
def attacker(pub):
    if pub.sysctl("net/ipv4/tcp_syncookies") == "0":
        pytest.skip("net.ipv4.tcp_syncookies is 0: the kernel does not protect a listener from floods")
    made = Attacker(pub)
    yield made
    made.remove()


def visit(world, proxy):
    """One honest client: connect, a message, its answer, an end. Seconds, or None when that failed."""
    started = time.monotonic()
    try:
        with peers.connect(world.pub, PUBLIC, proxy.port) as client:
            client.sendall(b"ping")
            if peers.receive_exactly(client, 4) != b"ping":
                return None
            seconds = time.monotonic() - started
            client.shutdown(socket.SHUT_WR)
            return seconds if client.recv(1) == b"" else None
    except (OSError, TimeoutError):
        return None


def percentile(times, part):
    return sorted(times)[int(len(times) * part)] * 1000


def test_syn_flood(world, engine, attacker):
    """
    The kernel answers with cookies; of all these nothing reaches nsproxy, which sleeps; honest clients of the same listener are served. They
    share two processors with the flood, so their times are reported and not judged.
    """
    server = world.serve(peers.echo)
    proxy = world.relay(server, engine, workers=2)
    alone = [visit(world, proxy) for _ in range(HONEST)]
    assert None not in alone
    proxy.wait_access(HONEST)
    cookies = Counters(world.pub, "SyncookiesSent", "SyncookiesRecv", "SyncookiesFailed")
    flood = world.keep(crowd.flood(attacker.space, PUBLIC, proxy.port, FLOOD))
    waits.until(lambda: cookies.grown()["SyncookiesSent"] > 10000, "cookies")
    before = {pid: (proc.wakeups(pid), proc.cpu_seconds(pid), proc.rss(pid)) for pid in proxy.pids()}
    waits.stays(proxy.alive, 1.0, "it lives")
    woken = {f"{proc.program(pid)}[{pid}]": proc.wakeups(pid) - count for pid, (count, _, _) in before.items()}
    idle_cpu = sum(proc.cpu_seconds(pid) - cpu for pid, (_, cpu, _) in before.items())
    grown = {f"{proc.program(pid)}[{pid}]": proc.rss(pid) - rss for pid, (_, _, rss) in before.items()}
    times = [visit(world, proxy) for _ in range(HONEST)]
    assert flood.running(), "the flood was over before the clients were"
    cpu = proc.cpu_seconds(proxy.pid) - before[proxy.pid][1], cpu_of(proxy.workers()) - sum(before[pid][1] for pid in proxy.workers())
    flood.let_go()
    sent = flood.result()
    assert None not in times, f"{times.count(None)} of {HONEST} honest clients were not served"
    rows.record(30, engine, f"SYN flood, {sent['sent'] / sent['seconds'] / 1000:.0f} thousand a second, {cookies.grown()['SyncookiesSent']} cookies: "
                f"{HONEST} of {HONEST} honest clients served, p50 {percentile(times, .5):.1f} ms, p99 {percentile(times, .99):.1f} ms "
                f"(without it {percentile(alone, .5):.1f} and {percentile(alone, .99):.1f}); {sum(woken.values())} wake-ups "
                f"and {idle_cpu * 1000:.0f} ms CPU in a second without them; with them CPU of the parent {cpu[0] * 1000:.0f} ms, "
                f"of workers {cpu[1] * 1000:.0f} ms")
    assert all(count <= 4 for count in woken.values()), f"somebody wakes up for the flood: {woken}"
    assert max(grown.values()) <= 0, f"memory grows with the flood: {grown}"
    proxy.wait_access(2 * HONEST)
