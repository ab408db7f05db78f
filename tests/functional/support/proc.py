# SPDX-License-Identifier: ISC
"""A look at processes through /proc: relatives, descriptors, status, time and memory."""

import collections
import contextlib
import os
import re
import signal

from . import waits


def stat(pid):
    """Fields of /proc/PID/stat after the name, so that [0] is the state and [1] the parent; None when there is no such process."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None


def pids():
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def alive(pid):
    """A zombie is not alive."""
    fields = stat(pid)
    return fields is not None and fields[0] not in "ZX"


def children(pid):
    found = []
    for other in pids():
        fields = stat(other)
        if fields and int(fields[1]) == pid and fields[0] not in "ZX":
            found.append(other)
    return sorted(found)


def session(sid):
    """Living processes of a session."""
    found = []
    for pid in pids():
        fields = stat(pid)
        if fields and int(fields[3]) == sid and fields[0] not in "ZX":
            found.append(pid)
    return sorted(found)


def program(pid):
    """File name of the program, "" when the process is gone. Not /proc/PID/comm, which a process may change and the kernel cuts."""
    try:
        name = os.path.basename(os.readlink(f"/proc/{pid}/exe").removesuffix(" (deleted)"))
        return _under_valgrind(pid) if name.startswith("memcheck-") else name
    except OSError:
        return ""


def _under_valgrind(pid):
    """The program that valgrind runs: the first argument that is no option."""
    with open(f"/proc/{pid}/cmdline", encoding="utf-8") as file:
        words = file.read().split("\0")
    return os.path.basename(next((word for word in words[1:] if not word.startswith("-")), ""))


def kind(target):
    """What a link in /proc/PID/fd points to, without its inode number. A named network namespace that was deleted is shown as "/"."""
    if target == "/" or target.startswith("/run/netns/"):
        return "net"
    return re.sub(r":\[\d+\]$", "", target).removesuffix(" (deleted)")


def descriptors(pid):
    """{number: what it is}: "socket", "pipe", "anon_inode:[eventpoll]", "/dev/null", "net"."""
    found = {}
    directory = f"/proc/{pid}/fd"
    for name in os.listdir(directory):
        with contextlib.suppress(FileNotFoundError):
            target = os.readlink(f"{directory}/{name}")
            found[int(name)] = kind(target)
    return found


def descriptor_kinds(pid):
    """How many descriptors of each kind; empty when the process is gone."""
    try:
        return collections.Counter(descriptors(pid).values())
    except (FileNotFoundError, ProcessLookupError):
        return collections.Counter()


def status(pid):
    """/proc/PID/status as a dictionary of strings."""
    with open(f"/proc/{pid}/status") as file:
        return {key: value.strip() for key, _, value in (line.partition(":") for line in file)}


def rss(pid):
    """Resident bytes that are the process's own: without pages of files. Counted, where /proc/PID/status is only about right on some kernels."""
    with open(f"/proc/{pid}/smaps_rollup") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("Anonymous:")) * 1024


def instrumented(pid):
    """Built with AddressSanitizer or run by valgrind, which keep freed memory on purpose?"""
    with open(f"/proc/{pid}/maps") as file:
        return re.search("libasan|/memcheck-", file.read()) is not None


def cpu_seconds(pid):
    fields = stat(pid)
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def wakeups(pid):
    """How often the process went to sleep by itself, which it does once for each time it was woken."""
    return int(status(pid)["voluntary_ctxt_switches"])


def netns(pid):
    return os.readlink(f"/proc/{pid}/ns/net")


@contextlib.contextmanager
def stopped(pid):
    """It does not run for the length of the block."""
    os.kill(pid, signal.SIGSTOP)
    waits.until(lambda: stat(pid)[0] == "T", "the process to stop")
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)
