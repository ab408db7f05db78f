# SPDX-License-Identifier: ISC
"""A program on a terminal of its own: what it draws is read by a terminal emulator (pyte), keys are typed, the window changes its size."""

import fcntl
import os
import re
import select
import struct
import subprocess
import termios
import time

import pytest

from . import waits


class Terminal:
    """
    Starts argv on a new terminal. `kind` is its TERM, `utf8` whether its locale is UTF-8. Only what this class reads counts as drawn: the methods that wait
    read meanwhile.
    """

    def __init__(self, argv, rows=24, columns=80, kind="linux", utf8=True, env=None):
        pyte = pytest.importorskip("pyte", reason="python3-pyte is missing")
        self.screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self.screen)
        self.raw = bytearray()
        self._master, slave = os.openpty()
        self.resize(rows, columns)
        self.modes = termios.tcgetattr(slave)       # before anybody has changed them
        environment = {"PATH": os.environ["PATH"], "TERM": kind, "LC_ALL": "C.UTF-8" if utf8 else "C", **(env or {})}
        self.process = subprocess.Popen(argv, stdin=slave, stdout=slave, stderr=slave, env=environment, start_new_session=True,
                                        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
        self._slave = slave

    def resize(self, rows, columns):
        """As a terminal does when its window is pulled: the kernel sends SIGWINCH."""
        self.screen.resize(rows, columns)
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def read(self, seconds=0.0):
        """Takes what has been written, waiting so long for the first of it. True: there was something."""
        some = False
        while select.select([self._master], [], [], 0 if some else seconds)[0]:
            try:
                data = os.read(self._master, 1 << 16)
            except OSError:         # nobody has the terminal open any more
                return some
            if not data:
                return some
            self.raw += data
            self._stream.feed(data)
            some = True
        return some

    def type(self, text):
        os.write(self._master, text.encode())

    def text(self):
        return "\n".join(line.rstrip() for line in self.screen.display)

    def lines(self):
        return [line.rstrip() for line in self.screen.display]

    def wait(self, pattern, timeout=waits.PATIENCE):
        """The match of a pattern on the screen, read until it is there; ^ and $ are those of lines."""
        regex = re.compile(pattern, re.M)

        def there():
            self.read(0.02)
            return regex.search(self.text())
        return waits.until(there, lambda: f"{pattern!r} on the screen:\n{self.text()}", timeout)

    def wait_gone(self, pattern, timeout=waits.PATIENCE):
        regex = re.compile(pattern, re.M)

        def gone():
            self.read(0.02)
            return not regex.search(self.text())
        waits.until(gone, lambda: f"{pattern!r} gone from the screen:\n{self.text()}", timeout)

    def wait_exit(self, timeout=waits.PATIENCE):
        deadline = time.monotonic() + timeout
        while self.process.poll() is None:
            self.read(0.02)         # a program whose terminal is full does not end
            if time.monotonic() > deadline:
                raise waits.Timeout(f"did not end within {timeout:g} s; screen:\n{self.text()}")
        self.read()
        return self.process.returncode

    def modes_now(self):
        return termios.tcgetattr(self._slave)

    def hang_up(self):
        """The window is closed."""
        os.close(self._slave)
        self._slave = -1
        os.close(self._master)
        self._master = -1

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for fd in (self._master, self._slave):
            if fd >= 0:
                os.close(fd)
        self._master = self._slave = -1
