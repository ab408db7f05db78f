# SPDX-License-Identifier: ISC
"""Where the benchmark runs: two network namespaces of its own, a control group for the relay, the machine's counters. All of it is removed at the end."""

import contextlib
import ctypes
import os
import re
import resource
import signal
import subprocess
import time

CLONE_NEWNET = 0x40000000
LISTEN, TARGET, PORTS = "10.10.10.10", "172.20.0.2", (9000, 9001, 9002)
ALLOWED = "/proc/sys/net/ipv4/tcp_allowed_congestion_control"
SETTINGS = {"net/ipv4/ip_local_port_range": "1024 65000", "net/ipv4/tcp_tw_reuse": "1", "net/core/somaxconn": "65535",
            "net/ipv4/tcp_max_syn_backlog": "65535",
            # A client whose own port is one of these would keep it for a minute after its end, and the next relay could not listen there.
            "net/ipv4/ip_local_reserved_ports": f"{PORTS[0]}-{PORTS[-1]}"}

_libc = ctypes.CDLL(None, use_errno=True)


class Missing(Exception):
    """Something that the benchmark needs is not to be had here."""


def read(path):
    with open(path, encoding="ascii") as file:
        return file.read()


def write(path, text):
    with open(path, "w", encoding="ascii") as file:
        file.write(text)


def one_id():
    """Are we in a user namespace that maps a single id?"""
    rows = [row.split() for row in read("/proc/self/uid_map").splitlines()]
    return len(rows) == 1 and rows[0][2] == "1"


def more_descriptors():
    """As many as root may have, else what the limits allow: 8000 connections are four descriptors each for some relays."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (1 << 20, 1 << 20))
    except (ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


class Namespace:
    """A named network namespace with one address on its loopback link."""

    def __init__(self, name, host, algorithm):
        self.name = name
        self._fd = -1
        try:
            self.ip("netns", "add", name)
            self._fd = os.open(f"/run/netns/{name}", os.O_RDONLY | os.O_CLOEXEC)
            self.ip("-n", name, "link", "set", "lo", "up")
            self.ip("-n", name, "addr", "add", f"{host}/32", "dev", "lo")
            self._settings(algorithm)
        except (OSError, subprocess.CalledProcessError) as error:
            self.remove()
            raise Missing(f"cannot make the network namespace {name}: {error}; run as root, or inside unshare -Urnm") from error

    @staticmethod
    def ip(*words):
        subprocess.run(["ip", *words], check=True)

    def _settings(self, algorithm):
        """A new namespace has the machine's algorithm, and it decides about every figure: set, then read back."""
        key = "net/ipv4/tcp_congestion_control"
        for name, value in SETTINGS.items():
            self.run(["sysctl", "-qw", f"{name}={value}"], check=True)
        self.run(["sysctl", "-qw", f"{key}={algorithm}"], check=False, stderr=subprocess.DEVNULL)
        got = self.run(["sysctl", "-n", key], capture_output=True, text=True, check=True).stdout.strip()
        if got != algorithm:
            raise Missing(f"{self.name}: congestion control is {got}, wanted {algorithm}; the initial namespace must allow it "
                          f"(net.ipv4.tcp_allowed_congestion_control, modprobe tcp_{algorithm})")

    def enter(self):
        """For a child before exec."""
        if _libc.setns(self._fd, CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), f"setns {self.name}")

    def run(self, argv, **options):
        return subprocess.run(argv, preexec_fn=self.enter, **options)

    def popen(self, argv, **options):
        return subprocess.Popen(argv, preexec_fn=self.enter, **options)

    def remove(self):
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        if os.path.exists(f"/run/netns/{self.name}"):
            subprocess.run(["ip", "netns", "del", self.name], check=False)


@contextlib.contextmanager
def allowed(algorithm):
    """In the block every namespace may choose this algorithm. The initial one decides; inside a user namespace nobody can be asked."""
    before = read(ALLOWED).strip() if os.path.exists(ALLOWED) else ""
    changed = f"{before} {algorithm}"
    add = algorithm not in before.split()
    if add:
        with contextlib.suppress(OSError):
            write(ALLOWED, changed)
    try:
        yield
    finally:
        if add:
            with contextlib.suppress(OSError):
                if sorted(read(ALLOWED).split()) == sorted(changed.split()):
                    write(ALLOWED, before)


class Group:
    """A control group (of either version) with all processes of a relay: their CPU time and memory, the kernel's for them included."""

    def __init__(self, name):
        root = "/sys/fs/cgroup"
        self.v1 = os.path.isdir(f"{root}/cpuacct")
        self.cpu_dir = f"{root}/cpuacct/{name}" if self.v1 else f"{root}/{name}"
        self.memory_dir = f"{root}/memory/{name}" if self.v1 else self.cpu_dir
        self.dirs = sorted({self.cpu_dir, self.memory_dir})
        self.problem = None
        if not self.v1:
            with contextlib.suppress(OSError):
                write(f"{root}/cgroup.subtree_control", "+memory")
        try:
            for path in self.dirs:
                os.mkdir(path)
        except OSError as error:
            self.remove()
            self.dirs, self.problem = [], str(error)

    def enter(self):
        """For a child before exec."""
        for path in self.dirs:
            write(f"{path}/cgroup.procs", "0")

    def cpu(self):
        """Seconds, or None where no control group can be made."""
        if not self.dirs:
            return None
        if self.v1:
            return int(read(f"{self.cpu_dir}/cpuacct.usage")) / 1e9
        return int(re.search(r"usage_usec (\d+)", read(f"{self.cpu_dir}/cpu.stat"))[1]) / 1e6

    def memory(self):
        path = f"{self.memory_dir}/{'memory.usage_in_bytes' if self.v1 else 'memory.current'}"
        return int(read(path)) if self.dirs and os.path.exists(path) else None

    def pids(self):
        return [int(pid) for path in self.dirs for pid in read(f"{path}/cgroup.procs").split()]

    def clear(self):
        """Ends everything in it. Relays that fork may add processes while this looks."""
        deadline = time.monotonic() + 10
        while (pids := self.pids()) and time.monotonic() < deadline:
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.02)

    def remove(self):
        if self.dirs:
            with contextlib.suppress(FileNotFoundError):
                self.clear()
        for path in self.dirs:
            for _ in range(100):
                try:
                    os.rmdir(path)
                    break
                except FileNotFoundError:
                    break
                except OSError:         # the last process is on its way out
                    time.sleep(0.02)


def machine_cpu():
    """Seconds that all processors have worked since the start, kernel threads and interrupts included."""
    user, nice, system, _, _, irq, softirq = map(int, read("/proc/stat").split("\n", 1)[0].split()[1:8])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")
