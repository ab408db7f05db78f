#!/usr/bin/env python3
# SPDX-License-Identifier: ISC
"""
Measures nsproxy beside what people would use in its place, between two network namespaces of this machine, all in one run.

    make bench                                  all of it, on what make check installs below the build directory
    bench.py --prefix /usr/local --cases rr64,crr64 --only nsproxy-adaptive,nginx-fd --rounds 5

README.md beside this file says what each figure means, and what can make them wrong.
"""

import argparse
import collections
import contextlib
import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True       # nothing is left in the source tree

import relays
import report
from place import PORTS, TARGET, LISTEN, Group, Missing, Namespace, allowed, machine_cpu, more_descriptors

HERE = os.path.dirname(os.path.abspath(__file__))
SETTLE, IDLE_SECONDS, IDLE_END = 1.0, 2.0, 30

Case = collections.namedtuple("Case", "text options unit")
MAIN = {
    "up1": Case("one client sends", "up -c 1", "GiB"),
    "up8": Case("eight clients send", "up -c 8", "GiB"),
    "down8": Case("eight clients receive, the kernel drops what they read", "down -c 8", "GiB"),
    "down8copy": Case("eight clients receive and keep what they read", "down -c 8 -k", "GiB"),
    "rr1": Case("one exchange of 64 bytes after the other", "rr -c 1", "op"),
    "rr64": Case("64 connections exchange 64 bytes", "rr -c 64", "op"),
    "rr4k": Case("4000 connections exchange 64 bytes", "rr -c 4000", "op"),
    "crr1": Case("connect, exchange 64 bytes, close; one after the other", "crr -c 1", "op"),
    "crr64": Case("connect, exchange 64 bytes, close; 64 at a time", "crr -c 64", "op"),
    "idle4k": Case("4000 connections without traffic", "idle -c 4000", "idle"),
}
SCALING = {f"conns{n}": Case(f"{n} connections exchange 64 bytes", f"rr -c {n}", "op") for n in (1, 10, 100, 1000, 8000)}
CASES = {**MAIN, **SCALING}
WORKER_CASES = ("up8", "down8", "rr64", "crr64")
LOG_CASES = ("rr64", "crr1", "crr64")
SCALING_PEERS = ("haproxy-fd-copy", "nginx-fd", "kernel-dnat", "direct")
GROUPS = ("main", "scaling", "workers")


