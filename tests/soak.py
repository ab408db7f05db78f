#!/usr/bin/env python3
# SPDX-License-Identifier: ISC
"""
Soak: mixed traffic through every engine, with faults at random, every byte checked. soak.sh runs it.
    soak.py [MINUTES] [SEED]    the whole; the exit code is 0 only when nothing was wrong
    soak.py target HOST         the target's half: prints its port, at the end of its input a summary
    soak.py clients JSON        the clients' half: prints one line for each finding, at the end a summary
Each connection begins with a header that says what both ends will do, so that each end knows what must come: digests are made from the seed.
"""

import collections
import contextlib
import json
import os
import random
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "functional"))
from support import daemon, netns, peers, proc, rows, waits     # noqa: E402

PUBLIC, PRIVATE = "10.10.10.10", "172.20.0.2"
HEADER = struct.Struct("!BBQQQ")        # service, kind, seed, bytes up, bytes down
STUCK = 40                              # seconds without progress; more than the back-off of a pool whose workers were all killed
THREADS = 12                            # clients of one process
WORKERS = 3
GREATEST = 4 << 20                      # bytes of one direction
GROWTH = 1 << 20                        # bytes of memory that a process may gain when it is warm
QUIET = 1 / 3                           # of the time, after which the reporter is left alone, so that what it gains can be told from what it begins with
PAUSE = threading.Event()               # never set: its wait() is the pace of a slow reader, the length of a fault
ENDINGS = ("complete", "reset", "wrong", "false end", "stuck")


class Wrong(Exception):
    """Bytes that differ, or an end in order that came too early: the two words say which."""


def check(sock, size, seed):
    """Exactly these bytes and no end before."""
    total, sha, how = peers.drain(sock, size)
    if how == peers.RESET:
        raise ConnectionResetError
    if total != size:
        raise Wrong("false end", f"after {total} of {size} bytes")
    if sha != peers.digest(size, seed):
        raise Wrong("wrong", f"{size} bytes differ")


def check_end(sock):
    """Nothing but an end in order is left."""
    try:
        rest = sock.recv(1)
    except BrokenPipeError:
        raise ConnectionResetError from None
    if rest:
        raise Wrong("wrong", "bytes after the last")


def send(sock, size, seed, end=True):
    peers.send_pattern(sock, size, seed)
    if end:
        sock.shutdown(socket.SHUT_WR)


def both(sock, receive, *arguments):
    """Sends in a thread of its own while receive() runs. The kernel tells of a reset once: when the sender was told, the receiver just sees an end."""
    sending = peers.Background(send, sock, *arguments)
    try:
        receive()
    except Wrong:
        sending.result(STUCK)       # a ConnectionError from here explains it
        raise
    sending.result(STUCK)


# -- one function for each end of each kind: (client, target), each with (sock, seed, up, down) --

def up_client(sock, seed, up, down):
    send(sock, up, seed)
    expect_text(sock, peers.digest(up, seed))


def expect_text(sock, text):
    got = peers.receive_exactly(sock, len(text)).decode(errors="replace")
    if got != text:
        raise Wrong("false end" if text.startswith(got) else "wrong", f"{got!r} instead of {text!r}")
    check_end(sock)


def up_target(sock, seed, up, down):
    check(sock, up, seed)
    check_end(sock)
    sock.sendall(peers.digest(up, seed).encode())


def down_client(sock, seed, up, down):
    check(sock, down, seed)
    check_end(sock)


def down_target(sock, seed, up, down):
    send(sock, down, seed)
    check_end(sock)


def duplex_client(sock, seed, up, down):
    both(sock, lambda: (check(sock, down, seed + 1), check_end(sock)), up, seed)


def duplex_target(sock, seed, up, down):
    both(sock, lambda: (check(sock, up, seed), check_end(sock)), down, seed + 1)


