# SPDX-License-Identifier: ISC
"""Configurations that change while a daemon runs, and what a reload must leave alone."""

import contextlib
import errno
import heapq
import json
import os
import random
import re
import select
import signal
import socket
import time

from . import peers

REFUSED = "refused, nothing was changed"
AT_ONCE = 1000          # new connections that wait for their answer at the same time; a slow machine gets no more


def text(services, top=""):
    """The text of a configuration: {name: {key: value}}; listen and connect are addresses, other keys are written as they are, with _ for -."""
    parts = [top]
    for name, keys in services.items():
        lines = [f"    {key.replace('_', '-')} = {value}" for key, value in keys.items() if key not in ("listen", "connect")]
        listen = keys["listen"] if isinstance(keys["listen"], list) else [keys["listen"]]
        quoted = ", ".join(f'"{address}"' for address in listen)
        parts.append("\n".join([f"service {name} {{", f"    listen = {{{quoted}}}", f'    connect = {{"{keys["connect"]}"}}', *lines, "}"]))
    return "\n".join(parts) + "\n"


def reload(proxy, number=signal.SIGHUP, result=r"\b(reloaded|upgraded to)\b"):
    """Sends the signal and waits for the line that says how it went; its match."""
    lines = len(proxy.lines)
    proxy.kill(number)
    return proxy.wait_log(result, after=lines)


def refused(proxy, number=signal.SIGHUP):
    """Sends the signal; what the log says of why nothing was changed."""
    proxy.expect_log(r"^(reload|upgrade)[: ]")
    lines = len(proxy.lines)
    proxy.kill(number)
    proxy.wait_log(REFUSED, after=lines)
    return "\n".join(line.text for line in proxy.lines[lines:])


def listening(namespace):
    """{(address, port) in hexadecimal: inode} of the listening TCP sockets of a namespace."""
    with namespace.inside(), open("/proc/thread-self/net/tcp") as table:
        rows = [line.split() for line in table][1:]
    return {row[1]: row[9] for row in rows if row[3] == "0A"}


def ask(client, data=b"ping"):
    client.sendall(data)
    got = peers.receive_exactly(client, len(data))
    assert got == data, f"{got!r}, not {data!r}"


