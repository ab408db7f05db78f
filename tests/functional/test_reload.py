# SPDX-License-Identifier: ISC
"""SIGHUP: the configuration is tried first, and then comes into force without a connection or a listener noticing."""

import contextlib
import os
import re
import resource
import signal
import socket
import subprocess
import time

import pytest

from conftest import LONG, PRIVATE, PUBLIC
from support import netns, peers, proc, reloads, rows, strace, waits
from support.reloads import ask, listening, refused, reload


class Config:
    """The configuration file of a daemon, written anew by set()."""

    def __init__(self, world):
        self.world = world
        self.services = {}
        self.top = "workers = 2"

    def set(self, **services):
        self.services = services
        return self.write()

    def write(self):
        return self.world.config(reloads.text(self.services, self.top))

    def start(self, *options, **popen):
        proxy = self.world.proxy("-f", self.write(), *options, **popen)
        proxy.check_workers = proxy.check_descriptors = proxy.check_memory = False
        return proxy


@pytest.fixture
def config(world):
    return Config(world)


def web(world, server, port, **keys):
    return {"listen": world.public(port), "connect": world.private(server.port if isinstance(server, peers.Server) else server), **keys}


def connect(world, port):
    return world.keep(peers.connect(world.pub, PUBLIC, port))


def replies(text):
    def handler(sock):
        while sock.recv(1 << 16):
            sock.sendall(text)
    return handler


def hears(world, port):
    with peers.connect(world.pub, PUBLIC, port) as sock:
        sock.sendall(b"?")
        return sock.recv(100)


# -- what stays --

def test_unchanged(world, engine):
    """Nobody is replaced, nothing is cut; descriptors and workers are checked at the end as ever."""
    proxy = world.relay(world.serve(peers.echo), engine, workers=2, log_empty="true")
    client = world.connect(proxy)
    ask(client)
    sockets = listening(world.pub)
    for _ in range(3):
        reload(proxy)
        assert proxy.workers() == proxy.first_workers
        ask(client)
        with peers.connect(world.pub, PUBLIC, proxy.port) as other:
            ask(other)
    assert listening(world.pub) == sockets
    assert proc.status(proxy.pid)["Name"] == "nsproxy"
    client.close()
    assert len(proxy.wait_access(4, service="relay")) == 4
    assert reloads.count("end=worker-lost", proxy) == 0


def test_filter_and_capabilities_do_not_grow(world):
    proxy = world.relay(world.serve(peers.echo), log_empty="true")
    names = ("Seccomp_filters", "CapPrm", "CapEff", "CapBnd", "CapInh", "CapAmb", "NoNewPrivs")
    before = {name: proc.status(proxy.pid)[name] for name in names}
    assert int(before["CapEff"], 16) == 0
    for _ in range(3):
        reload(proxy)
    assert {name: proc.status(proxy.pid)[name] for name in names} == before


def test_port_that_the_kernel_chose_stays(world, config):
    server = world.serve(peers.echo)
    config.set(one=web(world, server, 0), two=web(world, server, 0))
    proxy = config.start()
    ports = [port for _, _, port in proxy.addresses()]
    sockets = listening(world.pub)
    config.set(one=web(world, server, 0, idle_timeout='"5min"'), two=web(world, server, 0))
    reload(proxy)
    assert listening(world.pub) == sockets
    for port in ports:
        ask(connect(world, port))


def test_log_is_opened_anew(world, config):
    path = os.path.join(world.directory, "access.log")
    config.set(web=web(world, world.serve(peers.echo), 0, access_log=f'"file:{path}"'))
    proxy = config.start()
    client = connect(world, proxy.port)
    ask(client)
    os.rename(path, path + ".1")
    reload(proxy)
    client.close()
    waits.until(lambda: "end=closed-by-client" in open(path).read(), "the line of a connection from before, in the new file")


# -- what changes --

