# SPDX-License-Identifier: ISC
"""Running processes under strace: which system calls they make, and errors injected into them."""

import collections
import contextlib
import os
import re
import select
import shutil
import signal
import subprocess
import tempfile

from . import proc, waits


def present():
    return shutil.which("strace") is not None


@contextlib.contextmanager
def attached(pids, *options):
    """strace on these processes (and what they start) for the length of the block; a process that it cannot follow is an error."""
    with tempfile.TemporaryFile("w+") as said:
        arguments = [word for pid in pids for word in ("-p", str(pid))]
        process = subprocess.Popen(["strace", "-f", "-q", *options, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=said)
        try:
            waits.until(lambda: process.poll() is not None or all(_traced(pid) for pid in pids), "strace to attach", 10)
            if process.poll() is not None:
                said.seek(0)
                raise AssertionError(f"strace: {said.read()}")
            yield process
        finally:
            let_go(process, pids)


def let_go(process, pids):
    """
    Ends strace while nobody is between the two halves of a system call: there an injected call would be left with ENOSYS in place of the error. A stop signal
    is taken between calls.
    """
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
    looks = 0
    while looks < 4:            # traced calls are short stops as well, so it must last
        looks = looks + 1 if all((proc.stat(pid) or "Z")[0] in "tTZX" for pid in pids) else 0
        select.select([], [], [], waits.STEP / 2)
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
    process.wait(20)
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def _traced(pid):
    try:
        with open(f"/proc/{pid}/status", encoding="ascii") as status:
            return re.search(r"^TracerPid:\s+[1-9]", status.read(), re.M) is not None
    except OSError:
        return False


@contextlib.contextmanager
def calls(pids):
    """Counts of the system calls made in the block, by process: {pid: Counter(name)}. Filled when the block ends."""
    counts = collections.defaultdict(collections.Counter)
    with tempfile.NamedTemporaryFile("r") as log:
        with attached(pids, "-o", log.name):
            yield counts
        for line in log:
            match = re.match(r"(\d+)\s+(?:<\.\.\. )?(\w+)(\(| resumed)", line)
            if match and match[3] == "(":
                counts[int(match[1])][match[2]] += 1


def injecting(pids, call, errno, when):
    """In the block the when-th call ("3"), or every one from there on ("3+"), of each process fails with errno and is not made."""
    return attached(pids, "-o", "/dev/null", "-e", f"trace={call}", "-e", f"inject={call}:error={errno}:when={when}")
