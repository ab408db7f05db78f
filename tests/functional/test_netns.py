# SPDX-License-Identifier: ISC
"""A namespace that is deleted, made anew under the same name, or not there yet: what is new goes to the new one, what goes on may finish."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time

import pytest

from conftest import LONG, PRIVATE, PUBLIC
from support import ctl, netns, peers, proc, rows, waits

GONE, ANEW, SERVED, OPEN = "is gone", "was made anew", "clients are served in", "are open again"
CLIENTS = 4
AFTER = 2000 if LONG else 200       # connections that are counted after the change
LOW_PORT = 81


@pytest.fixture
def private(namespaces_work):
    made = netns.Place("again", [f"{PRIVATE}/32"])
    yield made
    made.remove()


@pytest.fixture
def public(namespaces_work):
    made = netns.Place("front", [f"{PUBLIC}/32"])
    yield made
    made.remove()


def says(text):
    return lambda sock: (sock.sendall(text.encode()), peers.drain(sock))


def ask(namespace, port, host=PUBLIC):
    """What a new client hears: the target's text, "" at an end without a word, "reset", "refused"."""
    try:
        with peers.connect(namespace, host, port, timeout=10) as sock:
            return sock.recv(100).decode()
    except ConnectionResetError:
        return "reset"
    except ConnectionRefusedError:
        return "refused"


def follow(world, private, port, *options, top="", public=None, keys=""):
    """A daemon in front of a namespace that changes."""
    text = f'{top}\nservice web {{\n listen = {{"{public or world.public()}"}}\n connect = {{"{private.name}@{PRIVATE}:{port}"}}\n{keys}}}\n'
    proxy = world.proxy(*options, "-f", world.config(text))
    proxy.check_workers = False
    proxy.expect_log(GONE, "is missing", "still is missing", "cannot connect to .* unreachable|refused")      # at first it has no address, no target
    return proxy


def served(private, text, port=0):
    return peers.Server(private.listener(PRIVATE, port), says(text))


class Load:
    """Clients that come one after the other, each at a new connection; what they heard, in order."""

    def __init__(self, namespace, port):
        self.heard = []
        self._over = threading.Event()
        self._threads = [peers.Background(self._run, namespace, port) for _ in range(CLIENTS)]

    def _run(self, namespace, port):
        while not self._over.is_set():
            began = time.monotonic()
            self.heard.append((ask(namespace, port), time.monotonic(), began))

    def first(self, text, after=0):
        return waits.until(lambda: next((when for what, when, _ in self.heard[after:] if what == text), None), f"a client that hears {text!r}")

    def stop(self):
        self._over.set()
        for thread in self._threads:
            thread.result()


def test_private_made_anew_under_load(world, private, figure):
    """None reaches the old namespace any more once the first has reached the new one."""
    old = world.keep(served(private, "old"))
    proxy = follow(world, private, old.port, "-w", "2")
    load = Load(world.pub, proxy.port)
    try:
        load.first("old")
        private.delete()
        load.first("reset")
        private.make()
        new = world.keep(served(private, "new", old.port))
        began = time.monotonic()
        seconds = load.first("new") - began
        accepted, known = old.accepted, time.monotonic()
        waits.until(lambda: len([1 for _, _, when in list(load.heard) if when > known]) > AFTER, "clients after the change")
    finally:
        load.stop()
    later = [what for what, _, when in load.heard if when > known]
    assert old.accepted == accepted, "connections to the old namespace after the change"
    assert set(later) == {"new"}, f"after the change: { {what: later.count(what) for what in set(later)} }"
    assert set(what for what, _, _ in load.heard) == {"old", "reset", "new"}
    assert new.accepted >= AFTER and seconds < 10
    waits.until(lambda: len(proxy.workers()) == 2, "the end of the old workers")
    assert {proc.netns(pid) for pid in proxy.workers()} == {private.inode()}
    for pattern, count in ((GONE, 1), (ANEW, 1), (SERVED, 1)):
        assert len(re.findall(pattern, proxy.log())) == count, proxy.log()
    resets = sum(what == "reset" for what, _, _ in load.heard)
    figure(f"served in the new one after {seconds * 1000:.0f} ms; {AFTER} connections after that, 0 to the old one; {resets} reset while it was missing")
    rows.record(8, "-", f"{seconds * 1000:.0f} ms to the first success, 0 of {len(later)} connections to the old namespace after the change")


