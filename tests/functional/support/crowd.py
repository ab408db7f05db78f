# SPDX-License-Identifier: ISC
"""Clients and targets in numbers that are too high for an interpreter: tests/helpers/crowd.c, which has what each command does."""

import contextlib
import json
import subprocess

from . import stand_in


class Command:
    """One run of it in a namespace. It goes on, or keeps its connections, until close()."""

    def __init__(self, space, *words):
        self.process = space.popen([stand_in.find("crowd"), *map(str, words)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def line(self):
        text = self.process.stdout.readline()
        assert text, f"crowd {self.process.args[1]} ended with {self.process.wait()}, see above"
        return text

    def result(self):
        """What it measured."""
        return json.loads(self.line())

    def running(self):
        return self.process.poll() is None

    def let_go(self):
        """Ends its standard input; a flood then says what it has sent."""
        with contextlib.suppress(OSError):
            self.process.stdin.close()

    def close(self):
        self.let_go()
        self.process.wait(60)
        self.process.stdout.close()


class Target(Command):
    """Sends back what it gets, by so many processes."""

    def __init__(self, space, host, processes=3):
        super().__init__(space, "target", host, processes)
        self.port = int(self.line())


def burst(space, host, port, count, processes=3):
    return Command(space, "burst", host, port, count, processes)


def pong(space, host, port, count):
    return Command(space, "pong", host, port, count)


def flood(space, host, port, seconds):
    return Command(space, "flood", host, port, seconds)
