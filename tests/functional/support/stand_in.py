# SPDX-License-Identifier: ISC
"""Another program in the place of nsproxy-worker, seen by one daemon only: a directory mounted over libexec in a mount namespace of its own."""

import ctypes
import os
import shutil
import subprocess

import pytest

from . import netns

MS_BIND = 0x1000
_libc = ctypes.CDLL(None, use_errno=True)


def find(name):
    """A program built for the tests: in NSPROXY_HELPERS, else below the build directory."""
    directory = os.environ.get("NSPROXY_HELPERS") or os.path.join(os.environ.get("builddir", "."), "tests", "helpers")
    path = os.path.join(directory, name)
    if not os.access(path, os.X_OK):
        pytest.skip(f"{path} is not built (make check builds it; NSPROXY_HELPERS names its directory)")
    return path


class StandIn:
    """A daemon whose Popen gets `preexec_fn` uses the given program as its worker."""

    def __init__(self, install, name, directory):
        self.directory, self.target = os.path.join(directory, "libexec"), install.libexec
        os.mkdir(self.directory)
        shutil.copy(os.path.join(install.libexec, "nsproxy-reporter"), self.directory)
        self.worker = os.path.join(self.directory, "nsproxy-worker")
        shutil.copyfile(find(name), self.worker)
        os.chmod(self.worker, 0o755)
        try:
            subprocess.run(["true"], preexec_fn=self.preexec_fn, check=True)
        except subprocess.SubprocessError:
            pytest.skip(f"a directory cannot be mounted over {install.libexec} here: that needs root, or a user namespace")

    def preexec_fn(self):
        """In the child, before exec."""
        if _libc.unshare(netns.CLONE_NEWNS) != 0 or _libc.mount(self.directory.encode(), self.target.encode(), None, ctypes.c_ulong(MS_BIND), None) != 0:
            raise OSError(ctypes.get_errno(), "mount")

    def signal(self, on):
        """Sets the one thing that the program may look at whatever its sandbox: the mtime of its file."""
        os.utime(self.worker, (1, 1) if on else (2, 2))
