# SPDX-License-Identifier: ISC
"""The daemon under test: started from the installed prefix, its log read line by line, its processes watched, its end checked."""

import datetime
import fcntl
import json
import os
import re
import signal
import subprocess
import threading
import time

from . import memcheck, proc, waits

READY = re.compile(r"\bready, (\d+) services?, (\d+) workers?")     # after "nsproxy: ", but for the journal, which adds that itself
LISTENING = re.compile(r"service (?P<service>.+?): listening on (?P<address>\S+)")
ALARM = 4               # syslog level: a line at warning or above must be expected by the test
# Bytes that a process may have gained since it was ready: what it touches for the first time and keeps. Of a worker these are seen in its smaps:
# free blocks that stay warm (WARM_BLOCKS in engine_pool.c: 1 MiB), the bounce buffer (64 KiB), stack and lists (some pages); see also the two below.
# Other blocks go back within seconds, which is waited for. The reporter holds 1 MiB of lines that cannot be written.
GROWTH = {"nsproxy": 256 << 10, "nsproxy-worker": (1 << 20) + (64 << 10) + (64 << 10), "nsproxy-reporter": 3 << 19}
RING = 2 << 20          # buffers of a worker's ring, which are used in turn (RING_BUFFERS in engine_uring_ring.h)
SLOT = 256              # bytes that a slot of a worker's pool has in its arrays, once a connection had it
LAG = 0.1               # seconds for which a slot waits until the record of its connection is with the reporter


class Line:
    """One line of the log: level (None: it had none), text without prefix, when it came (monotonic)."""

    def __init__(self, raw):
        self.raw = raw
        self.when = time.monotonic()
        match = re.match(r"<(\d)>(.*)$", raw)
        self.level = int(match[1]) if match else None
        self.text = match[2] if match else raw


def parse_access(text):
    """The fields of one line of the access log in either format; None when the line is none."""
    if text.startswith("{"):
        fields = json.loads(text)
        return {key: str(value) for key, value in fields.items()} if "end" in fields else None
    start = text.find("service=")
    if start < 0 or " end=" not in text:
        return None
    pairs = re.findall(r'([a-z_]+)=("(?:[^"\\]|\\.)*"|\S*)', text[start:])
    return {key: value.strip('"') for key, value in pairs}


def most_at_once(records):
    """How many connections there were at the same time, as the access log has it."""
    changes = []
    for record in records:
        start = datetime.datetime.fromisoformat(record["start"]).timestamp()
        changes += [(start, 1), (start + float(record["duration_ms"]) / 1000 + LAG, -1)]
    now = most = 0
    for _, change in sorted(changes):
        now += change
        most = max(most, now)
    return most


def split_address(text):
    """"NETNS@HOST:PORT" as (NETNS, HOST, PORT), the first port of a range, brackets off; ("", text, None) for a unix socket."""
    if text.startswith("unix:"):
        return "", text, None
    netns, _, rest = text.rpartition("@")
    host, _, port = rest.rpartition(":")
    return netns, host.strip("[]"), int(port.partition("-")[0])


class Install:
    """Where the programs are, and how they want to be started here."""

    def __init__(self, prefix, one_id):
        self.prefix = os.path.abspath(prefix)
        self.nsproxy = os.path.join(self.prefix, "sbin", "nsproxy")
        self.libexec = os.path.join(self.prefix, "libexec", "nsproxy")
        self.one_id = one_id

    def present(self):
        return os.access(self.nsproxy, os.X_OK)

    def user_options(self):
        """A user for workers and reporter: somebody who exists everywhere; none where only one id is mapped."""
        return [] if self.one_id else ["-u", "nobody"]

    def engines(self):
        """Engines that `nsproxy -V` names, as far as a relay case is run for each of them."""
        text = subprocess.run([self.nsproxy, "-V"], capture_output=True, text=True, check=True).stdout
        return [name for name in ("copy", "splice", "adaptive", "io_uring") if re.search(rf"\b{name}\b", text)]

    def run(self, *options, timeout=30, **popen):
        """A start that should end by itself. The result also says which processes of it were left (`left`)."""
        process = subprocess.Popen([self.nsproxy, *options], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                   start_new_session=True, **popen)
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            out, err = process.communicate()
            raise AssertionError(f"nsproxy {' '.join(options)} did not end by itself; stderr:\n{err}") from None
        result = subprocess.CompletedProcess(process.args, process.returncode, out, err)
        result.left = proc.session(process.pid)
        return result


