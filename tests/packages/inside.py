# SPDX-License-Identifier: ISC
"""
Runs inside a machine whose init is systemd: the package's units, for real. inside.py first | again; one line PASS or FAIL for each case. After "first"
the machine is rebooted, which "again" looks at.
"""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
from support import netns, peers, proc, waits  # noqa: E402

PUBLIC, PRIVATE = "10.10.10.10", "172.20.0.2"
CONF = "/etc/nsproxy/nsproxy.conf"
SAMPLE = f"""user = "nsproxy"
workers = 2
drain-timeout = "10s"
service web {{
    listen = {{"public@{PUBLIC}:80"}}
    connect = {{"private@{PRIVATE}:80"}}
}}
"""
CASES = {"first": [], "again": []}
MAKE_NAMESPACES = f"""[Unit]
Before=nsproxy.service nsproxy.socket
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/ip netns add public
ExecStart=/bin/ip netns add private
ExecStart=/bin/ip -n public link set lo up
ExecStart=/bin/ip -n private link set lo up
ExecStart=/bin/ip -n public addr add {PUBLIC}/32 dev lo
ExecStart=/bin/ip -n private addr add {PRIVATE}/32 dev lo
[Install]
WantedBy=multi-user.target
"""


def case(when):
    def register(function):
        CASES[when].append(function)
        return function
    return register


# -- the machine --

def run(*words, check=True, **more):
    result = subprocess.run(words, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, timeout=90, **more)
    if check and result.returncode != 0:
        raise AssertionError(f"{' '.join(words)} gave {result.returncode}: {result.stdout}")
    return result.stdout.strip()


def systemctl(*words, **more):
    return run("systemctl", *words, **more)


def state(key, unit="nsproxy.service"):
    return systemctl("show", "-P", key, unit)


def main_pid(unit="nsproxy.service"):
    return int(state("MainPID", unit))


def journal(unit="nsproxy.service"):
    return run("journalctl", "-o", "cat", "--no-pager", "-u", unit)


def write(path, text):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


class Place(netns.Namespace):
    """A namespace that somebody else made."""

    def __init__(self, name):     # pylint: disable=super-init-not-called
        self.name, self.path = name, f"/run/netns/{name}"
        self._fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)


@contextlib.contextmanager
def target(port=80):
    """An echo server in the private namespace."""
    server = peers.Server(Place("private").listener(PRIVATE, port), peers.echo)
    try:
        yield server
    finally:
        server.close()


def connect(port=80):
    return peers.connect(Place("public"), PUBLIC, port)


def exchange(client, data=b"there and back"):
    client.sendall(data)
    assert peers.receive_exactly(client, len(data)) == data


def served(port=80):
    with connect(port) as client:
        exchange(client)


def is_served():
    try:
        served()
        return True
    except (OSError, AssertionError):
        return False


def fresh(conf=SAMPLE):
    """The service with this configuration and nothing else."""
    systemctl("stop", "nsproxy.socket", "nsproxy.service", check=False)
    run("rm", "-rf", "/etc/systemd/system/nsproxy.service.d", "/etc/systemd/system/nsproxy.socket.d")
    systemctl("daemon-reload")
    systemctl("reset-failed", check=False)
    write(CONF, conf)


def drop_in(text, unit="nsproxy.service"):
    write(f"/etc/systemd/system/{unit}.d/test.conf", text)
    systemctl("daemon-reload")


# -- what is shown --

@case("first")
def installed_and_not_started():
    run("dpkg", "-i", f"{HERE}/nsproxy.deb")
    write("/etc/systemd/system/make-namespaces.service", MAKE_NAMESPACES)
    systemctl("daemon-reload")
    assert systemctl("is-enabled", "nsproxy.service", check=False) == "disabled"
    assert systemctl("is-enabled", "nsproxy.socket", check=False) == "disabled"
    assert systemctl("is-active", "nsproxy.service", check=False) == "inactive"
    systemctl("enable", "--now", "make-namespaces.service")


