# SPDX-License-Identifier: ISC
"""Clients and targets in numbers that are too high for an interpreter: tests/helpers/crowd.c, which has what each command does."""

import contextlib
import json
import select
import subprocess

from . import stand_in, waits

PATIENCE = waits.PATIENCE + 60          # seconds; its own are 60
ROUND_TRIP = 0.002      # seconds of a pong, however busy the machine is


class Command:
    """One run of it in a namespace. It goes on, or keeps its connections, until close(). It says each line within `patience` seconds."""

    def __init__(self, space, *words, patience=PATIENCE):
        self.patience = patience
        self.process = space.popen([stand_in.find("crowd"), *map(str, words)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def line(self):
        assert select.select([self.process.stdout], [], [], self.patience)[0], f"crowd {self.process.args[1]} said nothing within {self.patience:g} s"
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
        try:
            self.process.wait(60)
        finally:
            self.process.kill()
            self.process.stdout.close()


class Target(Command):
    """Sends back what it gets, by so many processes."""

    def __init__(self, space, host, processes=3):
        super().__init__(space, "target", host, processes)
        self.port = int(self.line())


def burst(space, host, port, count, processes=3):
    return Command(space, "burst", host, port, count, processes)


def pong(space, host, port, count):
    return Command(space, "pong", host, port, count, patience=PATIENCE + count * ROUND_TRIP)


def flood(space, host, port, seconds):
    return Command(space, "flood", host, port, seconds)