class Load:
    """
    A process that makes `rate` new connections a second (question, answer, end) and holds `streams` long ones that carry `block` bytes each way `often`
    times a second, all compared; stop() gives what it counted. Whatever goes wrong with any of them is in "wrong".
    """

    def __init__(self, namespace, host, port, rate, streams, block=4096, often=2.0):
        self._where = host, port
        self._rate, self._n_streams, self._block, self._often = rate, streams, block, often
        self._out, write_end = os.pipe()
        self._in, self._stop = os.pipe()
        with namespace.inside():
            self.pid = os.fork()
            if self.pid == 0:
                os.close(self._out)
                os.close(self._stop)
                self._child(write_end)
        os.close(write_end)
        os.close(self._in)
        assert os.read(self._out, 1) == b"!", "the load did not begin"

    def close(self):
        """For a test that failed."""
        for fd in (self._out, self._stop):
            with contextlib.suppress(OSError):
                os.close(fd)
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)

    def stop(self):
        os.close(self._stop)
        with open(self._out, "rb", closefd=False) as stream:
            result = json.loads(stream.read())
        os.waitpid(self.pid, 0)
        os.close(self._out)
        return result

    # -- in the process --

    def _child(self, write_end):
        try:
            self._poll = select.epoll()
            self._socks, self._late = {}, []
            self.result = {"served": 0, "rounds": 0, "bytes": 0, "wrong": [], "longest_ms": {"long": 0, "new": 0}}
            self._run(write_end)
            os.write(write_end, json.dumps(self.result).encode())
        except BaseException as error:
            os.write(write_end, json.dumps({"served": 0, "rounds": 0, "wrong": [f"the load itself: {error!r}"]}).encode())
        finally:
            os._exit(0)

    def _run(self, write_end):
        self._poll.register(self._in, select.EPOLLIN | select.EPOLLHUP)
        for _ in range(self._n_streams):
            self._open(long=True)
        self._turns_until(lambda: all(state["rounds"] > 0 for state in self._socks.values()) or self.result["wrong"])
        os.write(write_end, b"!")
        self._over = False
        began = due = time.monotonic()
        while not self._over:
            now = time.monotonic()
            while due <= now:
                if len(self._socks) < self._n_streams + AT_ONCE:
                    self._open(long=False)
                due += 1 / self._rate
            self._send_what_is_due(now)
            self._turn(min(due - now, 0.01))
        self._over = True
        self.result["per_second"] = round(self.result["served"] / (time.monotonic() - began))
        self._turns_until(lambda: not any(state["waits"] for state in self._socks.values()))
        self.result["left"] = sum(1 for state in self._socks.values() if state["waits"])

    def _turns_until(self, condition):
        limit = time.monotonic() + peers.PATIENCE
        while not condition() and time.monotonic() < limit:
            self._turn(0.05)

    def _open(self, long):
        sock = socket.socket()
        sock.setblocking(False)
        state = {"sock": sock, "long": long, "rounds": 0, "waits": True, "began": time.monotonic(), "got": b""}
        state["out"] = state["expected"] = self._data(state)
        error = sock.connect_ex(self._where)
        if error not in (0, errno.EINPROGRESS):
            self.result["wrong"].append(f"connect: {os.strerror(error)}")
            sock.close()
            return
        self._socks[sock.fileno()] = state
        self._poll.register(sock.fileno(), select.EPOLLIN | select.EPOLLOUT)

    def _data(self, state):
        stamp = state["rounds"].to_bytes(8, "big")
        return stamp + (peers.BLOCK[:self._block] if state["long"] else b"")

    def _send_what_is_due(self, now):
        while self._late and self._late[0][0] <= now:
            fd = heapq.heappop(self._late)[1]
            state = self._socks.get(fd)
            if state and state["long"] and not state["waits"]:
                state["out"] = state["expected"] = self._data(state)
                state["waits"], state["began"], state["got"] = True, now, b""
                self._poll.modify(fd, select.EPOLLIN | select.EPOLLOUT)

    def _turn(self, seconds):
        for fd, events in self._poll.poll(max(0, seconds)):
            if fd == self._in:
                self._over = True
                self._poll.unregister(fd)
                continue
            state = self._socks[fd]
            try:
                self._step(fd, state, events)
            except (OSError, AssertionError) as error:
                self.result["wrong"].append(f"{'long' if state['long'] else 'new'} connection, round {state['rounds']}: {error!r}")
                self._end(fd, state)

    def _step(self, fd, state, events):
        if events & (select.EPOLLOUT | select.EPOLLERR) and state["out"]:
            state["out"] = state["out"][state["sock"].send(state["out"]):]
            if not state["out"]:
                self._poll.modify(fd, select.EPOLLIN)
        if not events & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR):
            return
        data = state["sock"].recv(1 << 16)
        assert data, "an end instead of an answer"
        state["got"] += data
        if len(state["got"]) < len(state["expected"]):
            return
        assert state["got"] == state["expected"], "other bytes than were sent"
        self.result["bytes"] = self.result["bytes"] + len(state["got"])
        kind = "long" if state["long"] else "new"
        self.result["longest_ms"][kind] = max(self.result["longest_ms"][kind], (time.monotonic() - state["began"]) * 1000)
        state["waits"] = False
        state["rounds"] += 1
        if state["long"]:
            self.result["rounds"] += 1
            heapq.heappush(self._late, (time.monotonic() + random.uniform(0.5, 1.5) / self._often, fd))
        else:
            self.result["served"] += 1
            self._end(fd, state)

    def _end(self, fd, state):
        self._poll.unregister(fd)
        self._socks.pop(fd)["sock"].close()


class Echo:
    """A target in a process of its own, so that it costs the test's interpreter nothing."""

    def __init__(self, listener):
        self.port = listener.getsockname()[1]
        self.pid = os.fork()
        if self.pid == 0:
            try:
                _echo_forever(listener)
            finally:
                os._exit(1)
        listener.close()

    def close(self):
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


def _echo_forever(listener):
    poll = select.epoll()
    listener.setblocking(False)
    poll.register(listener.fileno(), select.EPOLLIN)
    socks, owed = {}, {}
    while True:
        for fd, events in poll.poll():
            if fd == listener.fileno():
                with contextlib.suppress(BlockingIOError, ConnectionError):
                    while True:
                        sock, _ = listener.accept()
                        sock.setblocking(False)
                        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                        socks[sock.fileno()], owed[sock.fileno()] = sock, b""
                        poll.register(sock.fileno(), select.EPOLLIN)
                continue
            try:
                if not owed[fd]:
                    owed[fd] = socks[fd].recv(1 << 16)
                    if not owed[fd]:
                        raise ConnectionError
                with contextlib.suppress(BlockingIOError):
                    owed[fd] = owed[fd][socks[fd].send(owed[fd]):]
                poll.modify(fd, select.EPOLLOUT if owed[fd] else select.EPOLLIN)
            except BlockingIOError:
                pass
            except OSError:
                poll.unregister(fd)
                del owed[fd]
                socks.pop(fd).close()


def count(pattern, proxy):
    return sum(1 for line in list(proxy.lines) if re.search(pattern, line.text))


def trials(proxy):
    return [pid for pid in proxy.children("nsproxy") if pid != proxy.pid]