class Nsproxy:
    """
    One running daemon. Start it, use `port`, then finish(): that asserts that descriptors are back to what they were when it got ready, that no
    worker was replaced, that no process has gained more memory than is explained (GROWTH), that nothing at warning or above was logged which
    expect_log() did not announce, and that it ends with 0 on TERM, leaving no process.
    """

    def __init__(self, install, options, journal=True, ready=True, log_to=None, **popen):
        self.options = list(options)
        self.lines = []
        # Nobody answers while valgrind looks for lost memory.
        self.expected_log = [re.compile("has not answered for 3 seconds")] if memcheck.DIRECTORY else []
        self.check_descriptors = True
        self.check_workers = True
        self.check_memory = True
        self.exit_code = 0
        self.connections = 0            # how many there are at the same time, where the access log does not tell
        self.memory = {}
        self._news = threading.Condition()
        read_end, write_end = os.pipe()
        fcntl.fcntl(write_end, fcntl.F_SETPIPE_SZ, 1 << 20)     # a test that is busy is no prompt reader
        environment = {"PATH": os.environ["PATH"], **popen.pop("env", {})}
        if journal:     # as the service manager would: then every line says its level
            pipe = os.fstat(write_end)
            environment["JOURNAL_STREAM"] = f"{pipe.st_dev}:{pipe.st_ino}"
        self.process = subprocess.Popen([install.nsproxy, *self.options], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                        stderr=write_end if log_to is None else log_to, env=environment, start_new_session=True, **popen)
        os.close(write_end)
        self.pid = self.process.pid
        self._reader = threading.Thread(target=self._read, args=(read_end,), daemon=True)
        self._reader.start()
        if ready:
            self.wait_ready()

    def _read(self, fd):
        with open(fd, encoding="utf-8", errors="backslashreplace") as stream:
            for raw in stream:
                with self._news:
                    self.lines.append(Line(raw.rstrip("\n")))
                    self._news.notify_all()

    # -- the log --

    def log(self):
        return "\n".join(line.raw for line in self.lines)

    def wait_log(self, pattern, timeout=waits.PATIENCE, after=0):
        """The match of the first line (from line number `after` on) in which the pattern is found."""
        regex = re.compile(pattern)
        deadline = time.monotonic() + timeout
        with self._news:
            seen = after
            while True:
                for line in self.lines[seen:]:
                    match = regex.search(line.text)
                    if match:
                        return match
                seen = len(self.lines)
                if not self._news.wait(min(deadline - time.monotonic(), 0.2) if deadline > time.monotonic() else 0):
                    ended = self.process.poll() is not None and not self._reader.is_alive()
                    if ended or time.monotonic() > deadline:
                        how = f"nsproxy ended with {self.process.returncode}" if ended else f"not within {timeout:g} s"
                        raise waits.Timeout(f"no log line like {pattern!r}: {how}; log:\n" + "\n".join(line.raw for line in self.lines))

    def expect_log(self, *patterns):
        """Lines at warning or above that this test causes on purpose."""
        self.expected_log += [re.compile(pattern) for pattern in patterns]

    def alarms(self):
        return [line.raw for line in self.lines if line.level is not None and line.level <= ALARM
                and not any(pattern.search(line.text) for pattern in self.expected_log)]

    def access(self, **match):
        """Access records so far whose fields have the given values."""
        records = [record for record in (parse_access(line.text) for line in list(self.lines)) if record]
        return [record for record in records if all(record.get(key) == str(value) for key, value in match.items())]

    def wait_access(self, count=1, timeout=waits.PATIENCE, **match):
        """At least that many access records with these values."""
        def enough():
            records = self.access(**match)
            return records if len(records) >= count else None
        return waits.until(enough, lambda: f"{count} access records with {match}; log:\n{self.log()[-4000:]}", timeout)

    # -- readiness and addresses --

    def wait_ready(self):
        match = self.wait_log(READY.pattern)
        self.services, self.n_workers = int(match[1]), int(match[2])
        self.baseline = self._descriptors_at_rest()
        self.first_workers = self.workers()
        self.memory = {} if proc.instrumented(self.pid) else {pid: proc.rss(pid) for pid in self.baseline if proc.alive(pid)}
        return self

    def _descriptors_at_rest(self):
        """Of every process; looked at until two looks agree, since the parent may just be looking at something itself."""
        looks = [None]

        def same():
            looks.append({pid: proc.descriptor_kinds(pid) for pid in self.pids()})
            return looks[-1] == looks[-2]
        waits.until(same, "descriptors at rest")
        return looks[-1]

    def addresses(self, service=None):
        """[(NETNS, HOST, PORT)] of every listener, or of one service's."""
        found = [LISTENING.search(line.text) for line in self.lines]
        return [split_address(match["address"]) for match in found if match and service in (None, match["service"])]

    @property
    def port(self):
        """Port of the first listener."""
        return self.addresses()[0][2]

    # -- processes --

    def children(self, program):
        return [pid for pid in proc.children(self.pid) if proc.program(pid) == program]

    def workers(self):
        return self.children("nsproxy-worker")

    def reporter(self):
        return self.children("nsproxy-reporter")[0]

    def pids(self):
        return [self.pid, *proc.children(self.pid)]

    def alive(self):
        return self.process.poll() is None

    # -- the end --

    def wait_settled(self):
        """Descriptors of every process that was there at the start are back to what they were."""
        def settled():
            now = {pid: proc.descriptor_kinds(pid) for pid in self.baseline if proc.alive(pid)}
            return all(now[pid] == self.baseline[pid] for pid in now)

        def difference():
            rows = []
            for pid, before in self.baseline.items():
                now = proc.descriptor_kinds(pid)
                if proc.alive(pid) and now != before:
                    rows.append(f"{proc.program(pid)}[{pid}]: more {dict(now - before)}, less {dict(before - now)}")
            return "descriptors back to the baseline: " + "; ".join(rows)
        waits.until(settled, difference)

    def kill(self, number):
        os.kill(self.pid, number)

    def wait_exit(self, timeout=waits.PATIENCE):
        """Exit code of the parent, once it, its children and its log have ended."""
        code = self.process.wait(timeout)
        waits.until(lambda: not proc.session(self.pid), lambda: f"processes left: {[(p, proc.program(p)) for p in proc.session(self.pid)]}")
        self._reader.join(waits.PATIENCE)
        assert not self._reader.is_alive(), "somebody still holds the log open"
        return code

    def finish(self):
        problems = []
        if self.alive():
            for check in (self._finish_descriptors, self._finish_workers, self._finish_memory):
                try:
                    check()
                except AssertionError as error:
                    problems.append(str(error))
            self.kill(signal.SIGTERM)
        try:
            code = self.wait_exit()
            if code != self.exit_code:
                problems.append(f"exit code {code}, not {self.exit_code}")
        except (subprocess.TimeoutExpired, AssertionError) as error:
            problems.append(f"did not end: {error}")
        problems += [f"unexpected log line: {line}" for line in self.alarms()]
        self.destroy()
        assert not problems, "\n".join(problems) + "\nlog:\n" + self.log()[-6000:]

    def _finish_descriptors(self):
        if self.check_descriptors:
            self.wait_settled()

    def _finish_workers(self):
        if self.check_workers:
            assert self.workers() == self.first_workers, f"workers were {self.first_workers}, are {self.workers()}"

    def _may_grow(self, pid):
        program = proc.program(pid)
        more = 0
        if program == "nsproxy-worker":
            # Slots are used again: the sum of all connections costs nothing.
            more = max(self.connections, most_at_once(self.access())) * SLOT
            more += RING if proc.descriptor_kinds(pid)["anon_inode:[io_uring]"] else 0
        return GROWTH.get(program, 0) + more

    def _finish_memory(self):
        most = {pid: self._may_grow(pid) for pid in self.memory}

        def too_much():
            grown = {pid: proc.rss(pid) - before for pid, before in self.memory.items() if proc.alive(pid)}
            return [f"{proc.program(pid)} ({pid}) grew by {size >> 10} KiB, of which {most[pid] >> 10} are explained"
                    for pid, size in grown.items() if size > most[pid]]
        if self.check_memory:
            waits.until(lambda: not too_much(), lambda: "; ".join(too_much()))

    def destroy(self):
        """Whatever is left, ended; for clean-up, never for a check."""
        for pid in proc.session(self.pid):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.process.wait()
