# SPDX-License-Identifier: ISC
"""What a service manager hears on NOTIFY_SOCKET."""

import os
import signal
import socket

import pytest

from support import daemon, peers


class Manager:
    """Receives notifications at a path or an abstract name."""

    def __init__(self, name):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind(name.replace("@", "\0", 1) if name.startswith("@") else name)
        self.sock.settimeout(peers.PATIENCE)
        if not name.startswith("@"):
            os.chmod(name, 0o777)
        self.environment = {"NOTIFY_SOCKET": name}
        self.heard = []

    def until(self, line):
        """Lines heard so far, once this one (or its beginning, if it ends in =) is among them."""
        def found():
            return [text for text in self.heard if text == line or line.endswith("=") and text.startswith(line)]
        while not found():
            self.heard += self.sock.recv(4096).decode().splitlines()
        return found()[0]


@pytest.fixture(params=["path", "abstract"])
def manager(request, short_path):
    made = Manager(f"{short_path}/notify" if request.param == "path" else f"@nt{os.getpid()}{request.param}{os.path.basename(short_path)}")
    yield made
    made.sock.close()


def test_ready_status_and_stopping(world, manager):
    proxy = world.proxy("-w", "1", "-l", world.public(), "-c", world.private(9), env=manager.environment)
    manager.until("READY=1")
    assert manager.until("STATUS=") != "STATUS="
    assert "STOPPING=1" not in manager.heard
    proxy.kill(signal.SIGTERM)
    manager.until("STOPPING=1")
    assert proxy.wait_exit() == 0


def test_not_ready_when_it_does_not_start(world, manager):
    result = world.install.run(*world.install.user_options(), "-s", "", "-l", f"{world.pub.name}@192.0.2.1:0", "-c", world.private(9),
                               env={**os.environ, **manager.environment})
    assert result.returncode == 1
    manager.sock.setblocking(False)
    try:
        while True:
            assert "READY=1" not in manager.sock.recv(4096).decode()
    except BlockingIOError:
        pass


def test_ready_means_ready(world, manager):
    """At the moment of READY=1 a client is served."""
    server = world.serve(peers.echo)
    port = world.pub.free_port("10.10.10.10")
    proxy = daemon.Nsproxy(world.install, [*world.install.user_options(), "-s", "", "-w", "1", "-l", world.public(port), "-c", world.private(server.port)],
                           ready=False, env=manager.environment)
    try:
        manager.until("READY=1")
        with peers.connect(world.pub, "10.10.10.10", port) as client:
            client.sendall(b"x")
            assert client.recv(1) == b"x"
        proxy.wait_ready()
    finally:
        proxy.destroy()


def test_children_do_not_inherit_the_socket(world, manager):
    proxy = world.proxy("-w", "1", "-l", world.public(), "-c", world.private(9), env=manager.environment)
    manager.until("READY=1")
    for pid in proxy.pids()[1:]:
        with open(f"/proc/{pid}/environ", "rb") as file:
            assert b"NOTIFY_SOCKET" not in file.read()
