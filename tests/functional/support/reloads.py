# SPDX-License-Identifier: ISC
"""Configurations that change while a daemon runs, and what a reload must leave alone."""

import contextlib
import re
import signal
import time

from . import peers, proc

REFUSED = "refused, nothing was changed"


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


class Stream:
    """One connection that carries bytes both ways for as long as it lives; an echo is at the other end. The sequence tells whether one was lost."""

    def __init__(self, namespace, host, port):
        self.sock = peers.connect(namespace, host, port)
        self.over = False
        self.rounds = 0
        self._run = peers.Background(self._talk)

    def _talk(self):
        block = peers.BLOCK[:4096]
        while not self.over:
            stamp = self.rounds.to_bytes(8, "big")
            self.sock.sendall(stamp + block)
            got = peers.receive_exactly(self.sock, 8 + len(block))
            assert got == stamp + block, f"{len(got)} bytes of {8 + len(block)}, or others"
            self.rounds += 1
            time.sleep(0.02)        # a rate, so that many of them leave the machine to the others
        return self.rounds

    def stop(self):
        """Rounds that were made; raises what went wrong."""
        self.over = True
        rounds = self._run.result()
        self.sock.close()
        return rounds


class Clients:
    """New connections at a steady rate, each a question and an answer; what went wrong with any of them."""

    def __init__(self, namespace, host, port, rate, threads=8):
        self.wrong = []
        self.served = 0
        self._over = False
        self._where = namespace, host, port
        self._pause = threads / rate
        self._threads = [peers.Background(self._run) for _ in range(threads)]

    def _run(self):
        served, due = 0, time.monotonic()
        with self._where[0].inside():
            while not self._over:
                served += self._one()
                due += self._pause
                time.sleep(max(0, due - time.monotonic()))
        self.served += served

    def _one(self):
        import socket
        try:
            with socket.create_connection(self._where[1:], timeout=peers.PATIENCE) as sock:
                sock.sendall(b"ping")
                assert peers.receive_exactly(sock, 4) == b"ping", "an end instead of an answer"
            return 1
        except (OSError, AssertionError) as error:
            self.wrong.append(repr(error))
            return 0

    def stop(self):
        self._over = True
        for thread in self._threads:
            thread.result()
        return self.served


def quick_echo(listener):
    """A target in a process of its own, so that it costs the test's interpreter nothing: echo on a listening socket, by epoll."""
    import os
    pid = os.fork()
    if pid:
        listener.close()
        return pid
    try:
        _echo_forever(listener)
    finally:
        os._exit(1)


def _echo_forever(listener):
    import select
    import socket
    poll = select.epoll()
    listener.setblocking(False)
    poll.register(listener.fileno(), select.EPOLLIN)
    socks = {}
    while True:
        for fd, _ in poll.poll():
            if fd == listener.fileno():
                with contextlib.suppress(BlockingIOError, ConnectionError):
                    while True:
                        sock, _ = listener.accept()
                        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                        socks[sock.fileno()] = sock
                        poll.register(sock.fileno(), select.EPOLLIN)
                continue
            try:
                data = socks[fd].recv(1 << 16)
                if data:
                    socks[fd].sendall(data)
            except OSError:
                data = b""
            if not data:
                poll.unregister(fd)
                socks.pop(fd).close()


def seconds_of(process):
    return proc.cpu_seconds(process)


def count(pattern, proxy):
    return sum(1 for line in list(proxy.lines) if re.search(pattern, line.text))