def test_established_connection_goes_on(world, private, engine):
    """Through the change, in the old namespace, until it ends by itself; then its worker ends, without a word."""
    old = world.keep(peers.Server(private.listener(PRIVATE)))
    proxy = follow(world, private, old.port, "-e", engine, "-w", "2")
    before = proxy.workers()
    client, target = world.pair(proxy, old)
    private.delete()
    private.make()
    world.keep(served(private, "new", old.port))
    proxy.wait_log(SERVED)
    assert ask(world.pub, proxy.port) == "new"
    sending = peers.Background(peers.send_pattern, client, 8 << 20)
    assert peers.drain(target, 8 << 20)[1] == peers.digest(8 << 20)
    sending.result()
    target.sendall(b"still here")
    assert peers.receive_exactly(client, 10) == b"still here"
    assert [pid for pid in before if proc.alive(pid)], "the worker of a connection that lives has ended"
    client.close()
    assert peers.drain(target)[2] == "eof"
    target.close()
    waits.until(lambda: not any(proc.alive(pid) for pid in before), "the end of the old workers")
    assert len(proxy.workers()) == 2
    assert proxy.wait_access(1, end="closed-by-client")[0]["engine"]


def test_old_connections_end_with_the_drain_timeout(world, private):
    old = world.keep(peers.Server(private.listener(PRIVATE)))
    proxy = follow(world, private, old.port, "-w", "1", top='drain-timeout = "1s"')
    before = proxy.workers()
    client, target = world.pair(proxy, old)
    private.delete()
    private.make()
    proxy.wait_log(SERVED)
    assert peers.drain(client)[2] == peers.RESET and peers.drain(target)[2] == peers.RESET
    proxy.wait_access(1, end="drained")
    waits.until(lambda: not any(proc.alive(pid) for pid in before), "the end of the old worker")


def test_made_anew_twice(world, private):
    """Workers of two namespaces ago make room for those of the present one."""
    def held():
        server = world.keep(peers.Server(private.listener(PRIVATE, port)))
        return *world.pair(proxy, server), server
    server = world.keep(peers.Server(private.listener(PRIVATE)))
    port = server.port
    proxy = follow(world, private, port, "-w", "1")
    proxy.expect_log("worker")
    first, first_target = world.pair(proxy, server)
    private.delete()
    private.make()
    proxy.wait_log(SERVED)
    second, second_target, _ = held()
    seen = len(proxy.lines)
    private.delete()
    private.make()
    world.keep(served(private, "third", port))
    assert peers.drain(first)[2] == peers.RESET and peers.drain(first_target)[2] == peers.RESET
    proxy.wait_log(SERVED, after=seen)
    assert ask(world.pub, proxy.port) == "third"
    second.sendall(b"x")
    assert second_target.recv(1) == b"x"
    proxy.wait_access(1, end="worker-lost")
    second.close()
    second_target.close()
    waits.until(lambda: len(proxy.workers()) == 1, "one worker")


def test_a_new_worker_that_dies_is_replaced_in_the_new_namespace(world, private):
    server = world.keep(served(private, "old"))
    proxy = follow(world, private, server.port, "-w", "1")
    private.delete()
    private.make()
    world.keep(served(private, "new", server.port))
    proxy.wait_log(SERVED)
    victim = waits.until(lambda: [pid for pid in proxy.workers() if pid not in proxy.first_workers], "a new worker")[0]
    proxy.expect_log("worker")
    os.kill(victim, signal.SIGKILL)
    waits.until(lambda: not proc.alive(victim), "its end")
    assert ask(world.pub, proxy.port) == "new"


