# SPDX-License-Identifier: ISC
"""Every command of nsproxyctl against a real daemon with real connections: what it shows, and what it makes happen on both sides of a connection."""

import json
import os
import re
import resource
import signal
import socket
import struct
import subprocess
import threading
import time

import pytest

from conftest import PRIVATE, PUBLIC
from support import ctl, peers, waits

MANY = 8000


@pytest.fixture
def control(install, short_path):
    made = ctl.Control(install, f"{short_path}/control.sock")
    if not made.present():
        pytest.skip(f"nsproxyctl is not installed ({made.program}): this build was configured with --disable-nsproxyctl")
    return made


def relay(world, control, target, engine=None, **more):
    return world.relay(target, engine, options=("-s", control.path), **more)


def ask(client, text=b"ping"):
    client.sendall(text)
    assert peers.receive_exactly(client, len(text)) == text


def is_reset(sock):
    try:
        return sock.recv(1) != b"" and False
    except ConnectionResetError:
        return True


def refused_by_reset(world, proxy):
    """True: a new client is reset at once. Its handshake is the kernel's, so the reset may come at connect or at the first read."""
    try:
        client = peers.connect(world.pub, PUBLIC, proxy.port)
    except ConnectionResetError:
        return True
    with client:
        return is_reset(client)


def service(control, name):
    return next(row for row in control.ask("services") if row["name"] == name)


# ---- what is --------------------------------------------------------------------------------------------------------------------------

def test_status(world, control):
    proxy = relay(world, control, world.serve(peers.echo), workers=2)
    client = world.connect(proxy)
    ask(client, b"x" * 1000)
    status = control.ask("status")
    assert status["pid"] == proxy.pid and status["reporter_pid"] == proxy.reporter()
    assert status["configuration"] is None and status["log_level"] == "notice"
    assert (status["services"], status["drained"], status["workers"], status["workers_wanted"]) == (1, 0, 2, 2)
    assert (status["open"], status["taken"], status["finished"]) == (1, 1, 0)
    assert (status["bytes_up"], status["bytes_down"], status["lost"]) == (1000, 1000, 0)
    assert 0 <= status["uptime_s"] < 600
    client.close()
    proxy.wait_access(1)
    waits.until(lambda: control.ask("status")["finished"] == 1, "the connection to be counted as finished")
    text = control.run("status").stdout
    assert f"process {proxy.pid}" in text and "2 of 2 serve" in text


def test_services(world, control):
    server = world.serve(peers.echo)
    path = world.config(f'''
service web {{
    listen = {{"{world.public()}", "{world.public()}"}}
    connect = {{"{world.private(server.port)}"}}
    engine = copy
    max-connections = 77
}}
service range {{
    listen = {{"{world.public(8000)}-8002"}}
    connect = {{"{world.private(9000)}-9002"}}
}}
''')
    proxy = world.proxy("-s", control.path, "-f", path, "-w", "1")
    client = world.connect(proxy)
    ask(client)
    web, ports = service(control, "web"), service(control, "range")
    assert web["state"] == "serving" and web["engine"] == "copy" and web["max_connections"] == 77 and web["drain_s"] is None
    assert web["listeners"] == [f"{netns}@{host}:{port}" for netns, host, port in proxy.addresses("web")]
    assert web["target"] == world.private(server.port) and web["netns"] == world.priv.name
    assert (web["open"], web["taken"], web["finished"], web["bytes_up"], web["bytes_down"]) == (1, 1, 0, 4, 4)
    assert ports["listeners"] == [world.public(8000) + "-8002"] and ports["target"] == world.private(9000) + "-9002"
    assert ports["max_connections"] is None and ports["open"] == 0
    client.close()
    proxy.wait_access(1)
    waits.until(lambda: service(control, "web")["ends"]["closed-by-client"] == 1, "its end in the counters")
    text = control.run("services").stdout
    assert re.search(r"^web +serving +0 +1 ", text, re.M), text
    assert [row["name"] for row in control.ask("services", "--service", "range")] == ["range"]


