# SPDX-License-Identifier: ISC
"""SIGUSR2: the programs are replaced while they run, by others that are really others, or not at all."""

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess

import pytest

from conftest import LONG, PRIVATE, PUBLIC
from support import ctl, netns, peers, proc, reloads, waits
from support.reloads import ask, listening, refused, reload

MS_BIND = 0x1000
PROGRAMS = ("sbin/nsproxy", "libexec/nsproxy/nsproxy-worker", "libexec/nsproxy/nsproxy-reporter")
_libc = ctypes.CDLL(None, use_errno=True)


class Package:
    """An installation of its own in the place of the tested one, for one daemon only; put() installs other programs over it as a package manager would."""

    def __init__(self, install, directory):
        self.install, self.directory = install, os.path.join(directory, "prefix")
        for name in PROGRAMS:
            os.makedirs(os.path.dirname(self.path(name)), exist_ok=True)
            shutil.copy(os.path.join(install.prefix, name), self.path(name))

    def path(self, name):
        return os.path.join(self.directory, name)

    def preexec_fn(self):
        """In the child, before exec: the copy is mounted over the real one."""
        if _libc.unshare(netns.CLONE_NEWNS) != 0 or \
                _libc.mount(self.directory.encode(), self.install.prefix.encode(), None, ctypes.c_ulong(MS_BIND), None) != 0:
            raise OSError(ctypes.get_errno(), "mount")

    def version(self):
        with open(self.path(PROGRAMS[0]), "rb") as file:
            data = file.read()
        at = data.index(b"upgraded to ") + len(b"upgraded to ")
        return data[at:data.index(b"\0", at)]

    def put(self, change=lambda data: data, names=PROGRAMS):
        """New files under the old names, the running ones are deleted."""
        for name in names:
            with open(self.path(name), "rb") as file:
                data = change(file.read())
            with open(self.path(name) + ".new", "wb") as file:
                file.write(data)
            os.chmod(self.path(name) + ".new", 0o755)
            os.rename(self.path(name) + ".new", self.path(name))

    def put_version(self, n):
        """Programs that say another version."""
        old = self.version()
        new = b"9.9.%d" % (n % 10) if len(old) == 5 else old[:-1] + b"%d" % (n % 10)
        self.put(lambda data: data.replace(old, new))
        return new.decode()


@pytest.fixture
def package(world):
    made = Package(world.install, world.directory)
    try:
        netns_works = os.fork()
        if netns_works == 0:
            made.preexec_fn()
            os._exit(0)
        assert os.waitpid(netns_works, 0)[1] == 0
    except AssertionError:
        pytest.skip("a directory cannot be mounted over the installation here")
    return made


def start(world, package, target, *options):
    text = reloads.text({"web": {"listen": world.public(world.pub.free_port(PUBLIC)), "connect": world.private(target)}}, "workers = 2")
    proxy = world.proxy("-f", world.config(text), *options, preexec_fn=package.preexec_fn)
    proxy.check_workers = proxy.check_descriptors = proxy.check_memory = False
    return proxy


def images(pids):
    """Inodes of the programs; a process that has just ended has none."""
    found = set()
    for pid in pids:
        with contextlib.suppress(OSError):
            found.add(os.stat(f"/proc/{pid}/exe").st_ino)
    return found


def test_other_programs(world, package, engine):
    """Everybody is of the new version, but who still has connections of before; these go on, and so do listener, pid and counters."""
    proxy = start(world, package, world.serve(peers.echo).port, "-e", engine)
    client = world.connect(proxy)
    ask(client)
    sockets, before, parent = listening(world.pub), images(proxy.pids()), proxy.pid
    version = package.put_version(1)
    assert reload(proxy, signal.SIGUSR2, r"upgraded to (\S+):")[1] == version
    waits.until(lambda: len(proxy.workers()) == 3 and len(proxy.children("nsproxy-reporter")) == 1, "two new workers, and the old one that is busy")
    assert listening(world.pub) == sockets and proxy.pid == parent
    old = [pid for pid in proxy.pids() if images([pid]) <= before]
    assert len(old) == 1 and old[0] in proxy.first_workers
    ask(client)
    with peers.connect(world.pub, PUBLIC, proxy.port) as new:
        ask(new)
    client.close()
    waits.until(lambda: not images(proxy.pids()) & before, "the old worker ends with its last connection")
    assert len(proxy.wait_access(2, end="closed-by-client")) == 2


def test_without_a_file(world, package):
    """-l and -c: the same arguments again, and the port that the kernel chose stays."""
    server = world.serve(peers.echo)
    proxy = world.proxy("-w", "1", "-l", world.public(), "-c", world.private(server.port), preexec_fn=package.preexec_fn)
    proxy.check_workers = False
    sockets = listening(world.pub)
    package.put_version(2)
    reload(proxy, signal.SIGUSR2)
    assert listening(world.pub) == sockets
    ask(world.connect(proxy))