def test_missing_while_running(world, private, figure):
    """Clients are reset, what goes on goes on, and the log says it once."""
    server = world.keep(peers.Server(private.listener(PRIVATE)))
    proxy = follow(world, private, server.port, "-w", "1")
    client, target = world.pair(proxy, server)
    private.delete()
    proxy.wait_log(GONE)
    began = time.monotonic()
    heard = [ask(world.pub, proxy.port) for _ in range(500)]
    waits.stays(lambda: not re.search("still is missing", proxy.log()), 3.5, "a line for clients that were reset")
    seconds = time.monotonic() - began
    assert set(heard) == {"reset"} and server.accepted == 1
    said = [line.text for line in proxy.lines if line.level is not None and line.level <= 4]
    assert len(said) == 1 and GONE in said[0], said
    client.sendall(b"x")
    assert target.recv(1) == b"x"
    private.make()
    world.keep(served(private, "back", server.port))
    proxy.wait_log(SERVED)
    assert "500 clients were reset" in proxy.log()
    assert ask(world.pub, proxy.port) == "back"
    client.close()
    target.close()
    waits.until(lambda: len(proxy.workers()) == 1, "the end of the old worker")
    figure(f"{len(said)} line in {seconds:.1f} s with 500 clients reset")
    rows.record(9, "-", f"{60 * len(said) / seconds:.0f} lines a minute while missing ({len(said)} in all), 500 of 500 clients reset")


def test_the_same_comes_back(world, private):
    """The mount goes and the same namespace is mounted again: nothing was lost, nobody is replaced."""
    server = world.keep(served(private, "same"))
    proxy = follow(world, private, server.port, "-w", "1")
    with private.inside():
        keeper = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
    try:
        private.delete()
        proxy.wait_log(GONE)
        assert ask(world.pub, proxy.port) == "reset"
        subprocess.run(["ip", "netns", "attach", private.name, str(keeper.pid)], check=True)
        proxy.wait_log("the same as before")
        assert ask(world.pub, proxy.port) == "same"
        assert proxy.workers() == proxy.first_workers
    finally:
        keeper.communicate(timeout=10)


@pytest.mark.parametrize("where", ["top", "service"])
def test_private_awaited_at_start(world, install, private, where):
    private.delete()
    wait = "wait-for-netns = true\n"
    port = 8000
    proxy = follow(world, private, port, "-w", "2", **({"top": wait} if where == "top" else {"keys": wait}))
    assert proxy.n_workers == 0 and not proxy.workers()
    proxy.check_descriptors = False     # those of the workers come later
    assert "waiting for it: web" in proxy.wait_log("is missing.*").string
    assert install.run("-t", "-f", proxy.options[-1], *install.user_options(), "-s", "").returncode == 0
    assert [ask(world.pub, proxy.port) for _ in range(20)] == ["reset"] * 20
    private.make()
    world.keep(served(private, "here", port))
    proxy.wait_log(SERVED)
    assert ask(world.pub, proxy.port) == "here"
    waits.until(lambda: len(proxy.workers()) == 2, "both workers")
    assert {proc.netns(pid) for pid in proxy.workers()} == {private.inode()}


def test_not_awaited_is_an_error(world, install, private):
    private.delete()
    line = install.run(*install.user_options(), "-s", "", "-l", world.public(), "-c", f"{private.name}@{PRIVATE}:80")
    assert line.returncode == 4 and private.name in line.stderr
    text = f'service a {{ listen = {{"{world.public()}"}} connect = {{"{private.name}@{PRIVATE}:80"}} wait-for-netns = true }}\n' \
           f'service b {{ listen = {{"{world.public()}"}} connect = {{"{private.name}@{PRIVATE}:81"}} }}\n'
    assert install.run(*install.user_options(), "-s", "", "-f", world.config(text)).returncode == 4, "b does not wait"
    private.make()