def test_workers(world, control):
    proxy = relay(world, control, world.serve(peers.echo), workers=2)
    rows = control.ask("workers")
    assert sorted(row["pid"] for row in rows) == sorted(proxy.workers())
    for row in rows:
        assert row["state"] == "serving" and not row["late"] and row["netns"] == world.priv.name and row["lost"] == 0
        assert row["uid"] == os.stat(f"/proc/{row['pid']}").st_uid or world.install.one_id
        assert "adaptive" in row["engines"] and row["max_connections"] >= 100
    assert [row["worker"] for row in control.ask("workers", "--worker", "1")] == [1]


def test_pipes_in_use(world, control):
    """One for a direction whose receiver sleeps; none before, none when it has ended."""
    server = world.serve()
    proxy = relay(world, control, server, "splice")

    def used():
        return control.ask("workers")[0]["pipes"]
    assert used() == 0
    client, target = world.pair(proxy, server)
    sending = peers.Background(peers.send_pattern, client, 16 << 20)
    waits.until(lambda: used() == 1, "a pipe in use")
    assert peers.drain(target, 16 << 20)[0] == 16 << 20
    sending.result()
    client.close()
    target.close()
    waits.until(lambda: used() == 0, "the pipe to be free again")


def test_connections_show_both_legs(world, engine, control):
    server = world.serve(peers.echo)
    proxy = relay(world, control, server, engine)
    client = world.connect(proxy)
    ask(client, b"y" * 300)
    waits.until(lambda: control.ask("status")["bytes_down"] == 300, "the answer to be counted, which the ring tells after the client may have it")
    row, = control.ask("connections")
    host, port = client.getsockname()
    assert row["client"] == f"{world.pub.name}@{host}:{port}" and row["listener"] == world.public(proxy.port)
    assert row["target"] == world.private(server.port) and row["local"].startswith(f"{world.priv.name}@{PRIVATE}:")
    assert (row["client_netns"], row["target_netns"]) == (world.pub.name, world.priv.name)
    assert (row["state"], row["engine"], row["worker"]) == ("open", engine, 0)
    assert (row["bytes_up"], row["bytes_down"]) == (300, 300) and row["rate_up"] is None and row["age_s"] >= 0
    client.close()
    record, = proxy.wait_access(1)
    assert record["client"] == row["client"] and record["target"].endswith(str(server.port)) and record["start"] == row["start"]
    waits.until(lambda: control.ask("connections") == [], "no connection")


def test_half_closed_is_seen(world, control):
    server = world.serve()
    proxy = relay(world, control, server)
    client, target = world.pair(proxy, server)
    client.shutdown(socket.SHUT_WR)
    assert target.recv(1) == b""
    waits.until(lambda: [row["state"] for row in control.ask("connections")] == ["half-closed"], "the state half-closed")
    assert control.ask("connections", "--state", "open") == []
    target.close()
    client.close()


def test_filters_and_order(world, control):
    server = world.serve(peers.echo)
    text = "".join(f'service {name} {{ listen = {{"{world.public()}"}}\n connect = {{"{world.private(server.port)}"}} }}\n' for name in ("one", "two"))
    proxy = world.proxy("-s", control.path, "-f", world.config(text), "-w", "2")
    clients = []
    for number, name in enumerate(("one", "two", "two")):
        _, host, port = proxy.addresses(name)[0]
        clients.append(world.keep(peers.connect(world.pub, host, port)))
        ask(clients[-1], b"z" * (100 * (number + 1)))
    everything = control.ask("connections")
    assert [row["id"] for row in everything] == sorted(row["id"] for row in everything) and len(everything) == 3
    assert {row["service"] for row in control.ask("connections", "--service", "two")} == {"two"}
    assert control.ask("connections", "--service", "three") == []
    assert [row["bytes_up"] for row in control.ask("connections", "--sort", "bytes")] == [300, 200, 100]
    assert [row["bytes_up"] for row in control.ask("connections", "--sort=up", "--limit", "1")] == [300]
    assert len(control.ask("connections", "--client", f"{PUBLIC}/24")) == 3 and control.ask("connections", "--client", "192.0.2.0/24") == []
    assert control.ask("connections", "--client", "fd00::/8") == []
    assert len(control.ask("connections", "--engine", "adaptive")) == 3 and control.ask("connections", "--engine", "copy") == []
    by_worker = [row["id"] for worker in (0, 1) for row in control.ask("connections", "--worker", worker)]
    assert sorted(by_worker) == [row["id"] for row in everything]


