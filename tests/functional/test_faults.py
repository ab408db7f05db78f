# SPDX-License-Identifier: ISC
"""
Faults of the table in README that no other file provokes: links, both ends at once, descriptors of a worker, channels, logs, layers of the
sandbox.
"""

import contextlib
import ctypes
import errno
import hashlib
import os
import random
import re
import resource
import select
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from conftest import LONG, PUBLIC
from support import daemon, peers, proc, rows, waits
from support.link import FAR

BOTH_ENDS = 10000 if LONG else 100
MANY = 1000 if LONG else 100
DRAIN = 10 if LONG else 3       # seconds
AT_ONCE = 2000 if LONG else 150
ROUNDS = 5 if LONG else 1
HELD = 250 if LONG else 50       # so few that the worker is not stopped for long
HELD_ROUNDS = 40 if LONG else 1
SECONDS = 60.0 if LONG else 1.5
OUTAGE = 30.0 if LONG else 0.4
NOBODY = 65534
NAME = 60               # letters of a service's name
BURST = 4500            # ends whose lines are more than the reporter holds
STALLED = 3000
WAITING = 3000          # a thousand are on their way to a worker at most
TIMES_AWAY = 20 if LONG else 2


def served(sock, text=b"ping"):
    """Whether an echo came; a reset is False, an orderly end or a wrong byte is a failure."""
    try:
        sock.sendall(text)
        answer = peers.receive_exactly(sock, len(text))
    except (ConnectionResetError, BrokenPipeError):
        return False
    assert answer == text, "an end that was none, or other bytes"
    return True


def serves(world, proxy):
    """Is a new client served now?"""
    try:
        with peers.connect(world.pub, PUBLIC, proxy.port) as client:
            return served(client)
    except ConnectionError:
        return False


# -- links and peers that vanish --

@pytest.mark.parametrize("end", ["near", "far"])
def test_link_down_and_up(link, world, end):
    """New clients are reset meanwhile; an established connection waits and loses nothing; nobody has to help."""
    server = world.serve(lambda sock: (sock.settimeout(None), peers.echo(sock)), FAR, link.far)
    proxy = link.relay(world, server, connect_timeout='"300ms"')
    proxy.expect_log("unreachable|timed out|timeout|No route to host")
    client = world.connect(proxy)
    assert served(client)
    link.set(end, "down")
    client.sendall(b"meanwhile")
    cut, failed = time.monotonic(), 0
    while time.monotonic() - cut < OUTAGE or failed == 0:
        peers.expect_reset(world.pub, PUBLIC, proxy.port)
        failed += 1
        assert not waits.readable(client, 0.05)
    started = time.monotonic()
    link.set(end, "up")
    waits.until(lambda: serves(world, proxy), "a new client to be served")
    recovery = time.monotonic() - started
    client.settimeout(OUTAGE * 2 + peers.PATIENCE)      # its segment is sent again less and less often
    assert peers.receive_exactly(client, 9) == b"meanwhile", "an established connection was lost"
    assert {record["end"] for record in proxy.access() if record["up"] == "0"} <= {"connect-timeout", "connect-unreachable", "client-reset"}
    rows.record(10, "-", f"{end} end down: {failed} of {failed} clients reset, new ones served {recovery * 1000:.0f} ms after it is up again")


@pytest.mark.parametrize("data", ["queued", "zero window"])
def test_silent_peer_with_user_timeout(link, world, data):
    """A target that vanishes with data under way, and one that lives and does not read: user-timeout cuts both."""
    server = world.serve(host=FAR, namespace=link.far)
    proxy = link.relay(world, server, user_timeout='"500ms"')
    proxy.expect_log("failed at its target")
    client, target = world.pair(proxy, server)
    client.sendall(b"hello")
    assert peers.receive_exactly(target, 5) == b"hello"
    started = time.monotonic()
    if data == "queued":
        link.set("far", "down")
        client.sendall(b"lost")
        assert peers.drain(client)[2] == peers.RESET
    else:
        sending = peers.Background(peers.send_pattern, client, 1 << 30)
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            sending.result()
    seconds = time.monotonic() - started
    assert not proxy.wait_access()[0]["end"].startswith("closed-by")
    rows.record(25, "-", f"{'vanished' if data == 'queued' else 'living, zero window'}, user-timeout 500 ms: reset after {seconds * 1000:.0f} ms")


