# SPDX-License-Identifier: ISC
"""
A worker that was taken over: whatever it sends or writes, the parent survives, other pools are served, the worker is killed, replaced and named in the log.
Both pools run the same program; it misbehaves for the service named after a misdeed, and behaves for the one called "good".
"""

import os
import re
import signal
import time

import pytest

from conftest import LONG, PRIVATE
from support import netns, peers, proc, rows, stand_in, waits

# Misdeed: what the log says of it. None: the channel just ends, and the log tells of the worker's end.
CAUGHT = {
    "bad-empty": None,
    "bad-short": "shorter than a head",
    "bad-size-less": "wrong size",
    "bad-size-more": "wrong size",
    "bad-longest": "longer than any message",
    "bad-huge": "longer than any message",
    "bad-type": "unknown type",
    "bad-sender": "never sends here",
    "bad-receiver": "never sends here",
    "bad-version": "another protocol version",
    "bad-count-none": "wrong number of items",
    "bad-count-two": "wrong number of items",
    "bad-count-lie": "wrong number of items",
    "bad-twice": "out of its phase",
    "bad-pong": "contents that make no sense",
    "bad-flood": "contents that make no sense",
    "bad-close": None,
}
HARMLESS = ("board-finished", "board-backwards", "board-shrink", "log-open", "log-control", "log-levels", "log-flood", "closed-route", "closed-garbage",
            "closed-flood")
HUNG_UP = {"report-descriptors": "wrong number of descriptors|descriptors where none", "report-type": "never sends here"}
TOLERANCE = 256 << 10       # bytes that the parent's own memory may differ by


@pytest.fixture(scope="module")
def other_privs(namespaces_work):
    """Private namespaces for the pools of the bad ones."""
    made = [netns.Namespace("evil", [f"{PRIVATE}/32"]) for _ in range(3)]
    yield made
    for namespace in made:
        namespace.remove()


@pytest.fixture(scope="module")
def caught():
    """By how much the parent's memory grew, of each kind of bad record."""
    grown = []
    yield grown
    if grown:
        rows.record(36, "-", f"{len(grown)} of {len(CAUGHT)} kinds of bad records and ends: worker killed, named and replaced; "
                             f"parent's memory at most {max(grown):+} bytes")


class Stage:
    """A daemon with a good pool, and one pool for each list of misdeeds."""

    def __init__(self, world, namespaces, *pools):
        self.world = world
        self.stand_in = stand_in.StandIn(world.install, "evil_worker", world.directory)
        self.stand_in.signal(False)
        text = f'service good {{\n listen = {{"{world.public()}"}}\n connect = {{"{world.private(9)}"}}\n}}\n'
        for namespace, services in zip(namespaces, pools):
            text += "".join(f'service {service} {{\n listen = {{"{world.public()}"}}\n connect = {{"{namespace.name}@{PRIVATE}:9"}}\n}}\n'
                            for service in services)
        self.proxy = world.proxy("-w", "1", "-f", world.config(text), preexec_fn=self.stand_in.preexec_fn)
        self.proxy.expect_log("worker", "lost")
        self.proxy.check_workers = False
        self.expect_good()
        self.before = self.settled()
        self.memory = proc.rss(self.proxy.pid)

    def settled(self):
        return proc.descriptor_kinds(self.proxy.pid)

    def client(self, service):
        _, host, port = self.proxy.addresses(service)[0]
        return self.world.keep(peers.connect(self.world.pub, host, port, timeout=10))

    def expect_good(self, service="good"):
        """A client is served, and in time."""
        started = time.monotonic()
        with self.client(service) as client:
            assert peers.drain(client)[::2] == (5, "eof"), f"service {service} does not answer"
        return time.monotonic() - started

    def worker_of(self, namespace):
        """The pool's worker, once it is there (started is not yet ready, but in its namespace)."""
        return waits.until(lambda: [pid for pid in self.proxy.workers() if proc.netns(pid) == namespace.inode()], "a worker in the pool")[0]

    def wait_replaced(self, namespace, pid):
        waits.until(lambda: not proc.alive(pid), "the end of the worker")
        return waits.until(lambda: [new for new in self.proxy.workers() if proc_netns(new) == namespace.inode() and new != pid], "another worker")[0]

    def check(self):
        """The parent is as it was before."""
        waits.until(lambda: len(self.proxy.workers()) == self.proxy.n_workers, "all workers")
        self.expect_good()
        waits.until(lambda: self.settled() == self.before, lambda: f"descriptors of the parent: {self.settled()}, before {self.before}", 10)
        grown = proc.rss(self.proxy.pid) - self.memory
        assert grown < TOLERANCE, f"the parent's memory grew by {grown} bytes"
        return grown


def proc_netns(pid):
    try:
        return proc.netns(pid)
    except OSError:
        return ""


