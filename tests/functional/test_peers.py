# SPDX-License-Identifier: ISC
"""
The faults of the table in README that tell most, for nsproxy and for what people would use in its place, by the same driver. It compares, so only
nsproxy can fail it:
    NSPROXY_LONG=1 pytest-3 -s tests/functional/test_peers.py
Each program is given its listener from the public namespace and lives in the private one, as a service manager would start it. pasta (passt) is not among
them: it gives a namespace an interface that leads to the host's, and forwards ports to the same ports there; it takes no target's address.
"""

import contextlib
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import time

from conftest import LONG, PRIVATE, PUBLIC
from support import peers, proc, rows, waits

PROXYD = "/usr/lib/systemd/systemd-socket-proxyd"
STREAM_MODULE = "/usr/lib/nginx/modules/ngx_stream_module.so"
PROGRAMS = {"nsproxy": None, "haproxy": "haproxy", "systemd-socket-proxyd": PROXYD, "nginx stream": "nginx", "socat": "socat"}
FEW, CROWD = 100, 150
SHORT = 5.0             # seconds without anything: it stalls
REPLY = 10 << 20


class Failed(Exception):
    """What a program did instead; not an error of the test."""


class Program:
    """One of them between start and close()."""

    def __init__(self, name, world, target, files=None):
        self.name, self.world, self.target, self.processes = name, world, target, []
        self.limit = (lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))) if files else None
        if name == "nsproxy":
            # Its parent's descriptors decide; what it needs for itself at start is more than the others need.
            limit = (lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (400, 400))) if files else None
            self.proxy = world.relay(target, workers=2, popen={"preexec_fn": limit} if limit else None)
            self.proxy.check_workers = False
            self.proxy.expect_log("")
            self.processes, self.port = [self.proxy.process], self.proxy.port
            return
        with world.pub.listener(PUBLIC) as listener:
            self.port = listener.getsockname()[1]
            getattr(self, name.split()[0].replace("-", "_"))(listener)

    def start(self, argv, listener=None, space=None, **environment):
        """The listener, if it gets one, is descriptor 3."""
        def prepare():
            if listener:
                os.dup2(listener.fileno(), 3, inheritable=True)
            if self.limit:
                self.limit()
        with (space or self.world.priv).inside():
            self.processes.append(subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, close_fds=False,
                                                   start_new_session=True, preexec_fn=prepare, env={**os.environ, **environment}))

    def haproxy(self, listener):
        few = " maxconn 20\n" if self.limit else ""        # it does not start with fewer descriptors than it may come to need
        text = (f"global\n nbthread 2\n{few}defaults\n mode tcp\n option splice-auto\n timeout connect 5s\n timeout client 1h\n timeout server 1h\n"
                f"listen l\n bind fd@3\n server s {PRIVATE}:{self.target}\n")
        self.start([shutil.which("haproxy"), "-db", "-f", self.world.config(text, "haproxy.cfg")], listener)

    def systemd_socket_proxyd(self, listener):
        self.start(["sh", "-c", f'LISTEN_PID=$$ exec {PROXYD} --connections-max=10000 {PRIVATE}:{self.target}'], listener, LISTEN_FDS="1")

    def nginx(self, listener):
        directory = self.world.directory
        text = (f"daemon off; user root; load_module {STREAM_MODULE}; worker_processes 2; pid {directory}/nginx.pid; error_log /dev/null;\n"
                "events { worker_connections 1000; }\n"
                f"stream {{ proxy_half_close on; server {{ listen {PUBLIC}:{self.port}; proxy_pass {PRIVATE}:{self.target}; }} }}\n")
        self.start([shutil.which("nginx"), "-e", "/dev/null", "-p", directory, "-c", self.world.config(text, "nginx.conf")], listener, NGINX="3;")

    def socat(self, listener):
        listener.close()
        path, program = f"/tmp/nt-socat{self.port}", shutil.which("socat")
        self.start([program, f"UNIX-LISTEN:{path},fork,backlog=4096,unlink-early", f"TCP:{PRIVATE}:{self.target}"])
        self.start([program, f"TCP-LISTEN:{self.port},bind={PUBLIC},fork,backlog=4096,reuseaddr", f"UNIX-CONNECT:{path}"], space=self.world.pub)

    def connect(self):
        """A client; the program may be starting still."""
        def attempt():
            try:
                return peers.connect(self.world.pub, PUBLIC, self.port)
            except ConnectionRefusedError:
                return None
        client = self.world.keep(waits.until(attempt, f"{self.name} to listen", SHORT))
        client.settimeout(SHORT)
        return client

    def settle(self, server):
        """Waits until a connection reaches the target."""
        def reaches():
            before = server.accepted
            try:
                with self.connect() as client:
                    client.sendall(b"x")
                    waits.until(lambda: server.accepted > before, "", 0.5)
                    return True
            except (OSError, waits.Timeout):
                return False
        waits.until(lambda: reaches() or any(process.poll() is not None for process in self.processes), f"{self.name} to serve", 2 * SHORT)
        expect(all(process.poll() is None for process in self.processes), "does not start")
        if not server.handler:
            server.take().close()

    def holder(self, client):
        """The process that has the other end of a client's connection."""
        def look():
            which = f"sport = :{self.port} and dport = :{client.getsockname()[1]}"
            said = self.world.pub.run(["ss", "-H", "-t", "-n", "-p", which], capture_output=True, text=True)
            return [int(pid) for pid in re.findall(r"pid=(\d+)", said.stdout)]
        return waits.until(look, "the process of a connection", SHORT)[0]

    def cpu(self):
        return sum(proc.cpu_seconds(pid) for process in self.processes for pid in proc.session(process.pid) if proc.stat(pid))

    def close(self):
        if self.name == "nsproxy":
            return          # the fixture ends and checks it
        for process in self.processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"/tmp/nt-socat{self.port}")