def test_living_peer_with_zero_window_stays(world, engine):
    """Without user-timeout it is only idle-timeout that ends it."""
    server = world.serve()
    proxy = world.relay(server, engine, idle_timeout='"1500ms"')
    client, _target = world.pair(proxy, server)
    client.settimeout(0.2)
    sent = 0
    with contextlib.suppress(TimeoutError):
        while True:
            sent += client.send(peers.BLOCK)
    started = time.monotonic()
    client.settimeout(peers.PATIENCE)
    assert peers.drain(client)[2] == peers.RESET
    record = proxy.wait_access()[0]
    assert record["end"] == "idle-timeout" and float(record["duration_ms"]) >= 1500
    rows.record(25, engine, f"living, zero window: {sent >> 10} KiB taken, cut by idle-timeout 1500 ms after {(time.monotonic() - started) * 1000:.0f} ms")


# -- bytes --

def test_both_ends_close_at_once(world, engine):
    """Both send and end in the same moment, over and over, with more or less data."""
    server = world.serve()
    proxy = world.relay(server, engine)
    chance, correct = random.Random(16), 0
    for turn in range(BOTH_ENDS):
        client, target = world.pair(proxy, server)
        up, down = (chance.choice([0, 1, 1000, chance.randrange(60000)]) for _ in range(2))
        for sock, size in ((client, up), (target, down)):
            peers.send_pattern(sock, size, turn)
        order = [client, target] if turn % 2 else [target, client]
        for sock in order:
            sock.shutdown(socket.SHUT_WR)
        assert peers.drain(target) == (up, peers.digest(up, turn), "eof")
        assert peers.drain(client) == (down, peers.digest(down, turn), "eof")
        correct += up + down
        client.close()
        target.close()
    assert {record["end"] for record in proxy.wait_access(BOTH_ENDS)} <= {"closed-by-client", "closed-by-target"}
    rows.record(16, engine, f"both at once: {BOTH_ENDS} connections, {correct} of {correct} bytes")


@pytest.mark.parametrize("held", [False, True])
def test_data_at_once_after_the_handshake(world, engine, held):
    """Many connections at a time, each with 1 to 64 KiB before the worker knows of it; for certain when the worker is stopped meanwhile."""
    server = world.serve(peers.sink)
    proxy = world.relay(server, engine)
    chance, volume = random.Random(20), 0
    if held and LONG:
        proxy.expect_log(r"has not answered for \d+ seconds$")       # nor can it
    count, times = (HELD, HELD_ROUNDS) if held else (AT_ONCE, ROUNDS)
    for _ in range(times):
        sizes = [1, 65536, *(chance.randrange(1, 65537) for _ in range(count - 2))]
        clients = []
        with proc.stopped(proxy.workers()[0]) if held else contextlib.nullcontext():
            for turn, size in enumerate(sizes):
                client = peers.connect(world.pub, PUBLIC, proxy.port)
                peers.send_pattern(client, size, turn)
                client.shutdown(socket.SHUT_WR)
                clients.append(client)
        for turn, client in enumerate(clients):
            assert peers.receive_exactly(client, 65).decode() == peers.digest(sizes[turn], turn)
            client.close()
        volume += sum(sizes)
    rows.record(20, engine, f"{count * times} connections, {volume} bytes{' while the worker is stopped' if held else ''}: 0 bytes lost or reordered")