def test_rates(world, control):
    proxy = relay(world, control, world.serve(peers.sink))
    client = world.connect(proxy)
    stop = []

    def feed():
        while not stop:
            client.sendall(peers.BLOCK[:50000])         # as fast as it is taken
    thread = threading.Thread(target=feed)
    thread.start()
    try:
        row, = control.ask("connections", "--rates=0.3", "--sort", "rate")
    finally:
        stop.append(True)
        thread.join()
    assert row["rate_up"] > 0 and row["rate_down"] == 0
    assert "UP RATE" in control.run("connections", "--rates=0.1").stdout


def test_privileges(world, control):
    """What each process says of itself is what the kernel says of it."""
    proxy = relay(world, control, world.serve(peers.echo))
    rows = control.ask("privileges")
    assert [row["process"] for row in rows] == ["parent", "worker", "reporter"]
    for row in rows:
        with open(f"/proc/{row['pid']}/status", encoding="utf-8") as file:
            status = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
        for key, field in (("permitted", "CapPrm"), ("effective", "CapEff"), ("bounding", "CapBnd")):
            assert len(row[key]) == bin(int(status[field], 16)).count("1"), (row["process"], key)
        assert int(status["Uid"].split("\t")[1]) == row["uid"]
        assert row["syscalls"] > 10 and status["Seccomp"].strip() == "2" and "seccomp" in row["layers"] and "no_new_privs" in row["layers"]
    assert rows[0]["pid"] == proxy.pid and rows[0]["effective"] == []
    assert rows[1]["netns"] == world.priv.name
    if not world.install.one_id:
        assert rows[1]["netns_inode"] == os.stat(f"/run/netns/{world.priv.name}").st_ino
    for row in rows[1:]:
        assert row["permitted"] == row["bounding"] == []
        assert "no capabilities" in row["layers"] and not set(row["layers"]) & set(row["missing"])
    text = control.run("privileges").stdout
    assert "capabilities effective: none" in text and "system calls:" in text


def test_what_is_known_without_running(world, control):
    """nsproxy -t -v tells in advance what privileges says afterwards."""
    options = [*world.install.user_options(), "-s", control.path, "-l", world.public(), "-c", world.private(9)]
    text = world.install.run("-t", "-v", *options).stdout
    proxy = world.proxy(*options)
    rows = control.ask("privileges")
    parent, worker, reporter = rows[0], rows[1], rows[-1]
    for capability in parent["permitted"]:
        assert f"    {capability} to " in text
    assert f"network namespace: {world.priv.name} (/run/netns/{world.priv.name})" in text
    for row in (worker, reporter):
        assert f"  uid {row['uid']}, gid {row['gid']}" in text
    assert f"Landlock ABI {worker['landlock_abi']}" in text or worker["landlock_abi"] == 0 and "missing here: Landlock" in text
    assert f"control socket: {control.path}\n" in text and proxy.alive()


def test_metrics(world, control):
    proxy = relay(world, control, world.serve(peers.echo))
    ask(world.connect(proxy))
    text = control.run("metrics").stdout
    assert text.endswith("# EOF\n") and "nsproxy_" in text
    assert control.ask("metrics")["openmetrics"].endswith("# EOF\n")


