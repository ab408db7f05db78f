# SPDX-License-Identifier: ISC
"""Waiting on conditions with a deadline; nothing here or in the tests waits for a fixed time to pass and then hopes."""

import os
import select
import time

STEP = 0.005            # seconds between two looks at a condition that cannot be waited for in the kernel
# Seconds; long enough for a loaded machine (and for valgrind), only ever spent by a test that fails.
PATIENCE = 80.0 if os.environ.get("NSPROXY_VALGRIND") else 20.0


class Timeout(AssertionError):
    """The condition did not come true in time."""


def until(condition, what, timeout=PATIENCE):
    """The first true value of condition(); Timeout naming `what` when the deadline passes first. `what` may be a callable."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise Timeout(f"not within {timeout:g} s: {what() if callable(what) else what}")
        select.select([], [], [], STEP)


def stays(condition, seconds, what):
    """Fails as soon as condition() is false within the given time: for what must NOT happen."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert condition(), f"changed within {seconds:g} s: {what}"
        select.select([], [], [], STEP)


def readable(sock, seconds):
    """Does sock get readable (data, end or error) within that time?"""
    return bool(select.select([sock], [], [], seconds)[0])
