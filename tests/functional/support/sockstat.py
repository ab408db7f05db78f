# SPDX-License-Identifier: ISC
"""
What /proc/net/sockstat says of a namespace, and whether it is back at the end of a test.

`sockets: used` and `TCP: inuse` are the namespace's own: they count every socket that somebody holds or that the kernel still has to end, listeners
included, and must be no more than before. `tw` is its own, too, but not compared: a connection that is over in order stays there for a minute, as it
should. `orphan`, `alloc` and `mem` are those of the whole machine. Memory of TCP belongs to sockets, so that none can be left where no socket is;
but the kernel could lose account of it. So `mem` must be back, too, within what processors keep for themselves, at some moment at which nobody else on the
machine has more sockets than before. What others are at work with comes and goes, while an account that is lost stays as it is: `mem` is judged only
where it and `alloc` were the same for the last seconds of the wait.
"""

import contextlib
import os
import time

from . import waits

OWN = ("sockets used", "TCP inuse", "TCP6 inuse")
STILL = 5.0             # seconds without any change: nobody is at work
RESERVE = 256           # pages that a processor may have taken or given without saying so: net.core.mem_pcpu_rsv as it is by default


def read(space):
    """{"TCP inuse": 3, ...} of a namespace."""
    found = {}
    for name in ("sockstat", "sockstat6"):
        with contextlib.suppress(FileNotFoundError), space.inside(), open(f"/proc/thread-self/net/{name}") as file:
            for line in file:
                key, _, rest = line.partition(":")
                words = rest.split()
                found |= {f"{key} {word}": int(value) for word, value in zip(words[::2], words[1::2])}
    return found


def reserve():
    """Pages by which `mem` may differ, though nothing is different: both readings may be off by what each processor keeps."""
    each = RESERVE
    with contextlib.suppress(OSError), open("/proc/sys/net/core/mem_pcpu_rsv") as file:
        each = int(file.read())
    return 2 * each * os.cpu_count()


class Sockstat:
    """As it is now; wait_back() later."""

    def __init__(self, space):
        self.space, self.before = space, read(space)
        self._machine, self._since = None, 0.0          # alloc and mem, and since when they are the same
        self._own, self._memory = {}, {}                # what there is more of: {key: (before, now)}

    def _back(self):
        now = read(self.space)
        machine = now["TCP alloc"], now["TCP mem"]
        if machine != self._machine:
            self._machine, self._since = machine, time.monotonic()
        self._own = {key: (self.before.get(key, 0), now[key]) for key in OWN if now.get(key, 0) > self.before.get(key, 0)}
        lost = now["TCP alloc"] <= self.before["TCP alloc"] and now["TCP mem"] > self.before["TCP mem"] + reserve()
        self._memory = {"TCP mem": (self.before["TCP mem"], now["TCP mem"])} if lost else {}
        return not self._own and not self._memory

    def wait_back(self):
        try:
            waits.until(self._back, lambda: f"sockets and memory of {self.space.name} back: (before, now) {self._own | self._memory}")
        except waits.Timeout:
            if self._own or time.monotonic() - self._since >= STILL:
                raise
