# SPDX-License-Identifier: ISC
"""nsproxyctl top on a real terminal, against a daemon with traffic, against none, and against one that lies."""

import os
import re
import signal
import subprocess
import threading
import time

import pytest

from conftest import PRIVATE, PUBLIC
from support import ctl as control_socket
from support import peers, terminal, waits

HELPERS = os.environ.get("NSPROXY_HELPERS") or os.path.join(os.environ.get("builddir", "."), "tests", "helpers")
COLOUR = re.compile(rb"\x1b\[[0-9;]*\b[34][0-9]\b[0-9;]*m")
CLEAR = re.compile(rb"\x1b\[[0-3]?J")


@pytest.fixture
def ctl(install):
    return os.path.join(install.prefix, "sbin", "nsproxyctl")


@pytest.fixture
def screens(ctl, short_path):
    """screens(PATH, ...) starts top on a new terminal; PATH left out is that of `daemon`."""
    made = []

    def start(path=None, **options):
        made.append(terminal.Terminal([ctl, "-s", path or f"{short_path}/control", "top"], **options))
        return made[-1]
    yield start
    for each in made:
        each.close()


class Trickle:
    """A client that goes on sending, at an even pace, and a target that reads."""

    def __init__(self, sock, each=1 << 16, pause=0.01):
        self._stop = threading.Event()
        self.sock = sock
        self._each, self._pause = b"x" * each, pause
        self._thread = threading.Thread(target=self._send, daemon=True)
        self._thread.start()

    def _send(self):
        try:
            while not self._stop.wait(self._pause):
                self.sock.sendall(self._each)
        except OSError:
            pass

    def close(self):
        self._stop.set()
        self._thread.join(5)


def read_patiently(sock):
    """A target that never leaves first, however long a test takes on a busy machine."""
    sock.settimeout(None)
    peers.sink(sock)


def start(world, path, names=("web", "mail"), **more):
    """A daemon with a service of each name, all to targets that read, and its control socket at path."""
    text = ""
    for name in names:
        server = world.serve(read_patiently)
        text += f'service {name} {{\n    listen = {{"{world.public()}"}}\n    connect = {{"{world.private(server.port)}"}}\n}}\n'
    return world.proxy("-w", "2", "-s", path, "-f", world.config(text), **more)


@pytest.fixture
def daemon(world, short_path):
    return start(world, f"{short_path}/control")


def client(world, daemon, name):
    return world.keep(peers.connect(world.pub, PUBLIC, daemon.addresses(name)[0][2]))


def row(screen, begin):
    """The words of the row that begins so."""
    return screen.wait(rf"^ *{begin}\b.*$")[0].split()


def test_shows_what_is_going_on(world, daemon, screens):
    sock = client(world, daemon, "web")
    world.keep(Trickle(sock))
    client(world, daemon, "mail")
    screen = screens()
    screen.wait(rf"^nsproxy \S+  pid {daemon.pid}  up 00:00:\d\d")
    screen.wait(r"^connections 2 open .*services 2  workers 2")
    screen.wait(r"^traffic  up +[1-9][0-9.]*[kM]/s  down +0/s")
    # SERVICE STATE OPEN NEW/s FAIL/s UP/s DOWN/s TRAFFIC
    screen.wait(r"^web +serving +1 +0 +0 +[1-9][0-9.]*[kM] +0 +\S")
    screen.wait(r"^mail +serving +1 +0 +0 +0 +0$")
    for pid in daemon.workers():
        screen.wait(rf"^ *\d +{pid} +{world.priv.name[:8]}\S* +serving +[012] ")
    lines = screen.lines()
    busy = next(number for number, line in enumerate(lines) if f":{sock.getsockname()[1]}" in line)
    assert lines[busy - 1].startswith("SERVICE"), "the busiest connection is the first"
    assert re.search(rf"^mail +{PUBLIC}:\d+ +{PRIVATE}:\d+ ", screen.text(), re.M), "every connection has its names"
    assert len(lines) == 24 and all(len(line) <= 80 for line in lines)


def test_views_and_order(world, daemon, screens):
    for name in ("web", "web", "mail"):
        client(world, daemon, name)
    screen = screens()
    screen.wait(r"^connections 3 open")
    screen.wait(r"^view: all   connections by TRAFFIC$")
    for key, view in (("2", "services"), ("3", "workers"), ("4", "connections"), ("1", "all"), ("\t", "services"), ("\t", "workers")):
        screen.type(key)
        screen.wait(rf"^view: {view} ")
    screen.type("2")
    screen.wait(r"^web .*\n(.*\n)?mail|^mail .*\n(.*\n)?web")
    assert "WORKER" not in screen.text()
    screen.type("s")                            # round the edge, to the first column
    screen.wait(r"services by SERVICE$")
    screen.wait(r"^mail .*\nweb ")
    screen.type("r")
    screen.wait(r"services by SERVICE reversed$")
    screen.wait(r"^web .*\nmail ")
    screen.type("rsss")
    screen.wait(r"services by NEW/s$|services by OPEN$")
    screen.type("S")
    screen.wait(r"services by STATE$|services by OPEN$")


