# SPDX-License-Identifier: ISC
"""The control socket itself: where it is, who gets in, what that lets them do, and that nothing that comes through it harms anybody."""

import array
import contextlib
import os
import pwd
import random
import signal
import socket
import stat
import struct
import subprocess

import pytest

from support import ctl, peers, proc, waits

SEED = 20261126


@pytest.fixture
def control(install, short_path):
    made = ctl.Control(install, f"{short_path}/control.sock")
    if not made.present():
        pytest.skip(f"nsproxyctl is not installed ({made.program}): this build was configured with --disable-nsproxyctl")
    return made


@pytest.fixture
def several_ids(install):
    if install.one_id:
        pytest.skip("only one id is mapped here: there is nobody else to be")


def relay(world, control, **more):
    return world.relay(world.serve(peers.echo), options=("-s", control.path), **more)


def ask(client, text=b"ping"):
    client.sendall(text)
    assert peers.receive_exactly(client, len(text)) == text


def unharmed(world, proxy, control, reporter):
    """Reporter and parent are the same processes, they answer, and connections are relayed and written down."""
    assert proxy.reporter() == reporter and proxy.alive()
    assert control.ask("status")["reporter_pid"] == reporter
    before = len(proxy.access())
    client = world.connect(proxy)
    ask(client)
    client.close()
    proxy.wait_access(before + 1)


# ---- the path -------------------------------------------------------------------------------------------------------------------------

def test_mode_group_and_end(world, control, several_ids):
    proxy = relay(world, control)
    found = os.stat(control.path)
    assert stat.S_ISSOCK(found.st_mode) and stat.S_IMODE(found.st_mode) == 0o660
    assert (found.st_uid, found.st_gid) == (0, pwd.getpwnam("nobody").pw_gid)
    proxy.kill(signal.SIGTERM)
    assert proxy.wait_exit() == 0
    assert not os.path.exists(control.path)


def test_stale_one_is_replaced(world, control):
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as stale:
        stale.bind(control.path)
    relay(world, control)
    assert control.ask("status")["services"] == 1


def test_live_one_is_an_error(world, control):
    first = relay(world, control)
    done = world.install.run(*world.install.user_options(), "-s", control.path, "-l", world.public(), "-c", world.private(9))
    assert done.returncode == 1 and f"cannot listen on the control socket {control.path}" in done.stderr and "another program listens there" in done.stderr
    assert control.ask("status")["pid"] == first.pid


def test_something_else_is_not_removed(world, control):
    with open(control.path, "w", encoding="utf-8"):
        pass
    done = world.install.run(*world.install.user_options(), "-s", control.path, "-l", world.public(), "-c", world.private(9))
    assert done.returncode == 1 and "is no socket" in done.stderr and os.path.isfile(control.path)


def test_none(world, short_path):
    world.relay(9)
    assert os.listdir(short_path) == []


def test_default_path_makes_its_directory(world, control, several_ids):
    """Where nothing is said, it is below the run-time directory; a second daemon without a path of its own says so and serves without."""
    text = subprocess.run([world.install.nsproxy, "-T", "-u", "nobody", "-l", world.public(), "-c", world.private(9)], capture_output=True, text=True,
                          check=True).stdout
    path = next(line.split('"')[1] for line in text.splitlines() if line.startswith("control = "))
    with contextlib.suppress(OSError):
        os.rmdir(os.path.dirname(path))
    if os.path.exists(path):
        pytest.skip(f"{path} is somebody's")
    server = world.serve(peers.echo)
    options = ("-l", world.public(), "-c", world.private(server.port))
    first = world.proxy(*options, control_socket=None)
    made = os.stat(os.path.dirname(path))
    assert stat.S_IMODE(made.st_mode) == 0o755 and made.st_uid == 0
    assert ctl.Control(world.install, path).ask("status")["pid"] == first.pid
    second = world.proxy(*options, control_socket=None)
    second.expect_log(r"there is no control socket for nsproxyctl, since this could not listen on .*another program listens there")
    ask(world.connect(second))
    assert ctl.Control(world.install, path).ask("status")["pid"] == first.pid