def test_same_programs(world, package):
    """Nothing to replace: then nobody is."""
    proxy = start(world, package, world.serve(peers.echo).port)
    client = world.connect(proxy)
    ask(client)
    reload(proxy, signal.SIGUSR2)
    assert proxy.workers() == proxy.first_workers
    ask(client)


def test_reload_goes_on_with_the_running_programs(world, package):
    """Others are installed, or none at all: a reload does not mix versions, also for workers that it starts."""
    server = world.serve(peers.echo)
    proxy = start(world, package, server.port)
    before = images(proxy.pids())
    package.put_version(3)
    for name in PROGRAMS[1:]:
        os.unlink(package.path(name))
    world.config(reloads.text({"more": {"listen": world.public(), "connect": world.private(server.port)}}, "workers = 2"))
    reload(proxy)
    waits.until(lambda: not set(proxy.workers()) & set(proxy.first_workers), "other workers")
    assert images(proxy.pids()) == before
    os.kill(proxy.workers()[0], signal.SIGKILL)
    proxy.expect_log("killed by signal 9")
    waits.until(lambda: len(proxy.workers()) == 2 and images(proxy.pids()) == before, "a new worker, of the same program")


def test_asked_for_by_nsproxyctl(world, package, short_path):
    """As by the signal; the command ends with what came of it, and whoever answers it is told to go while it waits."""
    control = ctl.Control(world.install, f"{short_path}/control.sock")
    if not control.present():
        pytest.skip(f"nsproxyctl is not installed ({control.program}): this build was configured with --disable-nsproxyctl")
    proxy = start(world, package, world.serve(peers.echo).port, "-s", control.path)
    client = world.connect(proxy)
    ask(client)
    before = images(proxy.pids())
    version = package.put_version(4)
    assert control.ask("upgrade") == {"done": True, "text": "upgraded"}
    assert proxy.wait_log(r"upgraded to (\S+):")[1] == version
    proxy.wait_log(rf"upgrade; asked for by uid {os.getuid()} \(process \d+\)")
    status = control.ask("status")
    assert (status["upgrades"], status["reloads"]) == (1, 0)
    assert not images([proxy.pid, proxy.reporter()]) & before
    ask(client)
    os.unlink(package.path(PROGRAMS[1]))
    proxy.expect_log(r"program", r"^upgrade[: ]")
    refusal = control.run("upgrade")
    assert refusal.returncode == 1 and "nsproxy-worker" in refusal.stderr
    os.unlink(package.path(PROGRAMS[0]))
    lines = len(proxy.lines)
    assert "there is no program at" in control.run("upgrade").stderr
    proxy.wait_log("upgrade refused, ", after=lines)
    asked, said = [line.text for line in proxy.lines[lines:] if line.text.startswith("upgrade")]
    assert asked.startswith("upgrade; asked for by uid ") and said.startswith("upgrade refused, nothing was changed: ")
    assert control.ask("status")["upgrades"] == 1
    ask(client)


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_metrics_listener(world, package, short_path, kind):
    """It stays open, the reporter that answers is the new one, and counters go on; also over one more, from the image that was handed it."""
    if "libmicrohttpd" not in subprocess.run([world.install.nsproxy, "-V"], capture_output=True, text=True, check=True).stdout:
        pytest.skip("this build has no metrics listener")
    path = f"{short_path}/metrics"
    address = f"unix:{path}" if kind == "unix" else world.public()
    services = {"web": {"listen": world.public(), "connect": world.private(world.serve(peers.echo).port)}}
    proxy = world.proxy("-f", world.config(reloads.text(services, f'workers = 2\nmetrics = "{address}"')), preexec_fn=package.preexec_fn)
    proxy.check_workers = proxy.check_descriptors = proxy.check_memory = False
    where = proxy.wait_log(r"metrics: listening on (\S+)")[1]

    def page():
        at = ["--unix-socket", path, "http://localhost/metrics"] if kind == "unix" else [f"http://{where.partition('@')[2]}/metrics"]
        done = world.pub.run(["curl", "-sS", "-m", "20", *at], capture_output=True, text=True, timeout=30)
        return done.stdout if done.returncode == 0 else done.stderr

    def same():
        return os.stat(path).st_ino if kind == "unix" else listening(world.pub)
    before = same()
    for n in (1, 2):
        ask(world.connect(proxy))
        package.put_version(4 + n)
        former = proxy.reporter()
        reload(proxy, signal.SIGUSR2)
        waits.until(lambda f=former: proxy.children("nsproxy-reporter") not in ([], [f]) and len(proxy.children("nsproxy-reporter")) == 1, "the new reporter alone")
        assert same() == before
        for counter, value in (('nsproxy_upgrades_total{result="good"}', n), ('nsproxy_connections_total{service="web"}', n)):
            waits.until(lambda c=counter, v=value: f"\n{c} {v}\n" in page(), lambda c=counter, v=value: f"{c} {v} in {page()}")


