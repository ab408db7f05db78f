# SPDX-License-Identifier: ISC
"""Network namespaces for one test or module: made, entered by one thread for the length of a block, removed."""

import contextlib
import ctypes
import itertools
import os
import socket
import subprocess

TIME_WAIT, LISTEN = "06", "0A"          # as /proc/net/tcp has them

CLONE_NEWNET = 0x40000000
CLONE_NEWNS = 0x00020000
MS_REC, MS_PRIVATE = 0x4000, 1 << 18

_libc = ctypes.CDLL(None, use_errno=True)
_number = itertools.count()


def _check(result, what):
    if result != 0:
        errno = ctypes.get_errno()
        raise OSError(errno, f"{what}: {os.strerror(errno)}")


def _mount(source, target, kind, flags):
    _check(_libc.mount(source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), None), f"mount {target}")


def private_mounts():
    """
    Gives this process a mount namespace of its own with an empty /run/netns, so that nothing made here is seen outside or outlives us. Call it before any
    thread starts. OSError when that is not permitted.
    """
    _check(_libc.unshare(CLONE_NEWNS), "unshare(CLONE_NEWNS)")
    _mount("none", "/", "none", MS_REC | MS_PRIVATE)
    try:
        os.makedirs("/run/netns", exist_ok=True)
    except OSError:
        _mount("tmpfs", "/run", "tmpfs", 0)     # a user namespace may not write the machine's /run
        os.mkdir("/run/netns")
    _mount("tmpfs", "/run/netns", "tmpfs", 0)
    os.chmod("/run/netns", 0o755)


def allow_cubic():
    """The initial namespace decides what others may choose. A machine that refuses keeps its default, and use_cubic() says so."""
    path = "/proc/sys/net/ipv4/tcp_allowed_congestion_control"
    with contextlib.suppress(OSError):
        with open(path) as file:
            allowed = file.read().split()
        if "cubic" not in allowed:
            with open(path, "w") as file:
                file.write(" ".join(allowed + ["cubic"]))


def one_id():
    """Are we in a user namespace that maps a single id?"""
    with open("/proc/self/uid_map") as file:
        rows = [line.split() for line in file]
    return len(rows) == 1 and rows[0][2] == "1"


def have_ipv6():
    return os.path.exists("/proc/sys/net/ipv6/conf/lo")


class Namespace:
    """
    A named network namespace with addresses on its loopback link. Nothing joins it to any other. The name is a new one that ends with the tag, unless
    `name` says exactly which; a namespace of that name may be there already.
    """

    def __init__(self, tag, addresses=(), name=None):
        self.name = name or f"nt{os.getpid()}-{next(_number)}{tag}"
        self.path = f"/run/netns/{self.name}"
        self.addresses = list(addresses)
        if not os.path.exists(self.path):
            subprocess.run(["ip", "netns", "add", self.name], check=True)
        self._fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        lines = ["link set lo up"]
        lines += [f"addr add {a} dev lo" + (" nodad" if ":" in a else "") for a in addresses if ":" not in a or have_ipv6()]
        self.ip_batch(lines)
        self.congestion_control = self.use_cubic()

    def ip_batch(self, lines):
        """Runs lines of ip(8) in the namespace."""
        subprocess.run(["ip", "-n", self.name, "-batch", "-"], input="\n".join(lines) + "\n", text=True, check=True)

    def use_cubic(self):
        """Sets cubic and reads back what is in force."""
        with contextlib.suppress(OSError):
            self.sysctl("net/ipv4/tcp_congestion_control", "cubic")
        return self.sysctl("net/ipv4/tcp_congestion_control")

    def sysctl(self, key, value=None):
        """Reads a network sysctl as this namespace has it, or writes it."""
        with self.inside(), open(f"/proc/sys/{key}", "r" if value is None else "w") as file:
            return file.read().strip() if value is None else file.write(value)

    @contextlib.contextmanager
    def inside(self):
        """This thread, and what it starts, is in the namespace for the length of the block. Sockets made in it stay there."""
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            _check(_libc.setns(self._fd, CLONE_NEWNET), f"setns {self.name}")
            try:
                yield self
            finally:
                _check(_libc.setns(home, CLONE_NEWNET), "setns back")
        finally:
            os.close(home)

    def tcp_sockets(self):
        """What the kernel holds here beside listeners and connections that were over in order (TIME-WAIT): lines of /proc/net/tcp, queues included."""
        found = []
        for name in ("tcp", "tcp6"):
            with contextlib.suppress(FileNotFoundError), self.inside(), open(f"/proc/thread-self/net/{name}") as file:
                found += [line.strip() for line in file.readlines()[1:] if line.split()[3] not in (TIME_WAIT, LISTEN)]
        return found

    def inode(self):
        """What /proc/PID/ns/net shows for a process that lives here."""
        return f"net:[{os.fstat(self._fd).st_ino}]"

    def socket(self, family=socket.AF_INET, kind=socket.SOCK_STREAM):
        with self.inside():
            return socket.socket(family, kind)

    def listener(self, host, port=0, backlog=4096, family=None):
        """A bound, listening TCP socket; port 0: the kernel chooses (getsockname() tells)."""
        sock = self.socket(family or (socket.AF_INET6 if ":" in host else socket.AF_INET))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        sock.listen(backlog)
        return sock

    def free_port(self, host):
        """A port nobody holds, for programs that cannot be told to take port 0. No race: only one test lives here."""
        with self.listener(host) as sock:
            return sock.getsockname()[1]

    def popen(self, argv, **options):
        with self.inside():
            return subprocess.Popen(argv, **options)

    def run(self, argv, **options):
        with self.inside():
            return subprocess.run(argv, **options)

    def remove(self):
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            subprocess.run(["ip", "netns", "del", self.name], check=False)


class Place(Namespace):
    """A namespace that can be deleted and made again under its name."""

    def delete(self):
        subprocess.run(["ip", "netns", "del", self.name], check=True)

    def make(self, addresses=True):
        subprocess.run(["ip", "netns", "add", self.name], check=True)
        os.close(self._fd)
        self._fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        if addresses:
            self.set_up()

    def set_up(self):
        self.ip_batch(["link set lo up", *(f"addr add {address} dev lo" for address in self.addresses)])