def test_kept_over_reload(world, control):
    proxy = relay(world, control, idle_timeout='"1h"')
    before = os.stat(control.path)
    assert control.ask("reload")["done"]
    after = os.stat(control.path)
    assert (before.st_ino, before.st_mode, before.st_gid) == (after.st_ino, after.st_mode, after.st_gid)
    with open(os.path.join(world.directory, "nsproxy.conf"), encoding="utf-8") as file:
        text = file.read()
    world.config("control-mode = 600\n" + text)
    assert control.ask("reload")["done"]
    assert stat.S_IMODE(os.stat(control.path).st_mode) == 0o600
    assert control.ask("status")["reloads"] == 2
    proxy.kill(signal.SIGTERM)
    assert proxy.wait_exit() == 0 and not os.path.exists(control.path)


# ---- who may --------------------------------------------------------------------------------------------------------------------------

class Somebody:
    """A uid that is not root's, alone or in the control group."""
    UID, GID = 54321, 54321

    def __init__(self, groups=()):
        self.popen = {"user": self.UID, "group": self.GID, "extra_groups": list(groups)}


GROUP = 54999           # of the socket; it needs no name


@pytest.mark.parametrize("mode, groups, asks, changes", [
    ("660", (), False, False), ("660", (GROUP,), True, True), ("640", (GROUP,), True, False), ("640", (), False, False), ("664", (), True, False),
    ("666", (), True, True), ("600", (GROUP,), False, False),
], ids=lambda value: str(value).replace(" ", ""))
def test_rights(world, control, several_ids, mode, groups, asks, changes):
    relay(world, control, top=f"control-mode = {mode}\ncontrol-group = {GROUP}\n")
    popen = Somebody(groups).popen
    status = control.run("status", **popen)
    assert (status.returncode == 0) == asks, status.stderr
    change = control.run("log-level", "info", **popen)
    assert (change.returncode == 0) == changes, change.stderr
    if asks and not changes:
        assert change.returncode == 1 and f"uid {Somebody.UID} may ask, but not change anything" in change.stderr
    if not asks:
        assert status.returncode == 1 and "Permission denied" in status.stderr
    assert control.ask("log-level", "notice")["done"]           # root may


def test_who_asked_is_in_the_log(world, control, several_ids):
    proxy = relay(world, control, top=f"control-mode = 660\ncontrol-group = {GROUP}\n")
    control.ask("drain", **Somebody((GROUP,)).popen)
    proxy.wait_log(rf"service relay is drained: .*asked for by uid {Somebody.UID} \(process \d+\)")


# ---- those that mean no good ----------------------------------------------------------------------------------------------------------

def records(dice):
    """Heads and bodies of every kind of wrong, then noise."""
    types = ctl.message_types()
    good = ctl.ask_record(types.index("ASK"), 0)
    yield b""
    yield good[:7]
    yield good[:-1]
    yield good + b"x"
    yield good[:8] + b"\xff" * (len(good) - 8)
    yield ctl.ask_record(types.index("ASK"), 0xffffffff)
    yield ctl.ask_record(types.index("ASK"), 0, count=0)
    yield ctl.ask_record(types.index("ASK"), 0, count=2)
    yield ctl.ask_record(types.index("ASK"), 0, count=65535)
    for number, _ in enumerate(types):
        yield struct.pack("=HHI", number, 1, ctl.version()) + bytes(dice.randrange(200))
    yield struct.pack("=HHI", 65535, 1, ctl.version())
    yield bytes(100000)
    for _ in range(300):
        yield dice.randbytes(dice.randrange(1, 9000))
    for _ in range(300):
        body = bytearray(good)
        for _ in range(dice.randrange(1, 6)):
            body[dice.randrange(8, len(body))] = dice.randrange(256)
        yield bytes(body)


def test_garbage(world, control):
    proxy = relay(world, control)
    proxy.expect_log(r"control socket: a client \(process \d+, uid \d+\) is cut off")
    reporter, dice = proxy.reporter(), random.Random(SEED)
    changing = {"reload", "upgrade", "drain", "resume", "kill"}
    assert changing                     # a mutated question may be a proper one: whoever may change things can, and then it does
    for record in records(dice):
        with control.socket() as sock:
            sock.settimeout(10)
            with contextlib.suppress(OSError):
                sock.send(record)
                sock.recv(9000)
    control.ask("resume")
    unharmed(world, proxy, control, reporter)