# ---- what to do -----------------------------------------------------------------------------------------------------------------------

def test_kill_resets_both_sides(world, engine, control):
    server = world.serve()
    proxy = relay(world, control, server, engine)
    first, first_target = world.pair(proxy, server)
    second, second_target = world.pair(proxy, server)
    first.sendall(b"1")
    assert first_target.recv(1) == b"1"
    ours = next(row for row in control.ask("connections") if row["client"].endswith(f":{first.getsockname()[1]}"))
    assert control.ask("kill", ours["id"]) == {"done": True, "text": f"connection {ours['id']} is ended"}
    assert is_reset(first) and is_reset(first_target)
    record, = proxy.wait_access(1)
    assert record["end"] == "killed" and record["up"] == "1"
    proxy.wait_log(rf"connection {ours['id']} is ended; asked for by uid {os.getuid()}")
    second.sendall(b"2")
    assert second_target.recv(1) == b"2"
    again = control.run("--json", "kill", ours["id"])
    assert again.returncode == 1 and not json.loads(again.stdout)["done"] and "no such connection" in again.stderr
    for sock in (first_target, second, second_target):
        sock.close()


def test_drain_and_resume(world, engine, control):
    server = world.serve(peers.echo)
    proxy = relay(world, control, server, engine)
    client = world.connect(proxy)
    ask(client)
    name = service_name(control)
    assert "1 connection has 30" in control.ask("drain", name)["text"]
    assert service(control, name)["state"] == "draining" and 0 < service(control, name)["drain_s"] <= 30
    waits.until(lambda: refused_by_reset(world, proxy), "new clients to be reset")
    ask(client, b"still served")
    client.close()
    waits.until(lambda: service(control, name)["state"] == "drained", "the state drained")
    assert control.ask("status")["drained"] == 1
    assert control.ask("drain", name)["text"] == "it was drained already"
    assert control.ask("resume")["text"] == "1 service takes clients again"
    ask(world.connect(proxy))
    proxy.wait_log(r"is drained: new clients are reset; 1 connections have 30.000 s to end; asked for by uid")
    proxy.wait_log(r"takes clients again; [1-9]\d* were reset while it was drained")
    nobody = control.run("drain", "nobody")
    assert nobody.returncode == 1 and "there is no service 'nobody'" in nobody.stderr


def service_name(control):
    row, = control.ask("services")
    return row["name"]


def test_drained_connections_are_cut_at_the_deadline(world, engine, control):
    server = world.serve()
    proxy = relay(world, control, server, engine, top='drain-timeout = "300ms"\n')
    client, target = world.pair(proxy, server)
    control.ask("drain")
    assert is_reset(client) and is_reset(target)
    record, = proxy.wait_access(1)
    assert record["end"] == "drained"
    target.close()


def test_resume_lifts_the_deadline(world, control):
    server = world.serve(peers.echo)
    proxy = relay(world, control, server, top='drain-timeout = "500ms"\n')
    client = world.connect(proxy)
    ask(client)
    control.ask("drain")
    control.ask("resume")
    waits.stays(lambda: not proxy.access(), 1, "no connection ends")
    ask(client)


def test_drained_survives_a_reload(world, control):
    server = world.serve(peers.echo)
    proxy = relay(world, control, server, idle_timeout='"1h"')
    control.ask("drain", "relay")
    assert control.ask("reload")["done"]
    assert control.ask("status")["reloads"] == 1
    assert service(control, "relay")["state"] == "drained"
    assert refused_by_reset(world, proxy)
    control.ask("resume")
    ask(world.connect(proxy))