def trigger(stage, service, outcome=(peers.RESET, "eof")):
    """A client of that service, and what the worker's deed makes of it; a reset may come before connect() has returned."""
    try:
        ended = peers.drain(stage.client(service))[2]
    except ConnectionResetError:
        ended = peers.RESET
    assert ended in outcome
    return ended


@pytest.mark.parametrize("deed", CAUGHT)
def test_caught_by_the_parent(world, other_privs, caught, deed):
    stage = Stage(world, other_privs, [deed])
    proxy, good = stage.proxy, stage.worker_of(world.priv)
    evil = stage.worker_of(other_privs[0])
    trigger(stage, deed)
    new = stage.wait_replaced(other_privs[0], evil)
    assert new and stage.worker_of(world.priv) == good, "another worker was replaced too"
    if CAUGHT[deed]:
        proxy.wait_log(rf"worker \d+ \[{other_privs[0].name}\] \(process {evil}\) sent a bad message \([^)]*{CAUGHT[deed]}.*killed and replaced")
    proxy.wait_log(rf"worker \d+ \[{other_privs[0].name}\] \(process {evil}\) ended: killed by signal 9.*a new one is started")
    caught.append(stage.check())


def test_descriptors_towards_the_parent(world, other_privs):
    """The kernel refuses them, or the parent sees a record that was cut; none is ever installed."""
    stage = Stage(world, other_privs, ["bad-descriptors"])
    evil = stage.worker_of(other_privs[0])
    outcome = trigger(stage, "bad-descriptors")
    if outcome == "eof":
        stage.proxy.wait_log("descriptors to the parent are refused by the kernel: Operation not permitted")
    else:
        stage.proxy.wait_log(r"sent a bad message \(descriptors where none can be received")
        stage.wait_replaced(other_privs[0], evil)
    stage.check()
    rows.record(36, "-", f"descriptors to the parent: {'refused by the kernel' if outcome == 'eof' else 'worker killed'}, none installed")


def test_harmless_to_others(world, other_privs, figure):
    """False counters, false records, floods: the parent and the good pool do not notice, and each line stays one line with nothing forged."""
    stage = Stage(world, other_privs, HARMLESS)
    proxy, evil = stage.proxy, stage.worker_of(other_privs[0])
    worst, first = 0.0, len(proxy.lines)
    for deed in HARMLESS:
        trigger(stage, deed, ("eof",))
        for _ in range(5):
            worst = max(worst, stage.expect_good())
    proxy.wait_log("unterminated A+")
    proxy.wait_log(r"control \\x1b\[31m\\x0d\\x0a<0>nsproxy: ready, 66 services")
    proxy.wait_log("log lines were suppressed")
    proxy.wait_log("the scoreboard does not shrink: Operation not permitted")
    proxy.wait_access(service="closed-garbage")
    said = waits.until(lambda: [line for line in proxy.lines if "level out of range" in line.text], "lines whose level is out of range")
    assert all(line.level >= 3 for line in said), "a worker's line came out more urgent than any of ours can be"
    forged = [line.raw for line in proxy.lines[first:] if not line.raw.isprintable() or re.match("ready, 66", line.text)]
    assert not forged, forged[:3]
    proxy.wait_access(6, service="good")
    assert stage.worker_of(other_privs[0]) == evil, "lies about itself are no reason to kill it"
    os.kill(evil, signal.SIGKILL)       # its counters are read once more when it is buried
    stage.wait_replaced(other_privs[0], evil)
    waits.until(lambda: stage.expect_good(HARMLESS[-1]) >= 0, "the new worker serves")
    grown = stage.check()
    figure(f"worst answer of the good pool {worst * 1000:.0f} ms, parent's memory {grown:+} bytes")
    rows.record(36, "-", f"{len(HARMLESS)} kinds of false counters, records and floods: worst answer of others {worst * 1000:.0f} ms")


def test_rows_left_by_the_dead(world, other_privs):
    """A scoreboard full of nonsense is read after its worker's death."""
    stage = Stage(world, other_privs, ["board-rows"])
    evil, reporter = stage.worker_of(other_privs[0]), stage.proxy.reporter()
    trigger(stage, "board-rows")
    stage.wait_replaced(other_privs[0], evil)
    stage.proxy.wait_log("connections were lost with this worker|killed by signal 9")
    stage.check()
    stage.proxy.wait_access(2, service="good")
    assert stage.proxy.reporter() == reporter