def test_descriptors_are_refused(world, control):
    """None ever gets in: the kernel says so, or the client is left alone (see reporter_control.c)."""
    proxy = relay(world, control)
    proxy.expect_log(r"it sends descriptors")
    reporter = proxy.reporter()
    before = proc.descriptor_kinds(reporter)
    with control.socket() as sock, open("/dev/null", encoding="utf-8") as file:
        sock.settimeout(1)
        try:
            sock.sendmsg([ctl.ask_record(ctl.message_types().index("ASK"), 0)],
                         [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [file.fileno()]))])
        except PermissionError:
            pass
        else:
            with pytest.raises(TimeoutError):
                sock.recv(9000)
            proxy.check_descriptors = False
            assert control.ask("status")["reporter_pid"] == reporter
            return
    waits.until(lambda: proc.descriptor_kinds(reporter) == before, "descriptors as before")
    unharmed(world, proxy, control, reporter)


def test_slow_readers(world, control):
    """Who asks and does not read holds up nobody, and is cut off in the end."""
    proxy = relay(world, control)
    proxy.expect_log(r"it does not read its answer")
    reporter = proxy.reporter()
    clients = [world.connect(proxy) for _ in range(300)]
    question = ctl.ask_record(ctl.message_types().index("ASK"), 3)
    with contextlib.ExitStack() as stack:
        slow = [stack.enter_context(control.socket()) for _ in range(20)]
        for sock in slow:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
            with contextlib.suppress(BlockingIOError):
                sock.setblocking(False)
                for _ in range(50):
                    sock.send(question)
        unharmed(world, proxy, control, reporter)
        assert len(control.ask("connections")) >= 300
    for client in clients:
        client.close()


def test_flood_of_clients(world, control):
    """More than there is room for, of somebody who is not root, leaves room for root."""
    proxy = relay(world, control, top="control-mode = 666\n") if not world.install.one_id else relay(world, control)
    reporter = proxy.reporter()
    program = ("import socket,struct,sys\nheld=[]\nfor _ in range(200):\n s=socket.socket(socket.AF_UNIX,socket.SOCK_SEQPACKET)\n"
               " s.setsockopt(socket.SOL_SOCKET,socket.SO_SNDTIMEO,struct.pack('ll',0,1000))\n"        # where the queue is full, it waits for a millisecond
               f" try:\n  s.connect({control.path!r})\n except BlockingIOError:\n  continue\n held.append(s)\n"
               "print(len(held),flush=True)\nsys.stdin.read()\n")
    popen = {} if world.install.one_id else Somebody().popen
    with subprocess.Popen(["/usr/bin/python3", "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, **popen) as flood:
        assert int(flood.stdout.readline()) > 0
        assert waits.until(lambda: control.run("status").returncode == 0, "an answer for root")
        unharmed(world, proxy, control, reporter)
        flood.stdin.close()
    unharmed(world, proxy, control, reporter)


def test_hang_up_in_the_middle(world, control):
    proxy = relay(world, control)
    reporter = proxy.reporter()
    clients = [world.connect(proxy) for _ in range(300)]
    question = ctl.ask_record(ctl.message_types().index("ASK"), 3)
    for _ in range(100):
        with control.socket() as sock:
            sock.send(question)
            sock.recv(9000)
    unharmed(world, proxy, control, reporter)
    for client in clients:
        client.close()


def test_reporter_comes_back(world, control):
    """The socket is the parent's: a new reporter serves it, and knows everything."""
    proxy = relay(world, control)
    proxy.expect_log(r"the reporter .* ended: killed by signal 9")
    proxy.check_descriptors = False
    client = world.connect(proxy)
    ask(client, b"before")
    control.ask("drain")
    old = proxy.reporter()
    os.kill(old, signal.SIGKILL)
    status = waits.until(lambda: control.run("status").returncode == 0 and control.ask("status"), "an answer of a new reporter")
    assert status["reporter_pid"] != old and status["open"] == 1 and status["taken"] == 1 and status["drained"] == 1
    row, = control.ask("connections")
    assert row["bytes_up"] == 6 and row["service"]
    assert [row["state"] for row in control.ask("workers")] == ["serving"]
    ask(client, b"after")


def test_counters_survive_a_worker(world, control):
    proxy = relay(world, control)
    proxy.expect_log(r"worker 0 .*ended: killed by signal 9", r"connections were lost with this worker")
    proxy.check_workers = proxy.check_descriptors = False
    first = world.connect(proxy)
    ask(first)
    worker, = proxy.workers()
    os.kill(worker, signal.SIGKILL)
    waits.until(lambda: control.ask("workers") and control.ask("workers")[0]["pid"] not in (0, worker) and
                control.ask("workers")[0]["state"] == "serving", "a new worker")
    row, = control.ask("services")
    assert row["taken"] == 1 and row["open"] == 0 and row["bytes_up"] == 4 and row["ends"]["worker-lost"] == 1