def test_reload(world, control):
    server = world.serve(peers.echo)
    proxy = relay(world, control, server, idle_timeout='"1h"')
    with open(os.path.join(world.directory, "nsproxy.conf"), encoding="utf-8") as file:
        text = file.read()
    world.config(text + f'service more {{ listen = {{"{world.public()}"}}\n connect = {{"{world.private(server.port)}"}} }}\n')
    assert control.ask("reload") == {"done": True, "text": "reloaded"}
    assert sorted(row["name"] for row in control.ask("services")) == ["more", "relay"]
    world.config(text + "nonsense = 1\n")
    refused = control.run("reload")
    assert refused.returncode == 1 and "nonsense" in refused.stderr
    assert sorted(row["name"] for row in control.ask("services")) == ["more", "relay"]
    proxy.expect_log(r"nonsense", r"reload refused")
    proxy.check_descriptors = proxy.check_workers = False         # one listener more, and workers that know it


def test_one_reload_at_a_time(world, control):
    """Whoever asks while another one is under way is told so, and is in the log all the same."""
    proxy = relay(world, control, world.serve(peers.echo), idle_timeout='"1h"')

    def lines_when_one_was_refused():
        before = len(proxy.lines)
        both = [peers.Background(control.run, "reload") for _ in range(2)]
        done = [asking.result() for asking in both]
        refused = [result for result in done if "not now: another reload is under way" in result.stderr]
        assert all(result.returncode == 1 for result in refused)
        return len(refused) == 1 and 0 in [result.returncode for result in done] and [before]
    (before,) = waits.until(lines_when_one_was_refused, "one that meets another")
    asked = re.compile(rf"^reload; asked for by uid {os.getuid()} \(process \d+\)$")
    waits.until(lambda: len([line for line in proxy.lines[before:] if asked.search(line.text)]) == 2, "both in the log")


def test_questions_at_a_reload(world, control):
    """Each reload has another reporter answer: whoever asks just then is answered all the same."""
    relay(world, control, world.serve(peers.echo), idle_timeout='"1h"')
    for number in range(1, 6):
        assert control.ask("reload")["done"]
        for command in ("status", "metrics", "services", "connections", "workers", "privileges"):
            answer = control.ask(command)
            assert command != "status" or answer["reloads"] == number


def test_log_level(world, control):
    proxy = relay(world, control, world.serve(peers.echo))
    assert "debug" in control.ask("log-level", "debug")["text"]
    assert control.ask("status")["log_level"] == "debug"
    ask(world.connect(proxy))
    proxy.wait_log(r"worker 0: conn: .*RELAYING")
    control.ask("log-level", "notice")
    waits.until(lambda: control.ask("status")["log_level"] == "notice", "the level")


# ---- exit codes -----------------------------------------------------------------------------------------------------------------------

def test_not_running(control):
    done = control.run("--json", "status")
    assert done.returncode == ctl.NOT_RUNNING and "not running" in done.stderr and not json.loads(done.stdout)["done"]
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as stale:
        stale.bind(control.path)
    assert control.run("status").returncode == ctl.NOT_RUNNING