@case("first")
def start_is_over_when_it_serves():
    fresh()
    with target():
        systemctl("start", "nsproxy")
        served()
    assert state("ActiveState") == "active" and "1 services, 2 workers" in state("StatusText")
    uids = {proc.status(pid)["Uid"].split()[0] for pid in proc.children(main_pid())}
    assert uids == {run("id", "-u", "nsproxy")}


@case("first")
def start_says_why_it_fails():
    fresh(SAMPLE.replace("private@", "nowhere@"))
    run("systemctl", "start", "nsproxy", check=False)
    waits.until(lambda: "cannot open network namespace 'nowhere'" in journal(), "the reason in the journal")
    systemctl("stop", "nsproxy", check=False)
    fresh(SAMPLE.replace("connect", "conect"))
    systemctl("start", "nsproxy", check=False)
    waits.until(lambda: state("ActiveState") == "failed", "a wrong configuration is not tried again")
    assert state("ExecMainStatus") == "6" and f"{CONF}:" in journal()


@case("first")
def namespaces_made_later_are_seen():
    """Its mount namespace is its own, but what happens to /run/netns happens there too."""
    fresh()
    systemctl("start", "nsproxy")
    assert os.readlink(f"/proc/{main_pid()}/ns/mnt") != os.readlink("/proc/self/ns/mnt")
    run("ip", "netns", "del", "private")
    waits.until(lambda: "private" in journal(), "the namespace is missed")
    run("ip", "netns", "add", "private")
    run("ip", "-n", "private", "link", "set", "lo", "up")
    run("ip", "-n", "private", "addr", "add", f"{PRIVATE}/32", "dev", "lo")
    with target():
        waits.until(is_served, lambda: f"served in the new namespace; log: {journal()[-2000:]}")
    assert state("NRestarts") == "0"


@case("first")
def reload_checks_first():
    """A bad file: systemctl reload fails with the reason, and nothing changes. A good one: applied, with no connection cut."""
    fresh()
    with target(), target(81):
        systemctl("start", "nsproxy")
        pid = main_pid()
        client = connect()
        exchange(client)
        write(CONF, SAMPLE + "nonsense\n")
        assert subprocess.run(["systemctl", "reload", "nsproxy"], check=False, capture_output=True).returncode != 0
        waits.until(lambda: f"{CONF}:" in journal(), "the error in the journal")
        served()
        write(CONF, SAMPLE + SAMPLE[SAMPLE.index("service"):].replace("web", "other").replace(":80", ":81"))
        systemctl("reload", "nsproxy")

        def other():
            try:
                served(81)
                return True
            except (OSError, AssertionError):
                return False
        waits.until(other, lambda: f"the new service; log: {journal()[-2000:]}")
        exchange(client)
        client.close()
        assert main_pid() == pid and state("NRestarts") == "0" and state("ActiveState") == "active"


@case("first")
def a_crash_is_followed_by_a_start():
    fresh()
    with target():
        systemctl("start", "nsproxy")
        pid, children = main_pid(), proc.children(main_pid())
        client = connect()
        exchange(client)
        os.kill(pid, signal.SIGKILL)
        assert peers.drain(client)[2] == peers.RESET
        waits.until(lambda: main_pid() not in (0, pid) and state("ActiveState") == "active" and is_served(), "served by another process")
        assert not any(proc.alive(child) for child in children)
        assert state("NRestarts") == "1"


@case("first")
def the_watchdog_ends_one_that_hangs():
    fresh()
    drop_in("[Service]\nWatchdogSec=2s\nTimeoutAbortSec=1s\n")
    with target():
        systemctl("start", "nsproxy")
        pid = main_pid()
        served()
        waits.stays(lambda: main_pid() == pid, 5, "one that is alive is left alone")
        os.kill(pid, signal.SIGSTOP)
        waits.until(lambda: main_pid() not in (0, pid) and is_served(), "another one serves", 30)
    assert "watchdog" in journal().lower() or state("NRestarts") == "1"