class Site:
    """Everything that a run makes on this machine, and removes."""

    def __init__(self, options, stack):
        name = f"nsbench{os.getpid()}"
        self.directory = tempfile.mkdtemp(prefix="nsbench")
        stack.callback(shutil.rmtree, self.directory, ignore_errors=True)
        os.chmod(self.directory, 0o755)
        self.load = os.path.abspath(options.load) if options.load else build_load(self.directory)
        self.group = Group(name)
        stack.callback(self.group.remove)
        stack.enter_context(allowed(options.congestion_control))
        self.public = Namespace(f"{name}-pub", LISTEN, options.congestion_control)
        stack.callback(self.public.remove)
        self.private = Namespace(f"{name}-priv", TARGET, options.congestion_control)
        stack.callback(self.private.remove)
        self.target = self.private.popen([self.load, "serve", "0.0.0.0", str(PORTS[0])], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
        stack.callback(self._end_target)
        if self.target.stdout.readline() != "ready\n":
            raise Missing("the target does not start")

    def _end_target(self):
        self.target.kill()
        self.target.wait()
        self.target.stdout.close()

    def file(self, name, text):
        path = os.path.join(self.directory, name)
        with open(path, "w", encoding="ascii") as file:
            file.write(text)
        return path


def build_load(directory):
    """The load generator, where make has not built it."""
    path = os.path.join(directory, "load")
    subprocess.run([os.environ.get("CC") or "cc", "-std=gnu11", "-D_GNU_SOURCE=", "-O2", "-o", path, os.path.join(HERE, "load.c")], check=True)
    return path


def sweep():
    """What a run that was killed has left."""
    def orphan(name):
        found = re.match(r"nsbench(\d+)", name)
        return found and not os.path.exists(f"/proc/{found[1]}")
    for root in ("/sys/fs/cgroup/cpuacct", "/sys/fs/cgroup"):
        for name in filter(orphan, os.listdir(root) if os.path.isdir(root) else []):
            left = Group.__new__(Group)
            left.v1 = root.endswith("cpuacct")
            left.dirs = [path for path in (f"{root}/{name}", *([f"/sys/fs/cgroup/memory/{name}"] if left.v1 else [])) if os.path.isdir(path)]
            left.remove()
    for name in filter(orphan, os.listdir("/run/netns") if os.path.isdir("/run/netns") else []):
        subprocess.run(["ip", "netns", "del", name], check=False)


def difference(after, before):
    return None if after is None or before is None else after - before


def look_at_idle(group, before, connections):
    """Memory of each connection, and CPU in per cent of one processor, while nothing moves."""
    time.sleep(SETTLE)
    memory, cpu = difference(group.memory(), before), group.cpu()
    time.sleep(IDLE_SECONDS)
    spent = difference(group.cpu(), cpu)
    return {"memory": None if memory is None else memory / connections / 1024, "idle_cpu": None if spent is None else spent / IDLE_SECONDS * 100}


def figures(unit, result, cpu, whole):
    """The load generator's result, and the CPU spent meanwhile, as rates and costs."""
    done = result["bytes"] / 2**30 if unit == "GiB" else result["operations"] / 1e6
    row = {"errors": result["errors"], "cost": cpu / done if cpu is not None and done else None, "whole": whole / done if done else None}
    row["rate"] = done / result["seconds"] * (1 if unit == "GiB" else 1000)
    if unit != "GiB" and result["operations"]:
        row |= {key: result[key] for key in ("p50", "p99", "p999")}
    return row


def measure(running, case, seconds):
    """One case on one relay that runs: a row of figures."""
    group, relay = running.site.group, running.relay
    mode, *options = case.options.split()
    connections, counted = int(options[1]), bool(relay.commands)
    before = group.memory()
    if case.unit == "idle":
        seconds = IDLE_END      # at most: the last exchange of each connection, which shows that it still works
    client = running.client_space().popen([running.site.load, mode, relay.address, str(PORTS[0]), *options, "-t", str(seconds)], stdin=subprocess.PIPE,
                                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        ready = client.stdout.readline().split()
        extra = look_at_idle(group, before, connections) if ready and case.unit == "idle" else {}
        cpu, whole = group.cpu(), machine_cpu()
        with contextlib.suppress(BrokenPipeError):
            client.stdin.write("\n")
            client.stdin.flush()
        line = client.stdout.readline()
        cpu, whole = difference(group.cpu(), cpu) if counted else None, machine_cpu() - whole
    finally:
        with contextlib.suppress(BrokenPipeError):
            client.stdin.close()
        said = client.stderr.read().strip()
        client.wait()
        client.stdout.close()
        client.stderr.close()
    if not line:
        print(f"{relay.name}, {case.options}: {said}", file=sys.stderr)
        return {"errors": connections}
    if case.unit == "idle":
        return {"errors": json.loads(line)["errors"], "rate": connections / max(float(ready[1]), 1e-3), **extra}
    return figures(case.unit, json.loads(line), cpu, whole)


def wanted(relay, options):
    """Names of the cases for this relay. Without --only, each is measured only where its figures tell something."""
    chosen = [name for name in CASES if name in options.cases or (name in MAIN and "main" in options.cases) or (name in SCALING and "scaling" in options.cases)]
    pool = re.search(r"-w\d+$", relay.name)
    if not options.only:
        if pool:
            chosen = list(WORKER_CASES) if "workers" in options.cases else []
        elif relay.name.endswith("-log"):
            chosen = [name for name in chosen if name in LOG_CASES]
        elif not relay.name.startswith("nsproxy-") and relay.name not in SCALING_PEERS:
            chosen = [name for name in chosen if name not in SCALING]
    elif pool and "workers" in options.cases:
        chosen += [name for name in WORKER_CASES if name not in chosen]
    # Memory first: what a case with thousands of connections has left in the kernel's caches of the control group would be used again, for nothing.
    return sorted((name for name in chosen if name not in relay.leave_out), key=lambda name: CASES[name].unit != "idle")


def one_relay(site, relay, cases, options, results):
    try:
        running = relays.Running(relay, site)
    except (Missing, OSError, subprocess.CalledProcessError) as why:
        print(f"left out of this round: {relay.name}: {why}", file=sys.stderr)
        return
    try:
        for name in cases:
            results.setdefault(name, {}).setdefault(relay.name, []).append(measure(running, CASES[name], options.secs))
    finally:
        running.stop()


def run(options):
    """All rounds: {"machine", "versions", "results": {case: {relay: [row of each round]}}}."""
    program = relays.nsproxy_program(options.prefix)
    with contextlib.ExitStack() as stack:
        site = Site(options, stack)
        found, missing = relays.available(site, program)
        for why in missing:
            print(f"left out: {why}", file=sys.stderr)
        if site.group.problem:
            print(f"no CPU and memory of the relays: no control group ({site.group.problem})", file=sys.stderr)
        for name in options.only:
            if name not in found:
                raise Missing(f"no relay {name} here; there are: {' '.join(found)}")
        plan = [(relay, wanted(relay, options)) for relay in found.values() if not options.only or relay.name in options.only]
        plan = [(relay, cases) for relay, cases in plan if cases]
        for relay in (relay for relay, _ in plan if relay.note):
            print(f"{relay.name}: {relay.note}", file=sys.stderr)
        results = {}
        for number in range(options.rounds):
            # Neighbours in time disturb each other: nobody always follows the same, and nobody is always first.
            turn = number * len(plan) // options.rounds
            for relay, cases in plan[turn:] + plan[:turn]:
                print(f"round {number + 1} of {options.rounds}: {relay.name}", file=sys.stderr)
                one_relay(site, relay, cases, options, results)
    order, names = list(CASES), [relay.name for relay, _ in plan]
    return {
        "machine": machine(options), "rounds": options.rounds, "seconds": options.secs, "versions": {relay.name: relay.version for relay, _ in plan},
        "results": {case: {name: results[case][name] for name in names if name in results[case]} for case in order if case in results},
    }


def machine(options):
    model = "unknown processor"
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
        model = next((line.partition(":")[2].strip() for line in file if line.startswith("model name")), model)
    return {"kernel": os.uname().release, "processors": len(os.sched_getaffinity(0)), "model": model, "congestion_control": options.congestion_control}


def words(text):
    return [word for word in text.split(",") if word]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prefix", default=os.environ.get("NSPROXY_PREFIX", "/usr/local"), help="installation of nsproxy to measure")
    parser.add_argument("--only", type=words, default=[], metavar="RELAYS", help="these relays, each in all the cases asked for")
    parser.add_argument("--cases", type=words, default=list(GROUPS), metavar="CASES", help=f"of {' '.join(CASES)}, or groups: {' '.join(GROUPS)}")
    parser.add_argument("--rounds", type=int, default=3, help="how often each is measured (default: 3)")
    parser.add_argument("--secs", type=float, default=2, help="length of each measurement (default: 2)")
    parser.add_argument("--json", metavar="FILE", help="write all figures of all rounds there")
    parser.add_argument("--from", dest="source", metavar="FILE", help="measure nothing, show the figures of an earlier --json")
    parser.add_argument("--plots", metavar="DIR", help="draw SVG plots there (needs gnuplot)")
    parser.add_argument("--readme", action="store_true", help="print the Markdown table only")
    parser.add_argument("--load", metavar="PROGRAM", help="the load generator, where it is built already")
    parser.add_argument("--no-wait", action="store_true", help="start even while another run measures")
    parser.add_argument("--congestion-control", default="cubic", metavar="NAME")
    options = parser.parse_args()
    for name in options.cases:
        if name not in CASES and name not in GROUPS:
            parser.error(f"no case {name}")
    if options.rounds < 1 or options.secs <= 0:
        parser.error("nothing would be measured")
    return options


def end_orderly(number, _):
    sys.exit(128 + number)


def only_one():
    """Two runs at the same time measure each other."""
    lock = open(os.path.abspath(__file__), "rb")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print("waiting for another run to end", file=sys.stderr)
        fcntl.flock(lock, fcntl.LOCK_EX)
    return lock


def main():
    options = arguments()
    if options.source:
        with open(options.source, encoding="utf-8") as file:
            data = json.load(file)
    else:
        lock = None if options.no_wait else only_one()
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, end_orderly)
        more_descriptors()
        sweep()
        try:
            data = run(options)
        except Missing as why:
            sys.exit(f"bench.py: {why}")
        del lock
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(data, file, indent=1)
    if options.readme:
        report.print_markdown(data)
    else:
        report.print_table(data, CASES)
        report.print_ratios(data)
    if options.plots:
        report.plot(data, options.plots)
    return 0


if __name__ == "__main__":
    sys.exit(main())