def test_filter(world, daemon, screens):
    socks = [client(world, daemon, name) for name in ("web", "web", "mail")]
    ports = [sock.getsockname()[1] for sock in socks]
    screen = screens()
    screen.wait(rf":{ports[0]}\b")
    screen.type("/")
    screen.wait(r"^filter \(")
    screen.type(f":{ports[1]}")
    screen.wait_gone(rf":{ports[0]}\b")
    screen.wait(rf"^web .*:{ports[1]}\b")
    screen.type("9\x7f\r")                      # a slip of the finger
    screen.wait(rf"filter: :{ports[1]}$")
    screen.wait(r"^q quit")
    screen.type("/q")                           # typed, not obeyed
    screen.wait(rf"^filter .*:{ports[1]}q_$")
    screen.type("\x1b")
    screen.wait(rf":{ports[2]}\b")
    assert screen.process.poll() is None


def test_pause_and_help(world, daemon, screens):
    screen = screens()
    screen.wait(r"^connections 0 open")
    screen.type("p")
    screen.wait(r"PAUSED$")
    client(world, daemon, "web")
    waits.stays(lambda: (screen.read(0.01), "connections 0 open" in screen.text())[1], 1.5, "the figures while paused")
    screen.type(" ")
    screen.wait(r"^connections 1 open")
    screen.type("h")
    for key in ("quit", "sort", "filter", "Space", "Tab", "PgUp"):
        screen.wait(key)
    screen.type("h")
    screen.wait_gone("this help")
    before = float(screen.wait(r"every ([0-9.]+) s")[1])
    screen.type("-")
    screen.wait(rf"every {before * 2:.1f} s")


def test_quits_and_leaves_the_terminal_as_it_was(daemon, screens):
    for end in ("q", "\x03", signal.SIGTERM, signal.SIGHUP):
        screen = screens()
        before = screen.modes
        screen.wait(r"^connections ")
        if isinstance(end, str):
            screen.type(end)
        else:
            screen.process.send_signal(end)
        assert screen.wait_exit() == 0
        assert screen.modes_now()[:4] == before[:4]


def test_ends_with_its_terminal(daemon, screens):
    screen = screens()
    screen.wait(r"^connections ")
    screen.hang_up()
    waits.until(lambda: screen.process.poll() is not None, "the end of top after its terminal")


def test_any_size(world, daemon, screens):
    for _ in range(30):
        client(world, daemon, "web")
    screen = screens()
    screen.wait(r"^connections 30 open")
    screen.wait(r"^  and \d+ more|^web .*\n.*web ")
    for rows, columns in ((50, 160), (24, 80), (6, 30), (2, 5), (1, 1), (30, 200), (24, 80)):
        screen.resize(rows, columns)
        if rows >= 24:
            screen.wait(rf"^connections 30 open")
            screen.wait(r"^q quit")
            waits.until(lambda: (screen.read(0.02), len([line for line in screen.lines() if re.search(rf"{PUBLIC}:\d", line)]) >= min(30, rows - 16))[1],
                        lambda: f"connections for {rows} rows:\n{screen.text()}")
        if columns >= 160:
            cut = "~?" if columns < 200 else ""         # long names, where the table may not grow any more
            screen.wait(rf"{world.pub.name}@{PUBLIC}:\d+ +{world.priv.name}@{PRIVATE}:\d+{cut} +open\b")
        assert screen.process.poll() is None
    screen.type("4")
    screen.wait(r"^view: connections")
    first = screen.lines()[5]
    screen.type("\x1b[6~")
    waits.until(lambda: (screen.read(0.02), screen.lines()[5] != first)[1], "another first row after Page Down")


@pytest.mark.parametrize("kind, utf8", [("vt100", False), ("linux", False), ("linux", True), ("xterm", True)])
def test_terminals(world, daemon, screens, kind, utf8):
    """Whatever it is called; nothing but ASCII where the locale knows no more, no colours where there are none."""
    world.keep(Trickle(client(world, daemon, "web")))
    screen = screens(kind=kind, utf8=utf8)
    screen.wait(r"^web +serving +1 .*[1-9][0-9.]*[kM] +0 +\S")
    screen.type("q")
    assert screen.wait_exit() == 0
    assert bool([byte for byte in screen.raw if byte >= 0x80]) == utf8
    assert bool(COLOUR.search(screen.raw)) == (kind != "vt100")