def expect(condition, text):
    if not condition:
        raise Failed(text)


def greeted(program, server):
    """A client, and the target's end of its connection, which works."""
    client = program.connect()
    client.sendall(b"hello")
    target = server.take(SHORT)
    target.settimeout(SHORT)
    assert peers.receive_exactly(target, 5) == b"hello"
    return client, target


# -- rows: each says what was good about it, or raises Failed --

def row_1(program, server):
    client, target = greeted(program, server)
    peers.send_pattern(target, 20000)
    peers.receive_exactly(client, 20000)
    os.kill(program.holder(client), signal.SIGKILL)
    ends = [peers.drain(client)[2], peers.drain(target)[2]]
    expect(ends == [peers.RESET] * 2, f"client sees {ends[0]}, target {ends[1]}")

    def again():
        try:
            return greeted(program, server)
        except (AssertionError, OSError):
            return None
    expect(all(process.poll() is None for process in program.processes), "both reset, but nobody serves any more")
    waits.until(again, "a new client", 2 * SHORT)
    return "both reset, next client served"


def row_15(program, server):
    client, target = greeted(program, server)
    client.shutdown(socket.SHUT_WR)
    expect(target.recv(1) == b"", "the end does not arrive")
    sending = peers.Background(lambda: (peers.send_pattern(target, REPLY), target.close()))
    total, sha, how = peers.drain(client)
    with contextlib.suppress(OSError):
        sending.result()
    expect((total, sha, how) == (REPLY, peers.digest(REPLY), "eof"), f"{total} of {REPLY} bytes, {how}")
    return f"{total >> 20} of {REPLY >> 20} MiB"


def row_18(program, server):
    times = []
    for turn in range(10):
        breaker, other = greeted(program, server)[::1 if turn % 2 else -1]
        started = time.monotonic()
        peers.reset(breaker)
        total, _, how = peers.drain(other)
        times.append(time.monotonic() - started)
        expect(how == peers.RESET, f"{'client' if turn % 2 else 'target'} resets: {how} at the other side")
    return f"at most {max(times) * 1000:.1f} ms"