@pytest.mark.parametrize("deed", HUNG_UP)
def test_caught_by_the_reporter(world, other_privs, deed):
    """It hangs up on the sender and names it; what came along is closed; the others' records still arrive."""
    stage = Stage(world, other_privs, [deed])
    reporter = stage.proxy.reporter()
    before = proc.descriptor_kinds(reporter)
    trigger(stage, deed, ("eof",))
    stage.proxy.wait_log(rf"worker \d+ .*message that is not allowed \([^)]*({HUNG_UP[deed]})")
    stage.expect_good()
    stage.proxy.wait_access(2, service="good")
    assert stage.proxy.reporter() == reporter
    left = proc.descriptor_kinds(reporter) - before
    assert not left, f"the reporter holds more than before: {left}"
    assert proc.descriptor_kinds(reporter).total() >= before.total() - 1
    stage.proxy.check_descriptors = False       # the reporter's end of that one channel is closed
    stage.check()


def test_silent_deaf_and_never_ready(world, other_privs, figure):
    """No PONG, an end that takes nothing, no READY: each is found out by the clock."""
    stage = Stage(world, other_privs, ["bad-silent"], ["bad-deaf"], ["early-never"])
    proxy = stage.proxy
    victims = [stage.worker_of(namespace) for namespace in other_privs]
    proxy.expect_log("has not answered", "was not ready")
    started = time.monotonic()
    trigger(stage, "bad-silent", ("eof",))
    deaf = stage.client("bad-deaf")
    stage.stand_in.signal(True)
    os.kill(victims[2], signal.SIGKILL)
    victims[2] = stage.wait_replaced(other_privs[2], victims[2])
    proxy.wait_log("is never ready")
    stage.stand_in.signal(False)
    took = {}
    while len(took) < 3:
        assert time.monotonic() - started < 60, f"only {list(took)} of {victims} ended: {[line.raw for line in proxy.lines if (line.level or 0) < 6]}"
        stage.expect_good()
        for name, pid in zip(("silent", "deaf", "never ready"), victims):
            if name not in took and not proc.alive(pid):
                took[name] = time.monotonic() - started
        waits.stays(proxy.alive, 0.05, "the parent lives")
    assert peers.drain(deaf)[2] == peers.RESET
    proxy.wait_log(rf"process {victims[0]}\) has not answered for 1\d seconds: it is killed")
    proxy.wait_log(rf"process {victims[1]}\) has not answered for 1\d seconds: it is killed")
    proxy.wait_log(rf"process {victims[2]}\) was not ready after 10 seconds: it is killed")
    stage.check()
    text = ", ".join(f"{name} after {seconds:.1f} s" for name, seconds in took.items())
    figure(f"killed: {text}")
    rows.record(2, "-", f"killed: {text}; the other pool was served throughout")


def test_crash_loop(world, other_privs, figure):
    """A worker that dies at every start: back-off, an idle parent, the others served, and recovery without help."""
    stage = Stage(world, other_privs, ["early-exit"])
    proxy = stage.proxy
    seconds = 60 if LONG else 6
    stage.stand_in.signal(True)
    evil = stage.worker_of(other_privs[0])
    lines, cpu, started = len(proxy.lines), proc.cpu_seconds(proxy.pid), time.monotonic()
    os.kill(evil, signal.SIGKILL)
    proxy.wait_log("exited with code 42")
    waiting = stage.client("early-exit")        # held by the backlog
    while time.monotonic() - started < seconds:
        stage.expect_good()
        waits.stays(proxy.alive, 0.1, "the parent lives")
    cpu = proc.cpu_seconds(proxy.pid) - cpu
    starts = len([line for line in proxy.lines[lines:] if "exited with code 42" in line.text])
    assert 2 <= starts <= 12, f"{starts} starts in {seconds} s"
    assert cpu < 0.1 * seconds, f"the parent used {cpu:.2f} s of processor time"
    assert "keeps dying" in proxy.log()
    assert not waits.readable(waiting, 0), "the client was dropped"
    stage.stand_in.signal(False)
    assert peers.drain(waiting)[::2] == (5, "eof"), "not served by the first worker that starts"
    stage.check()
    text = f"{starts} restarts in {seconds} s, parent's processor time {100 * cpu / seconds:.1f} %, client held and served afterwards"
    figure(text)
    rows.record(3, "-", text)


@pytest.mark.parametrize("deed,says", [("early-pong", "out of its phase"), ("early-exit", "exited with code 42")])
def test_misdeed_at_the_first_start(world, other_privs, deed, says):
    """Nothing starts half-way."""
    made = stand_in.StandIn(world.install, "evil_worker", world.directory)
    made.signal(True)
    config = world.config(f'service {deed} {{\n listen = {{"{world.public()}"}}\n connect = {{"{other_privs[0].name}@{PRIVATE}:9"}}\n}}\n')
    ended = world.install.run(*world.install.user_options(), "-s", "", "-w", "1", "-f", config, preexec_fn=made.preexec_fn)
    assert ended.returncode == 1
    assert says in ended.stderr, ended.stderr