def test_public_awaited_at_start(world, public):
    public.delete()
    server = world.serve(says("hello"))
    proxy = follow(world, world.priv, server.port, "-w", "1", top="wait-for-netns = true", public=f"{public.name}@{PUBLIC}:{LOW_PORT}")
    assert proxy.addresses() == []
    public.make()
    proxy.wait_log("listening on")
    assert proxy.addresses() == [(public.name, PUBLIC, LOW_PORT)]
    assert ask(public, LOW_PORT) == "hello"
    proxy.check_descriptors = False     # a listener more than at the start


def test_port_chosen_later(world, public, short_path):
    """The kernel chooses the port when the namespace comes: access log and nsproxyctl name that, not 0; also those of another reporter."""
    control = ctl.Control(world.install, f"{short_path}/control.sock")
    public.delete()
    server = world.serve(says("hello"))
    proxy = follow(world, world.priv, server.port, "-w", "1", "-s", control.path, top="wait-for-netns = true", public=f"{public.name}@{PUBLIC}:0")
    public.make()
    port = int(proxy.wait_log(rf"listening on {public.name}@{PUBLIC}:([1-9]\d*)$")[1])
    where = f"{public.name}@{PUBLIC}:{port}"

    def used(times):
        assert ask(public, port) == "hello"
        assert [row["listener"] for row in proxy.wait_access(times)] == [where] * times
        if control.present():
            waits.until(lambda: control.ask("services")[0]["listeners"] == [where], "the listener in nsproxyctl")
    former = proxy.reporter()
    used(1)
    assert not proxy.alarms() and proxy.reporter() == former, "the reporter that got the new name is another one"
    proxy.expect_log(rf"^the reporter \(process {former}\) ended: killed by signal 9")
    os.kill(former, signal.SIGKILL)
    waits.until(lambda: proxy.children("nsproxy-reporter") not in ([], [former]), "another reporter")
    used(2)
    proxy.kill(signal.SIGHUP)
    proxy.wait_log("reloaded")
    used(3)
    proxy.check_descriptors = False


def test_public_made_anew(world, public):
    """Also a port below 1024; what goes on in the old one goes on."""
    server = world.serve(peers.echo)
    proxy = follow(world, world.priv, server.port, "-w", "1", public=f"{public.name}@{PUBLIC}:{LOW_PORT}")
    with peers.connect(public, PUBLIC, LOW_PORT) as client:
        client.sendall(b"a")
        assert client.recv(1) == b"a"
        public.delete()
        public.make()
        proxy.wait_log(OPEN)
        for _ in range(20):
            with peers.connect(public, PUBLIC, LOW_PORT) as other:
                other.sendall(b"hello")
                assert peers.receive_exactly(other, 5) == b"hello"
        client.sendall(b"b")
        assert client.recv(1) == b"b"
    assert proxy.workers() == proxy.first_workers


def test_public_made_anew_keeps_its_port(world, public):
    """One that the kernel chose, and a range."""
    server = world.serve(says("hello"))
    text = f'service a {{ listen = {{"{public.name}@{PUBLIC}:0", "{public.name}@{PUBLIC}:7000-7003"}} connect = {{"{world.private(server.port)}"}} }}\n'
    proxy = world.proxy("-w", "1", "-f", world.config(text))
    proxy.expect_log(GONE)
    ports = [port for _, _, port in proxy.addresses()]
    public.delete()
    public.make()
    proxy.wait_log(OPEN)
    assert len(ports) == 5 and [ask(public, port) for port in ports] == ["hello"] * 5


def test_public_without_its_address_for_a_while(world, public):
    """One warning however long it takes; then the listener is there within a second or so."""
    server = world.serve(says("hello"))
    proxy = follow(world, world.priv, server.port, "-w", "1", public=f"{public.name}@{PUBLIC}:{LOW_PORT}")
    proxy.expect_log("tried until it works")
    public.delete()
    public.make(addresses=False)
    proxy.wait_log("tried until it works")
    waits.stays(lambda: len(re.findall("tried until it works", proxy.log())) == 1, 3, "more than one warning")
    public.set_up()
    proxy.wait_log(OPEN)
    assert ask(public, LOW_PORT) == "hello"