def row_19(program, server):
    for side in ("client", "target"):
        pair = greeted(program, server)
        sender, sleeper = pair if side == "client" else pair[::-1]
        sender.settimeout(0.3)
        sent = 0
        with contextlib.suppress(TimeoutError):
            while sent < 1 << 28:
                sent += sender.send(peers.BLOCK)
        peers.reset(sender)
        with contextlib.suppress(waits.Timeout):        # long enough for a relay to have noticed
            waits.until(lambda: False, "", 0.5)
        total, _, how = peers.drain(sleeper)
        expect(how == peers.RESET, f"{side} resets: {how} after {total >> 10} of {sent >> 10} KiB")
    return "never a clean end"


def row_24(program, server):
    for where in (0, 150000, 300000):
        client, target = greeted(program, server)
        body = peers.BLOCK[:300000]

        def send():
            client.sendall(body[:where])
            client.send(b"!", socket.MSG_OOB)
            client.sendall(body[where:])
            client.shutdown(socket.SHUT_WR)
        sending = peers.Background(send)
        expected, got = body[:where] + b"!" + body[where:], b""
        with contextlib.suppress(TimeoutError, ConnectionError):
            got = peers.receive_exactly(target, len(expected) + 1)
        with contextlib.suppress(Exception):
            sending.result(SHORT)
        expect(got == expected, f"urgent byte at {where}: {len(got)} of {len(expected)} bytes" + (", stalls" if not got else ""))
    return "all bytes in order"


def row_26(program, server):
    clients = [program.connect() for _ in range(CROWD)]
    for client in clients:
        client.sendall(b"ping")
    cpu = program.cpu()
    with contextlib.suppress(waits.Timeout):
        waits.until(lambda: False, "", 1.0)
    cpu = program.cpu() - cpu
    waiting = list(clients)
    deadline = time.monotonic() + 2 * SHORT
    lost = 0
    while waiting and time.monotonic() < deadline:
        for client in [client for client in waiting if waits.readable(client, 0)]:
            try:
                lost += peers.receive_exactly(client, 4) != b"ping"
            except ConnectionError:
                lost += 1
            client.close()
            waiting.remove(client)
    expect(not waiting and not lost, f"{lost} of {CROWD} lost, {len(waiting)} never served, {100 * cpu:.0f} % of a processor")
    expect(cpu < 0.3, f"all served, but it spins: {100 * cpu:.0f} % of a processor")
    return f"all {CROWD} served, {100 * cpu:.0f} % of a processor"


ROWS = {1: row_1, 15: row_15, 18: row_18, 19: row_19, 24: row_24, 26: row_26}


def one(name, number, world):
    """(passed, text)"""
    server = world.serve(peers.echo if number == 26 else None)
    program = world.keep(Program(name, world, server.port, FEW if number == 26 else None))
    try:
        program.settle(server)
        return True, ROWS[number](program, server)
    except (Failed, OSError, AssertionError) as error:
        return False, str(error) or type(error).__name__


def side_by_side(world, figure):
    outcomes = {}
    for name, path in PROGRAMS.items():
        if path and not shutil.which(path):
            outcomes[name] = dict.fromkeys(ROWS, (None, "is not installed"))
            continue
        outcomes[name] = {number: one(name, number, world) for number in ROWS}
    for name, found in outcomes.items():
        passed = sum(bool(ok) for ok, _ in found.values())
        rows.record(45, "-", f"{name}: {passed} of {len(ROWS)} rows " + " ".join(f"{number}:{'yes' if ok else 'no' if ok is False else '-'}"
                                                                               for number, (ok, _) in found.items()))
        for number, (ok, text) in found.items():
            figure(f"{name:22} row {number:2} {rows.TITLES[number]:40} {'passed' if ok else 'FAILED' if ok is False else 'not run'}: {text}")
    assert all(ok for ok, _ in outcomes["nsproxy"].values()), outcomes["nsproxy"]


if LONG:        # not collected otherwise
    test_side_by_side = side_by_side