def test_no_colour_when_asked(daemon, screens):
    screen = screens(env={"NO_COLOR": "1"})
    screen.wait(r"^connections ")
    screen.type("q")
    assert screen.wait_exit() == 0 and not COLOUR.search(screen.raw)


def test_does_not_flicker(world, daemon, screens):
    """Once drawn, only what changes is drawn: never an empty screen in between."""
    world.keep(Trickle(client(world, daemon, "web")))
    screen = screens()
    screen.wait(r"^web +serving +1 .*[kM] ")
    drawn = len(screen.raw)
    started = time.monotonic()
    clock = screen.wait(r"\d\d:\d\d:\d\d$")[0]
    for _ in range(4):
        seen = clock
        waits.until(lambda: (screen.read(0.05), seen not in screen.text())[1], "the next second")
        clock = screen.wait(r"\d\d:\d\d:\d\d$")[0]
    frames = bytes(screen.raw[drawn:])
    assert not CLEAR.search(frames)
    assert len(frames) / (time.monotonic() - started) < 80 * 24 * 2, "a second costs less than two screens"


def test_finds_the_daemon_again(world, daemon, screens, short_path):
    screen = screens()
    screen.wait(rf"^nsproxy \S+  pid {daemon.pid} ")
    daemon.expect_log("reporter")
    daemon.check_descriptors = False
    reporter = daemon.reporter()
    os.kill(reporter, signal.SIGKILL)
    waits.until(lambda: daemon.children("nsproxy-reporter") not in ([], [reporter]), "another reporter")
    client(world, daemon, "web")
    screen.wait(r"^connections 1 open")
    screen.wait_gone("trying again")
    world.close()
    world.proxies.clear()
    screen.wait(r"^OLD FIGURES: .*trying again$")
    screen.wait(r"^web ")
    again = start(world, f"{short_path}/control", names=("other",))
    screen.wait(rf"^nsproxy \S+  pid {again.pid} ")
    screen.wait(r"^other +serving")
    screen.wait_gone("OLD FIGURES")
    assert not re.search("^web ", screen.text(), re.M)


def test_without_a_daemon(screens):
    screen = screens()
    assert screen.wait_exit() == 7
    assert "not running" in screen.text()


def test_without_a_terminal(ctl, daemon, short_path):
    result = subprocess.run([ctl, "-s", f"{short_path}/control", "top"], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30, check=False)
    assert result.returncode == 1 and "terminal" in result.stderr and result.stdout == ""


def test_a_terminal_nobody_knows(daemon, screens):
    screen = screens(kind="no-such-terminal")
    assert screen.wait_exit() == 1
    assert "no-such-terminal" in screen.text()


@pytest.fixture
def liar(short_path):
    """liar(HOW): a control socket that lies; its path."""
    made = []

    def lie(how):
        path = f"{short_path}/liar"
        made.append(subprocess.Popen([os.path.join(HELPERS, "evil_control"), path, how], stdout=subprocess.PIPE, text=True))
        assert made[-1].stdout.readline() == "ready\n"
        return path
    yield lie
    for process in made:
        process.kill()
        process.wait()
        process.stdout.close()


def test_what_a_terminal_obeys_is_not_passed_on(liar, screens):
    screen = screens(liar("lies"), columns=200, rows=40)
    screen.wait(r"^connections 18446744073709551615 open")
    for key in "1234h1":
        screen.type(key)
        screen.read(0.3)
    screen.wait(r"\?\[2J\?\]0;owned\?\?\[31mEVIL")
    screen.type("q")
    assert screen.wait_exit() == 0
    assert b"\x1b]0;owned" not in screen.raw and b"\x07" not in screen.raw and b"\x1b[31mEVIL" not in screen.raw


def test_a_daemon_that_takes_no_connections(screens, short_path):
    """Its queue has room for top alone, then for nobody: the keys are heard all the same."""
    with control_socket.FullQueue(f"{short_path}/full", room=1) as queue:
        screen = screens(queue.path, columns=160)
        screen.wait("^nsproxy")
        queue.fill()
        screen.wait(r"cannot connect to \S+/full: nsproxy does not answer.*trying again")
        started = time.monotonic()
        screen.type("q")
        assert screen.wait_exit() == 0
        assert time.monotonic() - started < 5


@pytest.mark.parametrize("how, says", [("hang-up", "hung up"), ("garbage", "makes no sense"), ("refuse", r"EVIL"), ("silent", "does not answer")])
def test_a_daemon_that_makes_no_sense(liar, screens, how, says):
    screen = screens(liar(how), columns=160)
    screen.wait(rf"{says}.*trying again")
    started = time.monotonic()
    screen.type("q")
    assert screen.wait_exit() == 0
    assert time.monotonic() - started < 5, "a daemon that is stuck does not keep top"
