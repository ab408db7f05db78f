# SPDX-License-Identifier: ISC
"""nsproxyctl of the installation under test, and its protocol by hand for clients that do not behave."""

import json
import os
import re
import socket
import struct
import subprocess

NOT_RUNNING = 7
HEADER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "..", "src", "msg.h")


class Control:
    """One control socket. run() gives the finished process, ask() the parsed JSON of a command that must succeed."""

    def __init__(self, install, path):
        self.program = os.path.join(install.prefix, "sbin", "nsproxyctl")
        self.path = str(path)

    def present(self):
        return os.access(self.program, os.X_OK)

    def run(self, *words, **popen):
        return subprocess.run([self.program, "-s", self.path, *[str(word) for word in words]], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=60, check=False, **popen)

    def ask(self, *words, **popen):
        done = self.run("--json", *words, **popen)
        assert done.returncode == 0, f"nsproxyctl {' '.join(map(str, words))} gave {done.returncode}: {done.stderr}"
        return json.loads(done.stdout)

    def socket(self):
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        sock.connect(self.path)
        return sock


class FullQueue:
    """A control socket on which nobody accepts: connections queue while there is room, whoever comes after that waits."""

    def __init__(self, path, room):
        self.path = path
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.listener.bind(path)
        self.listener.listen(room - 1)      # the kernel lets one more in
        self.fillers = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for sock in (self.listener, *self.fillers):
            sock.close()

    def fill(self):
        """Takes what room is left; how many there are in it now that are ours."""
        while True:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            self.fillers.append(sock)
            sock.setblocking(False)
            try:
                sock.connect(self.path)
            except BlockingIOError:
                return len(self.fillers) - 1


def version():
    with open(HEADER, encoding="utf-8") as file:
        return int(re.search(r"#define MSG_VERSION (\d+)u", file.read())[1])


def ask_record(message_type, verb, number=None, count=1):
    """MSG_ASK for everything of a verb, its head as given."""
    any_ = 0xffffffff
    body = struct.pack("=6IQ24s64s", verb, any_, any_, any_, 0, 0, 0, b"", b"")
    return struct.pack("=HHI", message_type, count, version() if number is None else number) + body


def message_types():
    """Names of msg.def in order: a type's number is its place."""
    path = os.path.join(os.path.dirname(HEADER), "msg.def")
    with open(path, encoding="utf-8") as file:
        return re.findall(r"^MSG\((\w+),", file.read(), re.M)