def talk(sock, seed, until):
    """Sends random sizes with random pauses: (bytes, SHA-256)."""
    chance, sha, total, pause = random.Random(seed), hashlib.sha256(), 0, threading.Event()
    while time.monotonic() < until:
        size = chance.choice([1, 50, 1460, chance.randrange(20000), chance.randrange(300000)])
        begin = chance.randrange(len(peers.BLOCK) - size)
        part = memoryview(peers.BLOCK)[begin:begin + size]
        sock.sendall(part)
        sha.update(part)
        total += size
        if chance.random() < 0.5:
            pause.wait(chance.random() * 0.005)         # what is tested, not a wait for anything
    sock.shutdown(socket.SHUT_WR)
    return total, sha.hexdigest()


def test_random_sizes_and_pauses(world, engine):
    server = world.serve()
    proxy = world.relay(server, engine)
    until, work, volume = time.monotonic() + SECONDS, [], 0
    for number in range(4):
        client, target = world.pair(proxy, server)
        for sender, receiver, seed in ((client, target, 2 * number), (target, client, 2 * number + 1)):
            work.append((peers.Background(talk, sender, seed, until), peers.Background(peers.drain, receiver)))
    for sending, reading in work:
        total, sha = sending.result(SECONDS + 40)
        assert reading.result(SECONDS + 40) == (total, sha, "eof")
        volume += total
    rows.record(22, engine, f"{volume / 2**30:.2f} GiB of random sizes with random pauses both ways: 0 mismatches in {len(work)} streams")


# -- resets --

@pytest.mark.parametrize("side", ["client", "target"])
@pytest.mark.parametrize("whose", ["peer's", "relay's"])
def test_socket_destroyed(world, engine, side, whose):
    """`ss -K` in either namespace, of the peer's socket or of the relay's own: whoever is left sees a reset."""
    server = world.serve()
    proxy = world.relay(server, engine)
    proxy.expect_log(f"failed at its {side}: Software caused connection abort")
    client, target = world.pair(proxy, server)
    client.sendall(b"hello")
    assert peers.receive_exactly(target, 5) == b"hello"
    space, sock, other = (world.pub, client, target) if side == "client" else (world.priv, target, client)
    own, remote = sock.getsockname()[1], sock.getpeername()[1]
    if whose == "relay's":
        own, remote = remote, own
    started = time.monotonic()
    killed = space.run(["ss", "-K", "-t", "-n", "-H", f"sport = :{own} and dport = :{remote}"], capture_output=True, text=True)
    if not killed.stdout.strip():
        pytest.skip(f"sockets cannot be destroyed here (INET_DIAG_DESTROY, CAP_NET_ADMIN): {killed.stderr}")
    total, _, how = peers.drain(other)
    seconds = time.monotonic() - started
    assert (total, how) == (0, peers.RESET)
    if whose == "relay's":
        assert peers.drain(sock)[2] == peers.RESET
    assert not proxy.wait_access()[0]["end"].startswith("closed-by")
    rows.record(18, engine, f"ss -K of the {whose} socket, {side}'s side: the other sees a reset, {seconds * 1000:.0f} ms with the start of ss")


# -- the end of the daemon --

