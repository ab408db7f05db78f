# SPDX-License-Identifier: ISC
"""
What somebody gains who owns a worker: a program made of the worker's own parts enters the real sandbox and then tries one forbidden thing, one process for
each attempt. Each must end in SIGSYS, or be refused with EPERM or EACCES; controls, which are allowed, must work.
"""

import errno
import os
import re
import signal
import subprocess

import pytest

from conftest import LONG
from support import peers, proc, rows, stand_in, waits

REFUSED = (os.strerror(errno.EPERM), os.strerror(errno.EACCES))
KILLED = f"killed by signal {signal.SIGSYS.value}"
NEEDS_LANDLOCK = {"connect to another port"}
LANDLOCK_CREATE_RULESET, NET_SINCE = 444, 4


def landlock_abi():
    import ctypes
    return ctypes.CDLL(None).syscall(LANDLOCK_CREATE_RULESET, None, 0, 1)


def attempts():
    """[(name, must it work?)]"""
    listed = subprocess.run([stand_in.find("probe_worker"), "list"], capture_output=True, text=True, check=False)
    if listed.returncode == 77:
        pytest.skip("a sanitizer needs system calls that a shipped worker may not make")
    assert listed.returncode == 0
    return [(name.removeprefix("+"), name.startswith("+")) for name in listed.stdout.splitlines()]


def outcomes(proxy, names, first_line):
    """{attempt: what became of it}, from the parent's lines about deaths and the probes' own."""
    found = {}
    for line in list(proxy.lines)[first_line:]:
        match = re.search(r"worker (\d+) \[.*\] \(process \d+\) ended: ((?:killed by signal|exited with code) \d+)", line.text)
        if match:
            found.setdefault(names[int(match[1])], match[2])
        match = re.search(r"worker \d+: probe (.*): (.*)$", line.text)
        if match:
            found[match[1]] = match[2]
    return found


def verdict(outcome, must_work):
    """None, or what is wrong."""
    if must_work:
        return None if outcome == "went through" else f"should work, but: {outcome}"
    return None if outcome == KILLED or outcome in REFUSED else f"not stopped: {outcome}"


def test_the_verdict_can_fail():
    assert verdict("went through", False) and verdict("Invalid argument", False) and verdict("killed by signal 9", False) and verdict(KILLED, True)
    assert not verdict(KILLED, False) and not verdict(REFUSED[0], False) and not verdict("went through", True)


@pytest.mark.parametrize("engine_of_probe", ["adaptive", "io_uring"])
def test_every_attempt_is_stopped(world, figure, engine_of_probe):
    listed = attempts()
    names = [name for name, _ in listed]
    server = world.serve(peers.echo)
    made = stand_in.StandIn(world.install, "probe_worker", world.directory)
    with subprocess.Popen([world.install.nsproxy, "-V"], stdout=subprocess.PIPE, text=True) as version:
        if not re.search(rf"\b{engine_of_probe}\b(?! \(not usable)", version.stdout.read()):
            pytest.skip(f"no engine {engine_of_probe} here")
    proxy = world.relay(server, engine_of_probe, workers=len(listed), popen={"preexec_fn": made.preexec_fn})
    # Controls keep what they got; the parent is looked at below.
    proxy.check_workers = proxy.check_descriptors = world.check_sockets = False
    proxy.expect_log("worker", "cannot do the engine io_uring")   # so many rings of one user exceed its limit of locked memory
    before = proc.descriptor_kinds(proxy.pid)
    landlock = landlock_abi() >= NET_SINCE
    tried = [pid for pid in proxy.workers()]
    assert len(tried) == len(listed)
    first = len(proxy.lines)
    for pid in tried:
        os.kill(pid, signal.SIGUSR1)
    waits.until(lambda: len(outcomes(proxy, names, first)) == len(names),
                lambda: f"an outcome of each attempt; missing: {set(names) - set(outcomes(proxy, names, first))}", 60)
    found = outcomes(proxy, names, first)
    wrong, blocked, total = [], 0, 0
    for name, must_work in listed:
        problem = verdict(found[name], must_work)
        if name in NEEDS_LANDLOCK and not landlock:
            print(f"{name:45} -> {found[name]} (this kernel has no Landlock for ports)")
            continue
        print(f"{name:45} -> {found[name]}{'   <-- ' + problem if problem else ''}")
        total += not must_work
        blocked += not must_work and not problem
        if problem:
            wrong.append(f"{name}: {problem}")
    text = f"{blocked} of {total} attempts stopped, {sum(must for _, must in listed)} controls work"
    figure(text)
    rows.record(34, engine_of_probe, text)
    assert proxy.alive() and not wrong, "\n".join(wrong)
    waits.until(lambda: len([pid for pid in proxy.workers() if proc.alive(pid)]) == len(listed), "every worker replaced", 60)
    waits.until(lambda: proc.descriptor_kinds(proxy.pid) == before, "the parent's descriptors as before")
    waits.until(lambda: server.accepted >= 1, "the control's connection at the target")