@pytest.mark.parametrize("damage", ["worker-missing", "worker-broken", "reporter-missing", "not-executable", "no-program", "other-state"])
def test_refused(world, package, damage):
    """A package that is damaged, or that does not understand the state of this one, changes nothing."""
    proxy = start(world, package, world.serve(peers.echo).port)
    proxy.expect_log("program")
    client = world.connect(proxy)
    ask(client)
    before = images(proxy.pids())
    good = {name: open(package.path(name), "rb").read() for name in PROGRAMS}
    if damage == "worker-missing":
        os.unlink(package.path(PROGRAMS[1]))
    elif damage == "worker-broken":
        package.put(lambda data: data[:4000], PROGRAMS[1:2])
    elif damage == "reporter-missing":
        os.unlink(package.path(PROGRAMS[2]))
    elif damage == "not-executable":
        os.chmod(package.path(PROGRAMS[0]), 0o644)
    elif damage == "no-program":
        os.unlink(package.path(PROGRAMS[0]))
    else:
        magic = b"nsp stat"         # how a state begins
        assert magic in good[PROGRAMS[0]]
        package.put(lambda data: data.replace(magic, b"nsp otha"), PROGRAMS[:1])
    said = refused(proxy, signal.SIGUSR2)
    if damage == "other-state":
        assert "cannot go on from the state of the nsproxy before" in said
    assert images(proxy.pids()) == before and proxy.workers() == proxy.first_workers
    ask(client)
    ask(world.connect(proxy))
    for name, data in good.items():
        with open(package.path(name) + ".new", "wb") as file:
            file.write(data)
        os.chmod(package.path(name) + ".new", 0o755)
        os.rename(package.path(name) + ".new", package.path(name))
    reload(proxy, signal.SIGUSR2)
    ask(client)


def test_under_load(world, package, figure):
    """Reloads, some of which change something, and upgrades, under new connections and long ones: nobody is refused, cut or misses a byte."""
    reload_count, upgrades, rate, streams = (200, 20, 2000, 500) if LONG else (20, 2, 300, 50)
    echo = world.keep(reloads.Echo(world.priv.listener(PRIVATE)))
    port = world.pub.free_port(PUBLIC)

    def configure(n):
        keys = {"listen": world.public(port), "connect": world.private(echo.port), "idle_timeout": f'"{10 + n}min"', "access_log": '"none"'}
        world.config(reloads.text({"web": keys, **({"more": {**keys, "listen": world.public(more)}} if n % 2 else {})}, "workers = 2"))
    more = world.pub.free_port(PUBLIC)
    proxy = start(world, package, echo.port)
    configure(0)
    reload(proxy)
    rss, sockets = proc.rss(proxy.pid), listening(world.pub)
    inode = next(inode for at, inode in sockets.items() if at.endswith(f":{port:04X}"))
    load = world.keep(reloads.Load(world.pub, PUBLIC, port, rate, streams, block=16384))
    began = 0
    for n in range(1, reload_count + 1):
        if n % 4 == 0:
            configure(n // 4)
        began = reload(proxy)
        if n % (reload_count // upgrades) == 0:
            package.put_version(n // (reload_count // upgrades))
            reload(proxy, signal.SIGUSR2)
    assert began
    result = load.stop()
    waits.until(lambda: len(proxy.workers()) == 2, "the old ones end")
    reload(proxy)           # without places for the old ones
    grown = proc.rss(proxy.pid) - rss
    filters = int(proc.status(proxy.pid).get("Seccomp_filters", "1"))
    assert not result["wrong"] and not result["left"], result
    assert next(inode for at, inode in listening(world.pub).items() if at.endswith(f":{port:04X}")) == inode
    assert grown < 1 << 20
    figure(f"{reload_count} reloads, {reload_count // 4} of which change something, and {upgrades} upgrades, under {result['per_second']} new connections a second and {streams} "
           f"long ones: {result['served']} new connections, {result['rounds']} rounds, {result['bytes'] >> 20} MiB compared; refused, reset, lost: 0; longest answer "
           f"{result['longest_ms']['new']:.0f} ms (new), {result['longest_ms']['long']:.0f} ms (long); memory of the parent {grown >> 10:+} KiB, {filters} filter")