def test_term_with_many_connections(world, engine):
    """Those that end in time end in order; the rest is reset when the time is over."""
    server = world.serve(peers.echo)
    proxy = world.relay(server, engine, workers=2, top=f'drain-timeout = "{DRAIN}s"')
    proxy.expect_log("")
    clients = [world.connect(proxy) for _ in range(MANY)]
    assert all(served(client) for client in clients)
    started = time.monotonic()
    proxy.kill(signal.SIGTERM)
    proxy.wait_log("stopping")
    for client in clients[::2]:
        assert served(client, b"last words")
        client.shutdown(socket.SHUT_WR)
        assert client.recv(1) == b""
    for client in clients[1::2]:
        assert peers.drain(client)[2] == peers.RESET
    seconds = time.monotonic() - started
    assert proxy.wait_exit() == 0
    ends = [record["end"] for record in proxy.access()]
    assert (ends.count("closed-by-client"), ends.count("drained")) == (MANY // 2, MANY // 2)
    rows.record(5, engine, f"{MANY // 2} of {MANY} connections finish, {MANY // 2} reset; drain-timeout {DRAIN} s, over after {seconds:.1f} s")


# -- descriptors and channels --

def limit_worker(install, pid, most):
    """Sets the soft limit of a worker from a process with the worker's ids, since nobody else may."""
    ids = {} if install.one_id else {"user": NOBODY, "group": NOBODY, "extra_groups": []}
    code = ("import resource, sys; pid, most = map(int, sys.argv[1:]); _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE); "
            "resource.prlimit(pid, resource.RLIMIT_NOFILE, (min(most, hard), hard))")
    subprocess.run([sys.executable, "-c", code, str(pid), str(most)], check=True, **ids)


def newcomer(world, proxy):
    """A new client that was served, or None when it was reset."""
    try:
        client = world.connect(proxy)
    except ConnectionResetError:
        return None
    return client if served(client) else None


def test_worker_without_descriptors(world, engine):
    """What the worker cannot hold is reset and said, never left without an answer; then all is as before."""
    server = world.serve(peers.echo)
    proxy = world.relay(server, engine)
    proxy.expect_log("limit of open files|Too many open files")
    worker = proxy.workers()[0]
    living = [newcomer(world, proxy) for _ in range(3)]
    limit_worker(world.install, worker, max(proc.descriptors(worker)) + 1 + 6)
    kept = list(filter(None, (newcomer(world, proxy) for _ in range(20))))
    assert all(served(client) for client in living), "an established connection suffered"
    assert 0 < len(kept) < 20, f"{len(kept)} were served: this shows nothing"
    living.pop().close()            # makes room for one
    waits.until(lambda: serves(world, proxy), "a client in the place of one that left")
    limit_worker(world.install, worker, 1 << 30)
    later = [newcomer(world, proxy) for _ in range(20)]
    assert all(later)
    said = len([line for line in proxy.lines if "open files" in line.text])
    rows.record(27, engine, f"{len(kept)} of 20 served, {20 - len(kept)} reset ({said} lines), established ones untouched; 20 of 20 with descriptors again")


@pytest.fixture
def tiny_buffers(pub, priv):
    keys = ("net/ipv4/tcp_rmem", "net/ipv4/tcp_wmem")
    before = [(space, key, space.sysctl(key)) for space in (pub, priv) for key in keys]
    for space, key, _ in before:
        space.sysctl(key, "4096 32768 32768")
    yield
    for space, key, value in before:
        space.sysctl(key, value)


class Flow:
    """One direction of a connection, moved without ever waiting."""

    def __init__(self, sender, receiver, size, seed):
        self.sender, self.receiver, self.rest = sender, receiver, memoryview(b"".join(peers.pattern(size, seed)))
        self.expected, self.sha, self.got, self.size = peers.digest(size, seed), hashlib.sha256(), 0, size

    def send(self):
        with contextlib.suppress(BlockingIOError):
            sent = self.sender.send(self.rest)
            self.rest = self.rest[sent:]
            return sent
        return 0

    def receive(self):
        with contextlib.suppress(BlockingIOError):
            part = self.receiver.recv(1 << 18)
            self.sha.update(part)
            self.got += len(part)
            return len(part)
        return 0


def test_more_streams_than_pipes(world, engine, tiny_buffers):
    """Receivers asleep hold whatever pipes there are; the other streams do without. None fails, none loses a byte."""
    size = 300000
    server = world.serve()
    proxy = world.relay(server, engine)
    pipes = proxy.baseline[proxy.workers()[0]]["pipe"] // 2
    flows = []
    for number in range(max(40, pipes)):
        client, target = world.pair(proxy, server)
        client.setblocking(False)
        target.setblocking(False)
        flows += [Flow(client, target, size, number), Flow(target, client, size, number + 7)]
    with contextlib.suppress(waits.Timeout):
        while True:
            waits.until(lambda: sum(flow.send() for flow in flows if flow.rest), "a sender that is not held back", 0.2)
    held = len([flow for flow in flows if flow.rest])
    waits.until(lambda: not sum(flow.send() + flow.receive() if flow.rest else flow.receive() for flow in flows) and all(f.got == size for f in flows),
                lambda: f"all bytes; {len([flow for flow in flows if flow.got < size])} of {len(flows)} streams are not complete")
    assert all(flow.sha.hexdigest() == flow.expected for flow in flows)
    rows.record(23, engine, f"{pipes} pipes, {len(flows)} streams at once of which {held} held back: 0 failed, {len(flows) * size >> 20} MiB arrived")


@pytest.mark.parametrize("files", [1024, None])
def test_channel_of_a_worker_stalls(world, files):
    """One worker of two does not read: the parent goes on, the other one serves, and who was sent to the first is served as soon as it reads."""
    count = 300
    server = world.serve(peers.echo)
    limit = {"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))} if files else {}
    proxy = world.relay(server, workers=2, popen=limit)
    proxy.expect_log("has not answered|max-connections|limit of|descriptor")
    with proc.stopped(proxy.workers()[0]):
        cpu, started = proc.cpu_seconds(proxy.pid), time.monotonic()
        clients = [world.connect(proxy) for _ in range(count)]
        for client in clients:
            client.sendall(b"ping")
        waits.until(lambda: select.select(clients, [], [], 0)[0], "somebody to be served by the other worker")
        asked, lines = time.monotonic(), len(proxy.lines)
        proxy.kill(signal.SIGUSR1)
        proxy.wait_log("(?i)reopen|opened again", after=lines)
        loop = time.monotonic() - asked
        waits.stays(proxy.alive, 0.5, "it lives")
        cpu = 100 * (proc.cpu_seconds(proxy.pid) - cpu) / (time.monotonic() - started)
        meanwhile = sum(waits.readable(client, 0) for client in clients)
    for client in clients:
        assert peers.receive_exactly(client, 4) == b"ping", "a client was lost"
        client.close()
    proxy.wait_access(count)
    rows.record(46 if files else 33, "-", f"0 of {count} clients lost, {meanwhile} served meanwhile; the parent answers a signal after {loop * 1000:.1f} ms "
                f"and uses {cpu:.0f} % of a processor")


def test_more_clients_than_a_worker_is_sent(world):
    """Far more than may be on their way to a worker that was away: the rest waits in the backlog, and none is left there when it is back."""
    server = world.serve(lambda sock: sock.sendall(b"hello"))
    proxy = world.relay(server)
    proxy.expect_log("has not answered")
    port = proxy.port
    for _ in range(TIMES_AWAY):
        with proc.stopped(proxy.first_workers[0]):
            clients = [peers.connect(world.pub, PUBLIC, port) for _ in range(WAITING)]
        for client in clients:
            assert peers.receive_exactly(client, 6) == b"hello", "a client was lost"
            client.close()
    rows.record(33, "-", f"{TIMES_AWAY} times {WAITING} clients while the worker is stopped: all served when it is back")


# -- logs --

def long_service(world, server, *more):
    """The name makes each line of the access log long, so that fewer fill what is to be filled."""
    return world.config(f'service {"n" * NAME} {{\n listen = {{"{world.public()}"}}\n connect = {{"{world.private(server.port)}"}}\n'
                        + "".join(f" {line}\n" for line in more) + "}\n")


def burst(world, port, count):
    """Connections that end at once, each with a line in the access log."""
    for _ in range(count):
        with contextlib.suppress(ConnectionResetError):
            peers.reset(peers.connect(world.pub, PUBLIC, port))


def round_trips(world, port, count=200):
    """99th percentile of round trips of one connection, in seconds."""
    times = []
    with peers.connect(world.pub, PUBLIC, port) as client:
        for _ in range(count):
            started = time.monotonic()
            assert served(client, b"x")
            times.append(time.monotonic() - started)
    return sorted(times)[count * 99 // 100]


def wait_at_rest(pid):
    """It has read all that there is for it, and sleeps."""
    def at_rest():
        before = proc.wakeups(pid)
        waits.stays(lambda: proc.alive(pid), 0.2, "it lives")
        return proc.stat(pid)[0] == "S" and proc.wakeups(pid) == before
    waits.until(at_rest, "a process to come to rest")


def read_lines(path):
    with contextlib.suppress(FileNotFoundError), open(path, encoding="utf-8") as file:
        return file.read().split("\n")[:-1]
    return []


def wait_reported(total, lines):
    """Every connection is accounted for: by its line, or in a count of lost ones. The number of those lost."""
    def lost():
        return sum(int(match[1]) for match in (re.search(r"(\d+) (?:log lines|records or log lines) were lost", line) for line in lines()) if match)

    def written():
        return sum(" end=" in line for line in lines())
    waits.until(lambda: written() + lost() >= total, lambda: f"{total} connections in the log: {written()} lines, {lost()} lost", 30)
    return lost()


def test_access_log_on_a_full_disk(world):
    """Relaying goes on; with room again the rest is written, and what was lost is said."""
    directory = os.path.join(world.directory, "disk")
    os.mkdir(directory)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m,mode=0777", "none", directory], check=True)
    try:
        path, filler = os.path.join(directory, "access.log"), os.path.join(directory, "filler")
        server = world.serve(peers.echo)
        proxy = world.proxy("-w", "1", "-f", long_service(world, server, f'access-log = "file:{path}"'))
        proxy.expect_log("lines were lost")
        with open(filler, "wb") as file:
            file.write(bytes(3872 << 10))
        before = round_trips(world, proxy.port)
        burst(world, proxy.port, BURST)
        wait_at_rest(proxy.reporter())
        with pytest.raises(OSError), open(os.path.join(directory, "more"), "wb", 0) as file:
            while True:
                file.write(bytes(4096))
        after = round_trips(world, proxy.port)
        os.unlink(filler)
        lost = wait_reported(BURST + 2, lambda: read_lines(path) + [line.text for line in proxy.lines])
        assert lost > 0, "nothing was lost: this shows nothing"
        assert all(daemon.parse_access(line) for line in read_lines(path)), "a line is not whole"
        rows.record(40, "-", f"full disk: {BURST + 2} connections, {lost} lines lost and said, "
                    f"p99 of round trips {before * 1e6:.0f} and then {after * 1e6:.0f} us")
        world.close()
    finally:
        subprocess.run(["umount", "-l", directory], check=True)


def test_reader_of_the_log_is_stopped(world):
    """The log is a pipe that nobody reads."""
    path = os.path.join(world.directory, "lines")
    server = world.serve(peers.echo)
    with open(path, "w") as file:
        reader = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=file, pipesize=1 << 18)
    proxy = daemon.Nsproxy(world.install, [*world.install.user_options(), "-s", "", "-w", "1", "-f", long_service(world, server)], ready=False,
                           log_to=reader.stdin.fileno())
    reader.stdin.close()
    try:
        waits.until(lambda: any(daemon.READY.search(line) for line in read_lines(path)), "the ready line")
        port = daemon.split_address(next(match for match in map(daemon.LISTENING.search, read_lines(path)) if match)["address"])[2]
        before = round_trips(world, port)
        with proc.stopped(reader.pid):
            burst(world, port, BURST)
            wait_at_rest(proxy.reporter())
            after = round_trips(world, port)
        lost = wait_reported(BURST + 2, lambda: read_lines(path))
        assert lost > 0, "nothing was lost: this shows nothing"
        assert all("end=" in line for line in read_lines(path) if "service=" in line), "a line is not whole"
        proxy.kill(signal.SIGTERM)
        assert proxy.wait_exit() == 0
        rows.record(40, "-", f"reader stopped: {BURST + 2} connections, {lost} lines lost and said, "
                    f"p99 of round trips {before * 1e6:.0f} and then {after * 1e6:.0f} us")
    finally:
        proxy.destroy()
        reader.wait(10)


def test_reporter_is_stopped(world, engine):
    """Few slots, so that records must be dropped: they are counted."""
    server = world.serve(peers.echo)
    proxy = world.relay(server, engine, popen={"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (400, 400))})
    proxy.expect_log("were lost|max-connections|limit of")
    before = round_trips(world, proxy.port)
    with proc.stopped(proxy.reporter()):
        burst(world, proxy.port, STALLED)
        after = round_trips(world, proxy.port)
    lost = wait_reported(STALLED + 2, lambda: [line.text for line in proxy.lines])
    assert serves(world, proxy)
    rows.record(40, engine, f"reporter stopped: {STALLED + 2} connections, {lost} records lost and said, "
                f"p99 of round trips {before * 1e6:.0f} and then {after * 1e6:.0f} us")


# -- layers of the sandbox that a kernel may lack --

def without(call, error):
    """For a child before exec: this system call (x86-64 number) fails, here and in all that it starts."""
    class Filter(ctypes.Structure):
        _fields_ = [("code", ctypes.c_ushort), ("jt", ctypes.c_ubyte), ("jf", ctypes.c_ubyte), ("k", ctypes.c_uint)]

    class Program(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.POINTER(Filter))]
    # load the number; equal: fail with the error, else allow
    filters = (Filter * 4)(Filter(0x20, 0, 0, 0), Filter(0x15, 0, 1, call), Filter(0x06, 0, 0, 0x00050000 | error), Filter(0x06, 0, 0, 0x7fff0000))
    program = Program(4, filters)
    libc = ctypes.CDLL(None, use_errno=True)

    def preexec():
        if libc.prctl(22, 2, ctypes.byref(program), 0, 0) != 0:         # PR_SET_SECCOMP, SECCOMP_MODE_FILTER
            raise OSError(ctypes.get_errno(), "seccomp")
    return preexec


MISSING = {             # call, error, engine asked for, engine got, what is said
    "Landlock": (444, errno.ENOSYS, "adaptive", "adaptive", None),
    "Landlock, switched off": (444, errno.EOPNOTSUPP, "adaptive", "adaptive", None),
    "io_uring": (425, errno.ENOSYS, "io_uring", "adaptive", "io_uring"),
    "io_uring, switched off": (425, errno.EPERM, "io_uring", "adaptive", "io_uring"),
}


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the numbers of the calls are those of x86-64")
@pytest.mark.parametrize("layer", MISSING)
def test_kernel_without(world, layer):
    """It does without, as documented; what cannot be had is said once."""
    call, error, asked, got, says = MISSING[layer]
    server = world.serve(peers.echo)
    proxy = world.relay(server, asked, popen={"preexec_fn": without(call, error)})
    if says:
        proxy.expect_log(says)
        assert len([line for line in proxy.lines if line.level == daemon.ALARM and says in line.text]) == 1
    client = world.connect(proxy)
    assert served(client)
    assert proc.status(proxy.workers()[0])["Seccomp"] == "2"
    client.close()
    assert proxy.wait_access()[0]["engine"] == got
    rows.record(43, got, f"without {layer}: serves{', with one warning' if says else ''}")


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the numbers of the calls are those of x86-64")
def test_kernel_without_seccomp(world):
    """The one layer that must be there: it does not start."""
    result = world.install.run(*world.install.user_options(), "-s", "", "-l", world.public(), "-c", world.private(80), preexec_fn=without(317, errno.ENOSYS))
    assert result.returncode != 0 and "system call filter" in result.stderr, result.stderr
    assert not result.left
    rows.record(43, "-", f"without seccomp: does not start, exit code {result.returncode}")