def test_address_missing_where_there_is_none_at_all(world, install, public):
    """bind() takes any IPv4 address in a namespace that has none."""
    public.delete()
    public.make(addresses=False)
    result = install.run(*install.user_options(), "-s", "", "-l", f"{public.name}@{PUBLIC}:8080", "-c", world.private(80))
    assert result.returncode == 1 and "Cannot assign requested address" in result.stderr


MOVER = """
import ctypes, os, sys
print("ready", flush=True)
for line in sys.stdin:
    assert ctypes.CDLL(None).setns(os.open(line.strip(), os.O_RDONLY), 0x40000000) == 0
    print("moved", flush=True)
"""


@contextlib.contextmanager
def mover(namespace):
    """A process in the namespace that goes to another one on demand."""
    with namespace.popen([sys.executable, "-c", MOVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        yield process
        process.kill()


@pytest.mark.parametrize("style", ["pid", "path"])
def test_namespace_of_a_process(world, private, style):
    """It moves to another one: so do we. It ends: clients are reset."""
    server = world.serve(says("first"))
    world.keep(served(private, "second", server.port))
    with mover(world.priv) as process:
        name = f"pid:{process.pid}" if style == "pid" else f"/proc/{process.pid}/ns/net"
        proxy = world.proxy("-w", "1", "-l", world.public(), "-c", f"{name}@{PRIVATE}:{server.port}")
        proxy.check_workers = False
        proxy.expect_log(GONE)
        assert ask(world.pub, proxy.port) == "first"
        process.stdin.write(private.path + "\n")
        process.stdin.flush()
        assert process.stdout.readline() == "moved\n"
        proxy.wait_log(SERVED)
        assert ask(world.pub, proxy.port) == "second"
    proxy.wait_log(GONE)
    assert ask(world.pub, proxy.port) == "reset"


def test_worker_dies_while_there_is_no_reporter(world):
    """What it lost gets its access lines from the next reporter."""
    server = world.serve()
    proxy = world.relay(server, workers=2)
    proxy.check_workers = False
    proxy.expect_log("worker", "reporter", "lost")
    clients = [world.pair(proxy, server)[0] for _ in range(4)]
    victims = [*proxy.workers(), proxy.reporter()]
    os.kill(proxy.pid, signal.SIGSTOP)
    try:
        waits.until(lambda: proc.status(proxy.pid)["State"].startswith("T"), "the parent to stop")
        for pid in victims:
            os.kill(pid, signal.SIGKILL)
        waits.until(lambda: all(proc.status(pid)["State"].startswith("Z") for pid in victims), "their ends")
    finally:
        os.kill(proxy.pid, signal.SIGCONT)
    for client in clients:
        assert peers.drain(client)[2] == peers.RESET
    assert len(proxy.wait_access(4, end="worker-lost")) == 4


def test_worker_dies_while_a_reporter_is_waited_for(world):
    """One that keeps dying is started again later; the worker's end is told to the one that serves at last, once."""
    server = world.serve()
    proxy = world.relay(server, workers=1)
    proxy.check_workers = False
    proxy.expect_log("worker", "reporter", "lost")
    for _ in range(4):
        world.pair(proxy, server)
    for killed in range(1, 5):      # from the second on it is waited for: 100, 200, 400 ms
        os.kill(waits.until(lambda: proxy.children("nsproxy-reporter"), "a reporter")[0], signal.SIGKILL)
        waits.until(lambda: len(re.findall("the reporter .* ended", proxy.log())) == killed, "its end")
    worker = proxy.workers()[0]
    os.kill(worker, signal.SIGKILL)
    waits.until(lambda: not proc.alive(worker), "its end")
    assert not proxy.children("nsproxy-reporter")
    records = proxy.wait_access(4, end="worker-lost")
    assert len(records) == 4 and len({record["client"] for record in records}) == 4
