# SPDX-License-Identifier: ISC
"""
The programs under valgrind, with every process that they start: NSPROXY_VALGRIND names a directory for what that needs and says. They must be built with
--enable-test-hooks, since valgrind itself calls and writes what no sandbox allows.
"""

import collections
import os
import re
import shlex
import shutil
import threading

from . import waits

DIRECTORY = os.environ.get("NSPROXY_VALGRIND")
# Memory that nobody points to any more when a process ends in order is an error like any other. An error shows in the exit code as well.
OPTIONS = ("--tool=memcheck", "--trace-children=yes", "--vgdb=no", "--error-exitcode=99", "--leak-check=full", "--show-leak-kinds=definite,indirect",
           "--errors-for-leak-kinds=definite,indirect", "--num-callers=20")
# A worker has memory set aside for all connections that its descriptors allow, and valgrind looks through it for pointers when the worker ends.
DESCRIPTORS = 1024
LINE = re.compile(r"[=*-]{2}(\d+)[=*-]{2} (.*)")


class Memcheck:
    """
    What every process says goes through one fifo: a file for each would be begun anew by a process that executes another program. A fifo of this
    directory is also open to workers, who are somebody else by then.
    """

    def __init__(self):
        self.counts = collections.Counter()         # processes by program
        self._lines = []
        self._seen = threading.Condition()
        self._marks = 0
        os.makedirs(DIRECTORY, exist_ok=True)
        os.chmod(DIRECTORY, 0o755)
        self.fifo = os.path.join(DIRECTORY, f"fifo-{os.getpid()}")
        os.mkfifo(self.fifo)
        os.chmod(self.fifo, 0o666)
        self._end = os.open(self.fifo, os.O_RDWR | os.O_CLOEXEC)        # also for writing, so that it never ends
        threading.Thread(target=self._read, daemon=True).start()

    def wrapped(self, program):
        """The path of a program that runs this one under valgrind."""
        valgrind = shutil.which("valgrind")
        assert valgrind, "valgrind is not installed"
        path = os.path.join(DIRECTORY, os.path.basename(program))
        with open(path, "w", encoding="utf-8") as file:
            file.write(f"#!/bin/sh\nulimit -n {DESCRIPTORS}\nexec {shlex.join([valgrind, *OPTIONS, f'--log-file={self.fifo}'])} {shlex.quote(program)} \"$@\"\n")
        os.chmod(path, 0o755)
        return path

    def _read(self):
        with open(self._end, encoding="utf-8", errors="backslashreplace") as stream, \
                open(os.path.join(DIRECTORY, "log"), "a", encoding="utf-8") as log:
            for line in stream:
                log.write(line)
                log.flush()
                with self._seen:
                    self._lines.append(line.rstrip("\n"))
                    self._seen.notify_all()

    def _all_lines(self):
        """Those since the last time. Everybody has ended, so a line of our own comes behind all others."""
        self._marks += 1
        mark = f"-- judged {self._marks} --"
        os.write(self._end, f"{mark}\n".encode())
        with self._seen:
            assert self._seen.wait_for(lambda: mark in self._lines, waits.PATIENCE)
            lines, self._lines = self._lines, []
        return lines

    def findings(self):
        """What valgrind found in processes that have ended since the last time, one text for each process."""
        said = collections.defaultdict(list)
        for match in filter(None, map(LINE.match, self._all_lines())):
            said[match[1]].append(match[2])
        for text in said.values():
            for line in text:
                if line.startswith("Command: "):
                    self.counts[os.path.basename(line.split()[1])] += 1
        # Each finding has a stack. One that was killed has no summary.
        return [f"process {pid}:\n" + "\n".join(text) for pid, text in said.items() if any(re.match(r" +(at|by) 0x", line) for line in text)]

    def unseen(self):
        """Programs of which it saw no process: nothing was found in them because nobody looked."""
        return sorted({"nsproxy", "nsproxy-reporter", "nsproxy-worker"} - set(self.counts))

    def summary(self):
        return "valgrind looked at " + ", ".join(f"{number} {name}" for name, number in sorted(self.counts.items()))