def stopped_now_and_then(control):
    """Exit code of one that waits, and is stopped for a moment each second: an interrupted wait does not begin again, so it ends."""
    asking = subprocess.Popen([control.program, "-s", control.path, "status"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def over():
        try:
            return asking.wait(1) is not None
        except subprocess.TimeoutExpired:
            asking.send_signal(signal.SIGSTOP)
            asking.send_signal(signal.SIGCONT)
            return False
    try:
        waits.until(over, "the end of the wait")
    finally:
        asking.kill()
        asking.wait()
    return asking.returncode


def test_nobody_accepts(control):
    """A reporter that hangs, and so many before us that its queue is full: no longer wait than for an answer, and no shorter one either."""
    with ctl.FullQueue(control.path, room=3) as queue:
        assert queue.fill() == 3
        stopped = peers.Background(stopped_now_and_then, control)
        began = time.monotonic()
        done = control.run("status")
        assert done.returncode == 1 and f"cannot connect to {control.path}: nsproxy does not answer" in done.stderr
        assert 9 < time.monotonic() - began < 20
        assert stopped.result() == 1
        asking = peers.Background(control.run, "status")
        waits.stays(lambda: not asking.done(), 0.5, "it waits")
        for _ in range(3):
            queue.listener.accept()[0].close()
        queue.listener.accept()[0].close()
        queue.listener.close()
        assert asking.result().returncode == ctl.NOT_RUNNING


@pytest.mark.parametrize("words", [
    [], ["nonsense"], ["kill"], ["kill", "x"], ["kill", "0"], ["kill", "1", "2"], ["status", "more"], ["upgrade", "now"], ["log-level"], ["log-level", "loud"],
    ["status", "--service", "web"], ["connections", "--state", "odd"], ["connections", "--sort", "luck"], ["connections", "--client", "10.0.0.0/33"],
    ["connections", "--worker", "-1"], ["connections", "--rates=0"], ["connections", "--limit", "0"], ["--nonsense", "status"],
], ids=" ".join)
def test_bad_arguments(control, words):
    done = control.run(*words)
    assert done.returncode == 2 and done.stderr.startswith(("nsproxyctl: ", control.program)) and done.stdout == ""


def test_help_and_version(control):
    text = control.run("--help").stdout
    for command in ("status", "services", "workers", "connections", "kill ID", "drain [SERVICE]", "upgrade", "log-level LEVEL", "top"):
        assert f"  {command} " in text
    assert control.run("-V").stdout.startswith("nsproxyctl ")


def test_another_version(world, control):
    """Either side is told the other's version, by name."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(control.path)
        listener.listen(1)

        def answer():
            conn, _ = listener.accept()
            with conn:
                conn.recv(8192)
                conn.send(struct.pack("=HHI", ctl.message_types().index("END"), 1, 999) + bytes(520))
        thread = threading.Thread(target=answer)
        thread.start()
        done = control.run("status")
        thread.join()
    assert done.returncode == 1 and f"version 999 of the control protocol, this nsproxyctl version {ctl.version()}" in done.stderr
    os.unlink(control.path)
    relay(world, control, world.serve(peers.echo))
    with control.socket() as sock:
        sock.send(ctl.ask_record(ctl.message_types().index("ASK"), 0, number=999))
        answer = sock.recv(8192)
    kind, count, version = struct.unpack_from("=HHI", answer)
    assert (kind, count, version) == (ctl.message_types().index("END"), 1, ctl.version()) and b"another protocol version" in answer


# ---- many -----------------------------------------------------------------------------------------------------------------------------

def test_many_connections(world, control, figure):
    """All of them in one answer; how long that takes and how late it makes a worker are figures, not limits."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limits[1] < 2 * MANY + 500:
        pytest.skip(f"{MANY} connections need a limit of {2 * MANY + 500} open files, which is {limits[1]} here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (limits[1], limits[1]))
    server = world.serve()
    proxy = relay(world, control, server, workers=2)
    clients = [world.connect(proxy) for _ in range(MANY)]
    waits.until(lambda: server.accepted >= MANY, lambda: f"{server.accepted} of {MANY} connections at the target", 60)
    began = time.monotonic()
    done = control.run("--json", "connections")
    took = time.monotonic() - began         # without our own parser, as for the table
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    assert len(rows) == MANY and len({row["id"] for row in rows}) == MANY
    began = time.monotonic()
    table = control.run("connections", "--sort", "age").stdout
    plain = time.monotonic() - began
    assert table.count("\n") == MANY + 1
    began = time.monotonic()
    one = control.ask("connections", "--limit", "1")
    figure(f"{MANY} connections: table in {plain * 1000:.0f} ms, JSON in {took * 1000:.0f} ms, one of them in {(time.monotonic() - began) * 1000:.0f} ms")
    assert len(one) == 1
    for client in clients:
        peers.reset(client)
    for _ in range(MANY):
        server.take().close()
    proxy.wait_access(MANY, timeout=60)