@case("first")
def stop_lets_connections_finish():
    fresh()
    with target():
        systemctl("start", "nsproxy")
        client = connect()
        exchange(client)
        stopping = subprocess.Popen(["systemctl", "stop", "nsproxy"])
        waits.until(lambda: state("ActiveState") == "deactivating", "it is told to stop")
        exchange(client)
        assert stopping.poll() is None
        client.close()
        assert stopping.wait(30) == 0
    assert state("ActiveState") == "inactive" and state("Result") == "success"


@case("first")
def restart_under_load_with_a_socket_unit():
    """With nsproxy.socket nobody is refused while it restarts: clients wait."""
    fresh()
    refused, done, stop = [], [], threading.Event()

    def clients():
        while not stop.is_set():
            try:
                with connect() as client:
                    exchange(client)
                done.append(1)
            except (OSError, AssertionError) as error:
                refused.append(repr(error))

    with target():
        systemctl("start", "nsproxy.socket")
        assert state("ActiveState") == "inactive"
        served()        # the first client starts it
        assert state("ActiveState") == "active"
        thread = threading.Thread(target=clients)
        thread.start()
        for _ in range(3):
            before = len(done)
            systemctl("restart", "nsproxy.service")
            waits.until(lambda: len(done) > before + 20, lambda: f"clients go on; {refused[:3]}")
        stop.set()
        thread.join()
    systemctl("stop", "nsproxy.socket", "nsproxy.service")
    assert not refused, f"{len(refused)} of {len(refused) + len(done)} failed: {refused[:3]}"
    print(f"figure: {len(done)} clients over 3 restarts, 0 refused")


@case("first")
def instances_have_their_own_place():
    for name, port in (("one", 8001), ("two", 8002)):
        write(f"/etc/nsproxy/{name}.conf", SAMPLE.replace(":80", f":{port}"))
    with target(8001), target(8002):
        systemctl("start", "nsproxy@one", "nsproxy@two")
        served(8001)
        served(8002)
        for name in ("one", "two"):
            assert os.path.isdir(f"/run/nsproxy/{name}")
            assert f"/run/nsproxy/{name}/control.sock" in run("ps", "-o", "args=", "-p", str(main_pid(f"nsproxy@{name}.service")))
        systemctl("stop", "nsproxy@one")
        served(8002)
    systemctl("stop", "nsproxy@two")


@case("first")
def log_files_are_rotated():
    fresh(SAMPLE.replace("workers = 2", 'workers = 1\naccess-log = "file:/var/log/nsproxy/access.log"'))
    with target():
        systemctl("start", "nsproxy")
        served()
        path = "/var/log/nsproxy/access.log"
        waits.until(lambda: os.path.getsize(path) > 0, "a line in the log")
        assert os.stat(path).st_mode & 0o077 == 0
        run("logrotate", "-f", "/etc/logrotate.d/nsproxy")
        waits.until(lambda: os.path.exists(path), "the log is opened again")
        served()
        waits.until(lambda: os.path.getsize(path) > 0 and os.path.getsize(f"{path}.1") > 0, "lines in both")


@case("first")
def the_sandbox_of_the_unit_holds():
    fresh()
    systemctl("start", "nsproxy")
    pid = main_pid()
    caps = proc.status(pid)
    assert caps["CapEff"] == "0" * 16 and caps["NoNewPrivs"] == "1" and caps["Seccomp"] == "2"
    for path in ("/etc/x", "/usr/x", "/run/x", "/home/x", "/var/x"):
        assert subprocess.run(["nsenter", "-t", str(pid), "-m", "touch", path], check=False, capture_output=True).returncode != 0, path
    run("nsenter", "-t", str(pid), "-m", "touch", "/run/nsproxy/x")
    exposure = re.search(r"Overall exposure level[^:]*: ([0-9.]+)", run("systemd-analyze", "security", "--no-pager", "nsproxy.service"))
    assert float(exposure[1]) <= 2.5, exposure[0]
    for more, policy in (("", os.SCHED_OTHER), ("SystemCallFilter=sched_setscheduler", os.SCHED_BATCH)):
        drop_in(f"[Service]\n{more}\n")
        systemctl("restart", "nsproxy")
        workers = [child for child in proc.children(main_pid()) if proc.program(child) == "nsproxy-worker"]
        assert {os.sched_getscheduler(worker) for worker in workers} == {policy}, more