def test_services_come_and_go(world, config):
    """One is added, one removed, one goes elsewhere; who is connected stays where he is."""
    a, b, c = (world.serve(replies(name)) for name in (b"a", b"b", b"c"))
    ports = [world.pub.free_port(PUBLIC) for _ in range(3)]
    config.set(one=web(world, a, ports[0]), two=web(world, b, ports[1]))
    proxy = config.start()
    old = [connect(world, port) for port in ports[:2]]
    for sock, text in zip(old, (b"a", b"b")):
        sock.sendall(b"?")
        assert sock.recv(10) == text
    config.set(two=web(world, c, ports[1]), three=web(world, a, ports[2]))
    sockets = listening(world.pub)
    reload(proxy)
    assert hears(world, ports[1]) == b"c"
    assert hears(world, ports[2]) == b"a"
    with pytest.raises(ConnectionRefusedError):
        connect(world, ports[0])
    stays = f":{ports[1]:04X}"
    assert [inode for at, inode in listening(world.pub).items() if at.endswith(stays)] == [inode for at, inode in sockets.items() if at.endswith(stays)]
    for sock, text in zip(old, (b"a", b"b")):
        sock.sendall(b"?")
        assert sock.recv(10) == text, "with the settings that it was accepted with"
        sock.close()
    for name, server, count in (("one", a, 1), ("two", b, 1), ("two", c, 1), ("three", a, 1)):
        assert len(proxy.wait_access(count, service=name, target=f"172.20.0.2:{server.port}")) == count
    waits.until(lambda: len(proxy.workers()) == 2, "the old workers end with their last connection")


def test_other_pools_do_not_notice(world, config):
    """A service more in one private namespace changes nothing for the workers of another one."""
    server, other = world.serve(peers.echo), world.serve(peers.echo, namespace=world.pub, host=PUBLIC)
    ports = [world.pub.free_port(PUBLIC) for _ in range(2)]
    inner = {"listen": world.public(ports[1]), "connect": f"{world.pub.name}@{PUBLIC}:{other.port}"}
    config.set(web=web(world, server, ports[0]), inner=inner)
    proxy = config.start()

    def of(namespace):
        return [pid for pid in proxy.workers() if proc.netns(pid) == namespace.inode()]
    kept, changed = of(world.priv), of(world.pub)
    config.set(web=web(world, server, ports[0]), inner=inner, more={**inner, "listen": world.public(world.pub.free_port(PUBLIC))})
    reload(proxy)
    assert of(world.priv) == kept
    assert not set(of(world.pub)) & set(changed)


def test_number_of_workers(world, config):
    server = world.serve(peers.echo)
    config.set(web=web(world, server, world.pub.free_port(PUBLIC)))
    proxy = config.start()
    client = world.connect(proxy)
    ask(client)
    for n in (3, 1, 2):
        config.top = f"workers = {n}"
        config.write()
        assert reload(proxy, result=r"reloaded: .*ready, 1 services, (\d) workers")[1] == str(n)
        ask(client)
        ask(world.connect(proxy))


def test_engine(world, config):
    server = world.serve(peers.echo)
    port = world.pub.free_port(PUBLIC)
    config.set(web=web(world, server, port, engine='"copy"'))
    proxy = config.start()
    client = world.connect(proxy)
    ask(client)
    config.set(web=web(world, server, port, engine='"splice"'))
    reload(proxy)
    new = world.connect(proxy)
    ask(new)
    ask(client)
    new.close()
    client.close()
    assert len(proxy.wait_access(1, engine="splice")) == len(proxy.wait_access(1, engine="copy")) == 1


def test_timeout_is_that_of_the_start(world, config):
    """The new timeout holds for the new connection, the old one for the old."""
    server = world.serve(peers.echo)
    port = world.pub.free_port(PUBLIC)
    config.set(web=web(world, server, port, idle_timeout='"1h"'))
    proxy = config.start()
    old = world.connect(proxy)
    ask(old)
    config.set(web=web(world, server, port, idle_timeout='"300ms"'))
    reload(proxy)
    new = world.connect(proxy)
    ask(new)
    assert peers.drain(new)[2] == peers.RESET
    ask(old)
    assert [record["up"] for record in proxy.wait_access(1, end="idle-timeout")] == ["4"]


def test_unix_listener_stays_and_changes(world, config, short_path):
    server = world.serve(peers.echo)
    config.set(web={"listen": f"unix:{short_path}/sock", "connect": world.private(server.port), "unix_mode": '"0600"'})
    proxy = config.start()
    before = os.stat(f"{short_path}/sock")
    config.services["web"]["unix_mode"] = '"0666"'
    config.write()
    reload(proxy)
    after = os.stat(f"{short_path}/sock")
    assert (before.st_ino, before.st_mode & 0o777, after.st_mode & 0o777) == (after.st_ino, 0o600, 0o666)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(f"{short_path}/sock")
        ask(sock)
    config.set(web=web(world, server, world.pub.free_port(PUBLIC)))
    reload(proxy)
    assert not os.path.exists(f"{short_path}/sock")


