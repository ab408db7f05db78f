# SPDX-License-Identifier: ISC
"""Clients and targets: servers with one thread for each connection, and ways to send, receive and break off."""

import contextlib
import hashlib
import random
import socket
import struct
import threading
import time

from . import waits

PATIENCE = waits.PATIENCE        # seconds; a socket call that takes longer has failed
BLOCK = random.Random(1).randbytes(1 << 20)
RESET = "reset"


def pattern(size, seed=0):
    """Blocks that make up `size` bytes which depend on the seed; cheap to make, and a shifted or repeated block changes the digest."""
    done, turn = 0, seed
    while done < size:
        offset = (turn * 7919) % (len(BLOCK) // 2)
        block = memoryview(BLOCK)[offset:offset + min(size - done, len(BLOCK) // 2)]
        yield block
        done += len(block)
        turn += 1


def digest(size, seed=0):
    sha = hashlib.sha256()
    for block in pattern(size, seed):
        sha.update(block)
    return sha.hexdigest()


def send_pattern(sock, size, seed=0):
    for block in pattern(size, seed):
        sock.sendall(block)


def receive_exactly(sock, size):
    """size bytes, or fewer when the stream ends."""
    parts, missing = [], size
    while missing:
        data = sock.recv(min(missing, 1 << 20))
        if not data:
            break
        parts.append(data)
        missing -= len(data)
    return b"".join(parts)


def drain(sock, limit=None):
    """Reads to the end: (bytes, SHA-256, "eof" or RESET). With a limit, stops after that many bytes: (..., "limit")."""
    sha, total = hashlib.sha256(), 0
    buffer = bytearray(1 << 18)
    while limit is None or total < limit:
        try:
            count = sock.recv_into(buffer, len(buffer) if limit is None else min(len(buffer), limit - total))
        except (ConnectionResetError, BrokenPipeError):
            return total, sha.hexdigest(), RESET
        if count == 0:
            return total, sha.hexdigest(), "eof"
        sha.update(memoryview(buffer)[:count])
        total += count
    return total, sha.hexdigest(), "limit"


def reset(sock):
    """Closes with RST instead of FIN."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def connect(namespace, host, port, timeout=PATIENCE, receive_buffer=None):
    """A TCP connection made inside the namespace, with TCP_NODELAY."""
    sock = namespace.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        if receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.settimeout(timeout)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.connect((host, port))
    except BaseException:
        sock.close()
        raise
    return sock


def expect_reset(namespace, host, port, send=b""):
    """Connects, sends, and gives the seconds until the reset, which may come so soon that connect() itself reports it. An end of data is a failure."""
    started = time.monotonic()
    try:
        with connect(namespace, host, port) as client:
            client.sendall(send)
            total, _, how = drain(client)
        assert how == RESET, f"{how} after {total} bytes, not a reset"
    except (ConnectionResetError, BrokenPipeError):
        pass
    return time.monotonic() - started


class Server:
    """
    Accepts on a listening socket of its own and runs handler(sock) in a thread for each connection; the socket is closed when the handler returns. Without
    a handler connections are kept: take() gives the next one. Errors of handlers are kept in `errors`.
    """

    def __init__(self, listener, handler=None):
        self.listener = listener
        self.listener.settimeout(None)          # a test may take long between two connections; close() ends the wait
        self.address = listener.getsockname()
        self.handler = handler
        self.errors = []
        self.accepted = 0
        self._kept = []
        self._open = set()
        self._news = threading.Condition()
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    @property
    def port(self):
        return self.address[1]

    def _accept(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            sock.settimeout(PATIENCE)
            if sock.family != socket.AF_UNIX:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._news:
                self.accepted += 1
                self._open.add(sock)
                if not self.handler:
                    self._kept.append(sock)
                self._news.notify_all()
            if self.handler:
                threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock):
        try:
            with sock:
                self.handler(sock)
        except (ConnectionError, TimeoutError, OSError) as error:
            self.errors.append(error)
        finally:
            with self._news:
                self._open.discard(sock)

    def take(self, timeout=PATIENCE):
        """The next connection that came in, to be used by the test itself."""
        with self._news:
            assert self._news.wait_for(lambda: self._kept, timeout), "no connection reached the target"
            return self._kept.pop(0)

    def close(self):
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)        # wakes accept(), which close() alone does not
        self.listener.close()
        self._thread.join(5)
        with self._news:
            for sock in self._open:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
                sock.close()


# -- handlers for Server --

def echo(sock):
    while data := sock.recv(1 << 16):
        sock.sendall(data)


def sink(sock):
    """Reads to the end, then answers with the digest of what came."""
    _, sha, how = drain(sock)
    if how == "eof":
        sock.sendall(sha.encode())


def source(size, seed=0):
    """Sends that many bytes and ends, without waiting for the client."""
    def handler(sock):
        send_pattern(sock, size, seed)
        sock.shutdown(socket.SHUT_WR)
        drain(sock)
    return handler


def reply_after_end(size, seed=0):
    """Reads to the client's end, then sends digest and `size` bytes."""
    def handler(sock):
        _, sha, how = drain(sock)
        if how == "eof":
            sock.sendall(sha.encode())
            send_pattern(sock, size, seed)
    return handler


class Background:
    """Runs a function in a thread; result() gives what it returned or raises what it raised."""

    def __init__(self, function, *arguments):
        self._outcome = None
        self._thread = threading.Thread(target=self._run, args=(function, arguments), daemon=True)
        self._thread.start()

    def _run(self, function, arguments):
        try:
            self._outcome = (function(*arguments), None)
        except BaseException as error:      # handed to whoever asks for the result
            self._outcome = (None, error)

    def done(self):
        return not self._thread.is_alive()

    def result(self, timeout=PATIENCE * 2):
        self._thread.join(timeout)
        assert not self._thread.is_alive(), "the background work did not end"
        value, error = self._outcome
        if error:
            raise error
        return value