def ping_client(sock, seed, up, down):
    chance = random.Random(seed)
    for _ in range(50):
        message = chance.randbytes(chance.randint(1, 2000))
        sock.sendall(message)
        got = peers.receive_exactly(sock, len(message))
        if got != message:
            raise Wrong("wrong" if len(got) == len(message) else "false end", f"ping of {len(message)} bytes, pong of {len(got)}")
    sock.shutdown(socket.SHUT_WR)
    check_end(sock)


def ping_target(sock, seed, up, down):
    peers.echo(sock)


def client_first_client(sock, seed, up, down):
    send(sock, up, seed)
    check(sock, down, seed + 1)
    check_end(sock)


def client_first_target(sock, seed, up, down):
    check(sock, up, seed)
    check_end(sock)
    send(sock, down, seed + 1)


def target_first_client(sock, seed, up, down):
    check(sock, down, seed + 1)
    check_end(sock)
    send(sock, up, seed)
    check_gone(sock)


def target_first_target(sock, seed, up, down):
    send(sock, down, seed + 1)
    check(sock, up, seed)
    check_end(sock)


def check_gone(sock):
    """The other end has read all and closes; after an end in order there is nothing more to tell them apart by."""
    sock.settimeout(STUCK)
    sock.recv(1)


def client_reset_client(sock, seed, up, down):
    peers.send_pattern(sock, up // 2, seed)
    peers.reset(sock)


def expect_reset(sock, size, seed):
    """Some of the bytes, then a reset; an end in order would be a lie."""
    total, _, how = peers.drain(sock, size)
    if how == peers.RESET:
        return
    raise Wrong("false end" if how == "eof" else "wrong", f"after {total} of {size} bytes, in place of a reset")


def client_reset_target(sock, seed, up, down):
    expect_reset(sock, up + 1, seed)


def target_reset_client(sock, seed, up, down):
    expect_reset(sock, down + 1, seed)


def target_reset_target(sock, seed, up, down):
    peers.send_pattern(sock, down // 2, seed)
    peers.reset(sock)


def fill(sock, seed):
    """Sends until nobody takes any more, so that the relay has something to write and cannot. False: was reset meanwhile."""
    sock.setblocking(False)
    try:
        for block in peers.pattern(64 << 20, seed):
            while block:
                block = block[sock.send(block):]
    except BlockingIOError:
        sock.settimeout(STUCK)
    except (ConnectionResetError, BrokenPipeError):
        return False
    return True


def fill_and_expect_reset(sock, seed, size):
    if fill(sock, seed):
        expect_reset(sock, size, seed)


def client_reset_full_client(sock, seed, up, down):
    peers.send_pattern(sock, up // 2, seed)
    peers.receive_exactly(sock, 1)
    peers.reset(sock)


def client_reset_full_target(sock, seed, up, down):
    fill_and_expect_reset(sock, seed, up + 1)


def target_reset_full_client(sock, seed, up, down):
    fill_and_expect_reset(sock, seed, down + 1)


def target_reset_full_target(sock, seed, up, down):
    peers.send_pattern(sock, down // 2, seed)
    peers.receive_exactly(sock, 1)
    peers.reset(sock)


def slow_client(sock, seed, up, down):
    """Reads in small sips, so that the relay is blocked most of the time."""
    down = min(down, 400_000)
    got = bytearray()
    while len(got) < down:
        data = sock.recv(16384)
        if not data:
            raise Wrong("false end", f"after {len(got)} of {down} bytes")
        got += data
        PAUSE.wait(0.01)
    if bytes(got) != b"".join(bytes(block) for block in peers.pattern(down, seed)):
        raise Wrong("wrong", f"{down} bytes differ")
    check_end(sock)


def slow_target(sock, seed, up, down):
    send(sock, min(down, 400_000), seed)
    check_end(sock)


def urgent_client(sock, seed, up, down):
    """An urgent byte before each of some blocks and one at the end, all of which come in line."""
    for number in range(4):
        sock.send(b"!", socket.MSG_OOB)
        sock.sendall(peers.BLOCK[number * 1000:number * 1000 + up % 50_000])
    sock.send(b"!", socket.MSG_OOB)
    sock.shutdown(socket.SHUT_WR)
    expect_text(sock, "in line")


def urgent_target(sock, seed, up, down):
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
    expected = b"".join(b"!" + peers.BLOCK[number * 1000:number * 1000 + up % 50_000] for number in range(4)) + b"!"
    got = peers.receive_exactly(sock, len(expected))
    if got != expected:
        raise Wrong("false end" if expected.startswith(got) else "wrong", f"{len(got)} of {len(expected)} bytes around urgent ones")
    check_end(sock)
    sock.sendall(b"in line")


KINDS = (
    ("bulk up", up_client, up_target), ("bulk down", down_client, down_target), ("both ways", duplex_client, duplex_target),
    ("ping-pong", ping_client, ping_target), ("client ends first", client_first_client, client_first_target),
    ("target ends first", target_first_client, target_first_target), ("client resets", client_reset_client, client_reset_target),
    ("target resets", target_reset_client, target_reset_target),
    ("client resets, queues full", client_reset_full_client, client_reset_full_target),
    ("target resets, queues full", target_reset_full_client, target_reset_full_target), ("slow reader", slow_client, slow_target),
    ("urgent bytes", urgent_client, urgent_target),
)
REFUSED = len(KINDS)            # a service whose target does not listen


class Tally:
    """What became of the connections of one process."""

    def __init__(self):
        self.counts, self.kinds, self.bytes = collections.Counter(), collections.Counter(), 0
        self._lock = threading.Lock()

    def add(self, where, kind, ended, size, began, detail=""):
        with self._lock:
            self.counts[ended] += 1
            if ended == "complete" and isinstance(kind, str):
                self.kinds[where, kind] += 1
            self.bytes += size if ended == "complete" else 0
            if ended != "complete":
                print(json.dumps({"ended": ended, "where": where, "kind": kind, "began": began, "until": time.monotonic(), "detail": detail}), flush=True)

    def summary(self):
        print(json.dumps({"counts": self.counts, "bytes": self.bytes, "kinds": [[*key, n] for key, n in self.kinds.items()]}), flush=True)


def run_end(tally, where, kind, size, function, *arguments):
    """One end of one connection, and how it ended."""
    began = time.monotonic()
    ended, detail = "complete", ""
    try:
        function(*arguments)
    except Wrong as wrong:
        ended, detail = wrong.args
    except (TimeoutError, AssertionError) as error:
        ended, detail = "stuck", str(error)
    except OSError as error:
        ended, detail = "reset", str(error)
    tally.add(where, kind, ended, size, began, detail)


def target(host):
    """Serves until its input ends."""
    tally = Tally()

    def converse(sock, about):
        header = peers.receive_exactly(sock, HEADER.size)
        if len(header) < HEADER.size:
            raise Wrong("false end", f"after {len(header)} bytes of the header")
        service, kind, seed, up, down = HEADER.unpack(header)
        about[:] = f"service {service}", KINDS[kind][0]
        KINDS[kind][2](sock, seed, up, down)

    def handler(sock):
        sock.settimeout(STUCK)
        about = ["", ""]
        run_end(tally, "target", about, 0, converse, sock, about)

    listener = socket.socket()
    listener.bind((host, 0))
    listener.listen(4096)
    server = peers.Server(listener, handler)
    print(server.port, flush=True)
    sys.stdin.read()
    server.close()
    tally.summary()


def client(service, port, kind, seed, chance):
    """One conversation."""
    up, down = (int(GREATEST * chance.random() ** 4) for _ in range(2))
    slow = kind < REFUSED and KINDS[kind][0] == "slow reader"

    def converse():
        sock = socket.socket()
        with sock:
            if slow:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
            sock.settimeout(STUCK)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if kind == REFUSED:
                with contextlib.suppress(ConnectionResetError, BrokenPipeError):
                    sock.connect((PUBLIC, port))
                    if sock.recv(1) == b"":
                        raise Wrong("false end", "an end in order from a target that refused")
                return
            sock.connect((PUBLIC, port))
            sock.sendall(HEADER.pack(service, kind, seed, up, down))
            KINDS[kind][1](sock, seed, up, down)
    return converse, 0 if kind == REFUSED else up + down


def clients(options):
    """Threads that talk until their input ends; each connection through a service chosen at random."""
    tally, stop = Tally(), threading.Event()

    def talk(seed):
        chance = random.Random(seed)
        while not stop.is_set():
            service = chance.randrange(len(options["services"]))
            engine, port = options["services"][service]
            kind = chance.randrange(len(KINDS) + 1)
            if kind == REFUSED:
                port = options["refused"]
            converse, size = client(service, port, kind, chance.getrandbits(32), chance)
            run_end(tally, engine, KINDS[kind][0] if kind < REFUSED else "refused", size, converse)

    threads = [threading.Thread(target=talk, args=(f"{options['seed']}.{n}",)) for n in range(THREADS)]
    for thread in threads:
        thread.start()
    sys.stdin.read()
    stop.set()
    for thread in threads:
        thread.join()
    tally.summary()


class Half:
    """A process of the soak in a namespace; its findings are collected, stop() gives its summary."""

    def __init__(self, namespace, *arguments):
        self.findings = []
        self.process = namespace.popen([sys.executable, __file__, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._thread = threading.Thread(target=self._read, daemon=True)

    def first_line(self):
        return self.process.stdout.readline().strip()

    def listen(self):
        self._thread.start()

    def _read(self):
        self.findings += [json.loads(line) for line in self.process.stdout]

    def stop(self):
        self.process.stdin.close()
        self.process.wait(3 * STUCK)
        self._thread.join(5)
        return self.findings.pop()


class Samples:
    """Memory and descriptors of one process over time."""

    def __init__(self):
        self.rows = []

    def take(self, pid):
        with contextlib.suppress(OSError, KeyError):
            self.rows.append((time.monotonic(), pid, proc.rss(pid), len(proc.descriptors(pid))))

    def steady(self):
        """Of the process that lived longest, without its first half: buffers are touched for the first time, tables grow to the load."""
        longest = collections.Counter(row[1] for row in self.rows).most_common(1)[0][0]
        rows_ = [row for row in self.rows if row[1] == longest]
        return rows_[len(rows_) // 2:]

    def slope(self, column):
        """Least squares, for an hour."""
        rows_ = self.steady()
        n = len(rows_)
        mean_t, mean_v = sum(row[0] for row in rows_) / n, sum(row[column] for row in rows_) / n
        spread = sum((row[0] - mean_t) ** 2 for row in rows_)
        return 3600 * sum((row[0] - mean_t) * (row[column] - mean_v) for row in rows_) / spread if spread else 0.0

    def growth(self):
        rows_ = self.steady()
        return rows_[-1][2] - rows_[0][2]

    def text(self):
        rows_ = self.steady()
        return (f"memory {self.growth() // 1024:+} kB in the last {rows_[-1][0] - rows_[0][0]:.0f} s ({self.slope(2) / 1024:+.0f} kB/h), "
                f"descriptors {self.slope(3):+.1f}/h")


def stop_for_a_moment(pid):
    os.kill(pid, signal.SIGSTOP)
    PAUSE.wait(0.5)
    os.kill(pid, signal.SIGCONT)


class Soak:
    def __init__(self, minutes, seed, directory):
        self.seed, self.directory, self.seconds = seed, directory, 60 * minutes
        self.chance = random.Random(seed)
        self.kills = []         # when a worker was killed or was found dead
        self.faults = collections.Counter()
        self.failed = self.passed = 0
        self.parent, self.reporter = Samples(), Samples()

    def start(self):
        install = daemon.Install(os.environ.get("NSPROXY_PREFIX", "/usr/local"), netns.one_id())
        assert install.present(), f"nsproxy is not installed ({install.nsproxy})"
        netns.private_mounts()
        netns.allow_cubic()
        self.pub, self.priv = netns.Namespace("pub", [f"{PUBLIC}/32"]), netns.Namespace("priv", [f"{PRIVATE}/32"])
        self.target = Half(self.priv, "target", PRIVATE)
        port = int(self.target.first_line())
        self.target.listen()
        version = subprocess.run([install.nsproxy, "-V"], capture_output=True, text=True, check=True).stdout
        self.engines = [name for name in ("copy", "splice", "adaptive", "io_uring", "sockmap")
                        if name in version.split("engines:")[1].split("\n")[0].split() and f"{name} (not usable" not in version]
        text = f'workers = {WORKERS}\naccess-log = "file:{self.directory}/access.log"\n'
        for name, to, engine in [*((engine, port, engine) for engine in self.engines), ("refused", self.priv.free_port(PRIVATE), "adaptive")]:
            text += (f'service {name} {{\n listen = {{"{self.pub.name}@{PUBLIC}:0"}}\n connect = {{"{self.priv.name}@{PRIVATE}:{to}"}}\n'
                     f' engine = "{engine}"\n}}\n')
        path = os.path.join(self.directory, "nsproxy.conf")
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        self.proxy = daemon.Nsproxy(install, [*install.user_options(), "-s", "", "-f", path])
        self.proxy.expect_log("worker", "reporter", "cannot connect", "a connection failed at its", "SIGHUP", "suppressed|not written|were lost")
        self.proxy.check_workers = self.proxy.check_descriptors = False
        services = [(engine, self.proxy.addresses(engine)[0][2]) for engine in self.engines]
        refused = self.proxy.addresses("refused")[0][2]
        self.clients = [Half(self.pub, "clients", json.dumps({"services": services, "refused": refused, "seed": f"{self.seed}.{n}"})) for n in range(2)]
        for half in self.clients:
            half.listen()

    def fault(self):
        warm = time.monotonic() - self.began > QUIET * self.seconds
        what = self.chance.choices(("worker killed", "reporter killed", "worker stopped for 0.5 s", "USR1"), (6, 0 if warm else 4, 2, 1))[0]
        workers = self.proxy.workers()
        with contextlib.suppress(ProcessLookupError, IndexError):
            if what == "worker killed":
                self.kills.append(time.monotonic())
                os.kill(self.chance.choice(workers), signal.SIGKILL)
            elif what == "reporter killed":
                os.kill(self.proxy.reporter(), signal.SIGKILL)
            elif what == "USR1":
                self.proxy.kill(signal.SIGUSR1)
            else:
                stop_for_a_moment(self.chance.choice(workers))
            self.faults[what] += 1

    def run(self):
        self.began = time.monotonic()
        until = self.began + self.seconds
        next_fault, next_sample = time.monotonic() + 1, 0.0
        while time.monotonic() < until and self.proxy.alive():
            now = time.monotonic()
            if now >= next_sample:
                self.parent.take(self.proxy.pid)
                with contextlib.suppress(IndexError):
                    self.reporter.take(self.proxy.reporter())
                next_sample = now + 1
            if now >= next_fault:
                self.fault()
                next_fault = time.monotonic() + self.chance.uniform(0.5, 4)
            PAUSE.wait(0.1)

    def say(self, good, text):
        print(f"{'PASS' if good else 'FAIL'} soak: {text}")
        self.passed += bool(good)
        self.failed += not good

    def judge(self):
        summaries = [half.stop() for half in self.clients]
        target_summary = self.target.stop()
        findings = [finding for half in (*self.clients, self.target) for finding in half.findings]
        counts = sum((collections.Counter(summary["counts"]) for summary in summaries), collections.Counter())
        resets = [finding for half in self.clients for finding in half.findings if finding["ended"] == "reset"]
        strange = [finding for finding in resets if not any(finding["began"] - 1 <= kill <= finding["until"] for kill in self.kills)]
        volume = sum(summary["bytes"] for summary in summaries)
        print(f"seed {self.seed}: {sum(counts.values())} connections ({', '.join(f'{counts[ending]} {ending}' for ending in ENDINGS)}), "
              f"{volume / 1e9:.2f} GB checked, faults: {', '.join(f'{n} {what}' for what, n in self.faults.items())}")
        for finding in [finding for finding in findings if finding["ended"] not in ("complete", "reset")][:20] + strange[:20]:
            nearest = min((finding["until"] - kill for kill in self.kills), key=abs, default=None)
            print(f"     {finding}, {nearest} s after the nearest kill")
        for ending in ENDINGS[2:]:
            number = counts[ending] + target_summary["counts"].get(ending, 0)
            self.say(number == 0, f"{number} connections with {ending}")
        self.say(not strange, f"{len(strange)} resets that no death of a worker explains (of {len(resets)})")
        done = collections.Counter()
        for summary in summaries:
            for engine, kind, number in summary["kinds"]:
                done[engine] += number
        self.say(all(done[engine] for engine in self.engines) and sum(self.faults.values()),
                 f"complete: {', '.join(f'{done[engine]} {engine}' for engine in self.engines)}")
        self.figures = f"{sum(counts.values())} connections, {volume / 1e9:.2f} GB, {sum(self.faults.values())} faults, {len(resets)} reset with their worker"

    def judge_processes(self):
        alive = self.proxy.alive()
        self.say(alive, "the parent lives")
        if alive:
            def settled():
                return proc.descriptor_kinds(self.proxy.pid) == self.proxy.baseline[self.proxy.pid]
            with contextlib.suppress(AssertionError):
                waits.until(settled, "", 20)
            self.say(settled(), f"descriptors of the parent {proc.descriptor_kinds(self.proxy.pid).total()}, at the start "
                                f"{self.proxy.baseline[self.proxy.pid].total()}")
        for name, samples in (("parent", self.parent), ("reporter", self.reporter)):
            self.say(samples.growth() < GROWTH, f"{name}: {samples.text()}")
        try:
            self.proxy.finish()
            self.say(True, "ends in order, no unexpected line in its log")
        except AssertionError as error:
            self.say(False, str(error)[-2000:])

    def close(self):
        for half in (*getattr(self, "clients", ()), *((self.target,) if hasattr(self, "target") else ())):
            half.process.kill()
        if hasattr(self, "proxy"):
            self.proxy.destroy()
        for namespace in (getattr(self, "pub", None), getattr(self, "priv", None)):
            if namespace:
                namespace.remove()


def main():
    if sys.argv[1:2] == ["target"]:
        return target(sys.argv[2])
    if sys.argv[1:2] == ["clients"]:
        return clients(json.loads(sys.argv[2]))
    minutes = float(sys.argv[1]) if len(sys.argv) > 1 else 1.0
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else int(os.environ.get("NSPROXY_SEED", time.time_ns() % 1_000_000))
    print(f"soak: {minutes:g} min, seed {seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="nsproxy-soak-") as directory:
        os.chmod(directory, 0o755)
        soak = Soak(minutes, seed, directory)
        try:
            soak.start()
            soak.run()
            soak.judge()
            soak.judge_processes()
        finally:
            soak.close()
    rows.record(44, "-", f"{minutes:g} min: {soak.figures}; wrong, cut short or stuck: {soak.failed}; parent {soak.parent.text()}; "
                         f"reporter {soak.reporter.text()}")
    print(f"{soak.passed} passed, {soak.failed} failed")
    return 1 if soak.failed else 0


if __name__ == "__main__":
    sys.exit(main())