def test_backlog_of_a_removed_service_is_served(world, config):
    """Who saw his connection made before the service went is served."""
    a = world.serve(peers.echo)
    ports = [world.pub.free_port(PUBLIC) for _ in range(2)]
    config.set(one=web(world, a, ports[0], max_connections="1"), two=web(world, a, ports[1]))
    proxy = config.start()
    first = connect(world, ports[0])
    ask(first)
    waiting = [connect(world, ports[0]) for _ in range(20)]     # beyond the limit: in the backlog
    for sock in waiting:
        sock.sendall(b"early")
    config.set(two=web(world, a, ports[1]))
    reload(proxy)
    for sock in waiting:
        assert peers.receive_exactly(sock, 5) == b"early"
    ask(first)


def test_names_return_with_their_numbers(world, config):
    """Services that go and come again many times: lines of the access log name the right one, however numbers are used again."""
    a = world.serve(peers.echo)
    ports = [world.pub.free_port(PUBLIC) for _ in range(4)]
    config.set(zero=web(world, a, ports[0]))
    proxy = config.start()
    held = []
    for turn in range(6):
        names = [f"s{turn}", "zero"] if turn % 2 else ["zero", f"s{turn}", f"t{turn}"]
        config.set(**{name: web(world, a, ports[i]) for i, name in enumerate(names)})
        reload(proxy)
        for i, name in enumerate(names):
            sock = connect(world, ports[i])
            ask(sock, name.encode().ljust(8) + b"x" * len(held))
            held.append((name, sock))
    for n, (name, sock) in enumerate(held):
        sock.close()
        assert [record["service"] for record in proxy.wait_access(1, up=8 + n)] == [name]
    waits.until(lambda: len(proxy.workers()) == 2, "old workers end")


# -- what is refused --

def test_bad_file_changes_nothing(world, config):
    server = world.serve(peers.echo)
    config.set(web=web(world, server, world.pub.free_port(PUBLIC)))
    proxy = config.start()
    client = world.connect(proxy)
    good = config.write()
    sockets = listening(world.pub)
    asked = 0
    for bad in ("service web {", "", "nonsense = 1\n" + reloads.text(config.services), reloads.text(config.services).replace(world.priv.name, "no-such")):
        with open(good, "w") as file:
            file.write(bad)
        said = refused(proxy)
        assert "nsproxy.conf" in said
        ask(client)
        ask(world.connect(proxy))
        asked += 1
        assert proxy.workers() == proxy.first_workers and listening(world.pub) == sockets
    os.unlink(good)
    assert "No such file" in refused(proxy)
    config.write()
    reload(proxy)
    rows.record(7, "-", f"{asked + 1} bad files, one of them missing: 0 s without service, 0 connections cut, 0 workers replaced; the good one is taken after")


def test_port_in_use(world, config):
    server = world.serve(peers.echo)
    ports = [world.pub.free_port(PUBLIC) for _ in range(2)]
    config.set(web=web(world, server, ports[0]))
    proxy = config.start()
    with world.pub.listener(PUBLIC, ports[1]):
        config.set(web=web(world, server, ports[0]), more=web(world, server, ports[1]))
        assert "Address already in use" in refused(proxy)
        ask(world.connect(proxy))
    reload(proxy)
    ask(connect(world, ports[1]))


def test_reload_while_stopping(world, config):
    config.set(web=web(world, world.serve(peers.echo), world.pub.free_port(PUBLIC)))
    proxy = config.start()
    client = world.connect(proxy)
    ask(client)
    proxy.kill(signal.SIGTERM)
    proxy.wait_log("stopping")
    proxy.kill(signal.SIGHUP)
    proxy.wait_log("not reloaded, since nsproxy stops")
    ask(client)
    client.close()
    assert proxy.wait_exit() == 0


@pytest.fixture
def silent_names(world):
    """A name server in the private namespace that never answers."""
    with world.priv.inside():
        server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind((PRIVATE, 53))
    text = f"nameserver {PRIVATE}\noptions timeout:30 attempts:5\n"
    directory = f"/etc/netns/{world.priv.name}"
    try:
        os.makedirs(directory)
    except OSError:         # an ordinary user: for every namespace, in the tests' own mount namespace
        subprocess.run(["mount", "--bind", world.config(text, "resolv.conf"), "/etc/resolv.conf"], check=True)
        yield server
        subprocess.run(["umount", "/etc/resolv.conf"], check=True)
    else:
        with open(f"{directory}/resolv.conf", "w") as file:
            file.write(text)
        yield server
        os.unlink(f"{directory}/resolv.conf")
        os.rmdir(directory)
    server.close()


