# SPDX-License-Identifier: ISC
"""A memory control group for a daemon: all that it uses, its part of the kernel's memory included."""

import os

V1, V2 = "/sys/fs/cgroup/memory", "/sys/fs/cgroup"


class MemoryGroup:
    """Either version of control groups. OSError when none can be made here."""

    def __init__(self, name):
        self.v1 = os.path.isdir(V1)
        self.path = os.path.join(V1 if self.v1 else V2, name)
        os.mkdir(self.path)
        if not os.path.exists(self._usage()):
            os.rmdir(self.path)
            raise OSError("the memory controller is not enabled")

    def _usage(self):
        return os.path.join(self.path, "memory.usage_in_bytes" if self.v1 else "memory.current")

    def enter(self):
        """For a child before exec."""
        with open(os.path.join(self.path, "cgroup.procs"), "w") as file:
            file.write("0")

    def bytes(self):
        with open(self._usage()) as file:
            return int(file.read())

    def limit(self, most):
        """What would need more loses a process to the kernel. Nothing goes to swap space in its place."""
        with open(os.path.join(self.path, "memory.swappiness" if self.v1 else "memory.swap.max"), "w") as file:
            file.write("0")
        with open(os.path.join(self.path, "memory.limit_in_bytes" if self.v1 else "memory.max"), "w") as file:
            file.write(str(most))

    def remove(self):
        os.rmdir(self.path)