@case("first")
def package_upgrade_cuts_nothing():
    """A newer package over one that runs: same process, another program, the same connection."""
    fresh()
    with target():
        systemctl("start", "nsproxy")
        pid = main_pid()
        client = connect()
        exchange(client)
        run("dpkg", "--force-confold", "-i", f"{HERE}/newer.deb")

        def replaced():
            return os.path.exists(f"/proc/{pid}/exe") and not os.readlink(f"/proc/{pid}/exe").endswith("(deleted)")
        waits.until(replaced, lambda: f"the new program runs; log: {journal()[-2000:]}")
        exchange(client)
        client.close()
        served()
        assert main_pid() == pid and state("NRestarts") == "0"


@case("first")
def autopkgtest():
    systemctl("stop", "nsproxy")
    print(run(f"{HERE}/tests/relay"))
    print(run(f"{HERE}/tests/unit-files"))


@case("first")
def the_sysv_script():
    """As another init would call it: start, status, reload, restart, stop, with the exit codes of LSB."""
    fresh()
    script = "/etc/init.d/nsproxy"

    def call(verb):
        return subprocess.run([script, verb], check=False, capture_output=True, text=True, timeout=60,
                              env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "SYSTEMCTL_SKIP_REDIRECT": "1"}, stdin=subprocess.DEVNULL)
    write("/etc/default/nsproxy", "options='-a file:/var/log/nsproxy/sysv.log'\n")
    write(CONF, SAMPLE.replace("workers = 2", 'workers = 1\nlog = "file:/var/log/nsproxy/sysv.log"'))
    with target():
        assert call("status").returncode == 3 and call("reload").returncode == 7
        started = call("start")
        assert started.returncode == 0, started
        served()
        assert call("status").returncode == 0 and call("start").returncode == 0
        with open("/run/nsproxy.pid", encoding="ascii") as file:
            pid = int(file.read())
        assert call("reload").returncode == 0
        served()
        write(CONF, "nonsense\n")
        for verb in ("reload", "restart"):
            assert call(verb).returncode != 0
        served()
        assert call("stop").returncode == 0 and not proc.alive(pid)
        assert call("status").returncode == 3
        assert call("start").returncode == 6
        assert call("nonsense").returncode == 2
    os.unlink("/etc/default/nsproxy")


@case("first")
def enabled_for_the_next_boot():
    fresh()
    systemctl("enable", "nsproxy.service")
    assert state("UnitFileState") == "enabled"


@case("again")
def is_there_after_a_boot():
    waits.until(lambda: state("ActiveState") == "active", lambda: f"started by the boot; log: {journal()[-2000:]}")
    assert time.monotonic() > 0 and os.path.isdir("/run/nsproxy")
    with target():
        served()


@case("again")
def removal_stops_it():
    pid = main_pid()
    run("dpkg", "--remove", "nsproxy")
    assert not proc.alive(pid) and os.path.exists(CONF)


@case("again")
def purge_leaves_nothing():
    run("dpkg", "--purge", "nsproxy")
    for path in ("/etc/nsproxy/nsproxy.conf", "/var/log/nsproxy", "/run/nsproxy", "/etc/logrotate.d/nsproxy", "/etc/init.d/nsproxy"):
        assert not os.path.exists(path), path
    assert not [name for name in os.listdir("/etc/systemd/system/multi-user.target.wants") if "nsproxy" in name]


def main():
    socket.setdefaulttimeout(peers.PATIENCE)
    failed = 0
    for function in CASES[sys.argv[1]]:
        name = function.__name__.replace("_", " ")
        started = time.monotonic()
        try:
            function()
            print(f"PASS systemd: {name} ({time.monotonic() - started:.1f} s)", flush=True)
        except Exception:       # pylint: disable=broad-except
            failed += 1
            print(f"FAIL systemd: {name}", flush=True)
            print(traceback.format_exc(), flush=True)
            print(journal()[-3000:], flush=True)
    return failed > 0


sys.exit(main())