def stuck(world, config, names=1):
    """A daemon whose next trial hangs: its configuration wants names that nobody tells. The daemon, its trial, and the good configuration."""
    port = world.serve(peers.echo).port
    config.set(web=web(world, port, world.pub.free_port(PUBLIC)))
    proxy = config.start()
    good = config.services
    unknown = {f"s{n}": {"listen": world.public(world.pub.free_port(PUBLIC)), "connect": f"{world.priv.name}@name{n}.test:1"} for n in range(names)}
    config.set(**good, **unknown)
    proxy.kill(signal.SIGHUP)
    trial = waits.until(lambda: reloads.trials(proxy), "a trial")[0]
    waits.until(lambda: proc.children(trial), "it asks for a name")
    return proxy, trial, good


def test_terminated_during_a_trial(world, config, silent_names):
    proxy, trial, _ = stuck(world, config)
    children = proc.children(trial)
    with peers.connect(world.pub, PUBLIC, proxy.port) as client:
        ask(client)
    proxy.kill(signal.SIGTERM)
    assert proxy.wait_exit(10) == 0
    assert not proc.alive(trial) and not [pid for pid in children if proc.alive(pid)]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_killed_trial(world, config, silent_names, number):
    """Whatever ends a trial, it is not taken for one that went well; who asked meanwhile is served afterwards."""
    proxy, trial, good = stuck(world, config)
    proxy.expect_log("^reload")
    proxy.kill(signal.SIGHUP)
    ask(world.connect(proxy))
    config.set(**good)
    os.kill(trial, number)
    proxy.wait_log(reloads.REFUSED)
    proxy.wait_log("reloaded")
    ask(world.connect(proxy))


if LONG:        # a minute
    def test_trial_that_hangs(world, config, silent_names):
        proxy, trial, _ = stuck(world, config, names=3)
        proxy.expect_log("^reload")
        proxy.wait_log("did not end within 60 seconds", timeout=90)
        waits.until(lambda: not proc.alive(trial), "the trial ends")
        ask(world.connect(proxy))


def test_exec_that_fails(world, config):
    """The trial went well, but the image cannot be executed: the old one goes on."""
    if not strace.present():
        pytest.skip("no strace")
    config.set(web=web(world, world.serve(peers.echo), world.pub.free_port(PUBLIC)))
    proxy = config.start()
    proxy.expect_log("^reload", "strace")
    client = world.connect(proxy)
    ask(client)
    tracer = subprocess.Popen(["strace", "-q", "-p", str(proxy.pid), "-o", "/dev/null", "-e", "trace=execveat", "-e", "inject=execveat:error=ENOMEM"],
                              stderr=subprocess.DEVNULL)
    try:
        waits.until(lambda: re.search("TracerPid:\t[1-9]", open(f"/proc/{proxy.pid}/status").read()), "strace")
        assert "cannot be executed: Cannot allocate memory" in refused(proxy)
    finally:
        strace.let_go(tracer, [proxy.pid])
    ask(client)
    ask(world.connect(proxy))
    assert int(proc.status(proxy.pid)["CapAmb"], 16) == int(proc.status(proxy.pid)["CapInh"], 16) == 0
    reload(proxy)
    ask(client)


def test_too_many_generations(world, config):
    """Each reload with connections that stay leaves workers behind; when there is no room for more of them the log says so."""
    server = world.serve(peers.echo)
    port = world.pub.free_port(PUBLIC)
    config.top = "workers = 1"
    config.set(web=web(world, server, port))
    proxy = config.start(preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (300, 300)))
    clients = []
    for n in range(60):
        clients.append(world.connect(proxy))
        ask(clients[-1])
        config.set(web=web(world, server, port, idle_timeout=f'"{n + 10}min"'))
        lines = len(proxy.lines)
        proxy.expect_log("^reload", "max-connections", "lowered")
        proxy.kill(signal.SIGHUP)
        how = proxy.wait_log(f"reloaded|{reloads.REFUSED}", after=lines)[0]
        if how != "reloaded":
            break
    assert how != "reloaded" and n > 3
    assert "may still finish connections" in proxy.log()
    for client in clients:
        ask(client)
    for client in clients:
        client.close()
    waits.until(lambda: len(proxy.workers()) == 1, "the old ones end")
    reload(proxy)


# -- namespaces that change meanwhile --

@pytest.fixture
def again(namespaces_work):
    made = netns.Place("again", [f"{PRIVATE}/32"])
    yield made
    made.remove()


def test_namespaces_made_anew_during_reloads(world, config, again):
    """Whatever the moment: in the end clients are served in the namespace that there is, and no old worker has any."""
    port = world.pub.free_port(PUBLIC)
    config.top += '\ndrain-timeout = "500ms"'
    config.set(web={"listen": world.public(port), "connect": f"{again.name}@{PRIVATE}:7", "wait_for_netns": "true"})
    proxy = config.start()
    proxy.expect_log("^reload", "network namespace", "cannot connect", "killed by signal 9", "were lost")    # of two namespaces before
    for turn in range(6):
        server = world.keep(peers.Server(again.listener(PRIVATE, 7), peers.echo))
        waits.until(lambda: answers(world, port), "an answer")
        client = connect(world, port)
        ask(client)
        proxy.kill(signal.SIGHUP)
        time.sleep(turn * 0.008)        # not waited for: the moment of the change
        again.delete()
        proxy.kill(signal.SIGHUP)
        again.make()
        server.close()
    world.keep(peers.Server(again.listener(PRIVATE, 7), peers.echo))
    waits.until(lambda: answers(world, port), "an answer from the last one")
    waits.until(lambda: not reloads.trials(proxy), "the last trial")
    reload(proxy)
    waits.until(lambda: [home_of(pid) for pid in proxy.workers()] == [again.inode()] * 2, "all workers in the last one")
    assert answers(world, port)


def home_of(pid):
    """Its network namespace; None when it has just ended."""
    try:
        return proc.netns(pid)
    except OSError:
        return None


def answers(world, port):
    try:
        with peers.connect(world.pub, PUBLIC, port) as sock:
            sock.sendall(b"?")
            return sock.recv(10) == b"?"
    except ConnectionError:
        return False


def test_reload_while_a_namespace_is_missing(world, config, again):
    """Services that wait for it may be reloaded; others refuse. Connections in the one that is gone go on."""
    server = world.keep(peers.Server(again.listener(PRIVATE), peers.echo))
    other = world.serve(peers.echo)
    ports = [world.pub.free_port(PUBLIC) for _ in range(2)]
    waiting = {"listen": world.public(ports[0]), "connect": f"{again.name}@{PRIVATE}:{server.port}", "wait_for_netns": "true"}
    config.set(web=waiting)
    proxy = config.start()
    proxy.expect_log("network namespace", "^reload")
    client = connect(world, ports[0])
    ask(client)
    again.delete()
    proxy.wait_log("is gone")
    config.set(web=waiting, more=web(world, other, ports[1]))
    reload(proxy)
    ask(client)
    ask(connect(world, ports[1]))
    peers.expect_reset(world.pub, PUBLIC, ports[0])
    config.services["web"]["wait_for_netns"] = "false"
    config.write()
    assert "cannot open network namespace" in refused(proxy)
    ask(client)
    again.make()
    world.keep(peers.Server(again.listener(PRIVATE, server.port), peers.echo))
    waits.until(lambda: answers(world, ports[0]), "an answer from the new one")
    ask(client)
    reload(proxy)
    ask(client)


# -- who else notices --

def test_service_manager(world, config, short_path):
    """RELOADING=1 with the time, then READY=1; also when nothing was changed (Type=notify-reload)."""
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    world.keep(manager)
    manager.bind(f"{short_path}/notify")
    os.chmod(f"{short_path}/notify", 0o777)
    manager.settimeout(peers.PATIENCE)
    heard = []

    def until(line):
        while line not in heard:
            heard.extend(manager.recv(4096).decode().splitlines())
    config.set(web=web(world, world.serve(peers.echo), world.pub.free_port(PUBLIC)))
    proxy = config.start(env={"NOTIFY_SOCKET": f"{short_path}/notify", "WATCHDOG_USEC": "400000"})
    until("READY=1")
    until("WATCHDOG=1")
    for bad in (False, True):
        heard.clear()
        before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        if bad:
            world.config("service {")
            refused(proxy)
        else:
            reload(proxy)
        until("RELOADING=1")
        stamp = next(int(line.split("=")[1]) for line in heard if line.startswith("MONOTONIC_USEC="))
        assert before <= stamp <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        assert heard.index("RELOADING=1") == 0 or "READY=1" not in heard[:heard.index("RELOADING=1")]
        until("READY=1")
        assert [line for line in heard if line.startswith("STATUS=")][-1].startswith("STATUS=serving as before" if bad else "STATUS=ready")
        heard.clear()
        until("WATCHDOG=1")
    assert not [line for line in heard if line.startswith("MAINPID")]


def test_in_the_background_with_a_pid_file(world, config):
    path = os.path.join(world.directory, "pid")
    config.set(web=web(world, world.serve(peers.echo), world.pub.free_port(PUBLIC)))
    log = os.path.join(world.directory, "log")
    options = ["-b", "-p", path, "-s", "", "-f", config.write(), *world.install.user_options()]
    with open(log, "w") as out:
        subprocess.run([world.install.nsproxy, *options], stdin=subprocess.DEVNULL, stdout=out, stderr=out, check=True, timeout=30)
    pid = int(open(path).read())
    try:
        inode = os.stat(path).st_ino
        for n in (1, 2):
            os.kill(pid, signal.SIGHUP)
            waits.until(lambda: open(log).read().count("reloaded:") == n, "a reload")
        assert (int(open(path).read()), os.stat(path).st_ino) == (pid, inode)
    finally:
        os.kill(pid, signal.SIGTERM)
        waits.until(lambda: not proc.session(pid), "the end")
    assert not os.path.exists(path)


def test_signals_are_not_lost(world, config):
    """TERM right after HUP ends the daemon, whichever image it meets."""
    for delay in (0, 0.005, 0.01, 0.015, 0.02, 0.03):
        config.set(web=web(world, world.serve(peers.echo), world.pub.free_port(PUBLIC)))
        proxy = config.start()
        proxy.kill(signal.SIGHUP)
        time.sleep(delay)       # not waited for: the moment at which TERM comes
        proxy.kill(signal.SIGTERM)
        assert proxy.wait_exit(10) == 0


def test_worker_dies_during_a_reload(world, config):
    """Its death is told to either image; it is replaced, and its connections are in the access log."""
    server = world.serve(peers.echo)
    config.set(web=web(world, server, world.pub.free_port(PUBLIC)))
    proxy = config.start()
    proxy.expect_log("ended: killed by signal 9", "connections were lost", "^reload")
    killed = []
    for n in range(6):
        waits.until(lambda: len(proxy.workers()) == 2 and not set(proxy.workers()) & set(killed), "two workers")
        client = world.connect(proxy)
        ask(client)
        lines = len(proxy.lines)
        proxy.kill(signal.SIGHUP)
        time.sleep(n * 0.006)   # not waited for: the moment of the death
        killed = proxy.workers()[:2]
        for pid in killed:
            with contextlib.suppress(ProcessLookupError):       # a new image ends workers that are not ready
                os.kill(pid, signal.SIGKILL)
        assert peers.drain(client)[2] == peers.RESET
        proxy.wait_log("reloaded|refused, nothing", after=lines)
        proxy.wait_access(n + 1, end="worker-lost")
    waits.until(lambda: len(proxy.workers()) == 2, "two workers")
    ask(world.connect(proxy))
    assert len(proxy.access(end="worker-lost")) == 6


# -- many --

def test_storm_under_load(world, config):
    """A thousand signals in ten seconds (a fifth of that every day): one reload at a time, nobody is cut or refused."""
    seconds, signals = (10, 1000) if LONG else (2, 200)
    echo = world.keep(reloads.Echo(world.priv.listener(PRIVATE)))
    config.set(web=web(world, echo.port, world.pub.free_port(PUBLIC), access_log='"none"'))
    proxy = config.start()
    load = world.keep(reloads.Load(world.pub, PUBLIC, proxy.port, rate=300, streams=20, often=10))
    reload(proxy)
    rss, most = proc.rss(proxy.pid), 0
    for _ in range(signals):
        proxy.kill(signal.SIGHUP)
        time.sleep(seconds / signals)       # the rate of the storm
        most = max(most, len(reloads.trials(proxy)))
    waits.until(lambda: not reloads.trials(proxy), "the last trial")
    waits.stays(lambda: True, 0.2, "a last one may just begin")
    waits.until(lambda: not reloads.trials(proxy), "the last trial")
    result = load.stop()
    grown, done = proc.rss(proxy.pid) - rss, reloads.count("reloaded:", proxy)
    assert not result["wrong"] and not result["left"], result
    assert most <= 1 < done <= signals + 1
    assert grown < 2 << 20
    rows.record(6, "-", f"{signals} SIGHUP in {seconds} s: {done} reloads, one at a time; {result['served']} new connections and 20 long ones with "
                        f"{result['rounds']} rounds: 0 failed; memory of the parent {grown >> 10:+} KiB")
