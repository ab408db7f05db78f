# SPDX-License-Identifier: ISC
"""Listeners that a service manager opened: used where they are what the service listens on, refused with a reason where they are not."""

import copy
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys

import pytest

from conftest import PUBLIC, PUBLIC6
from support import daemon, peers, proc, starter, waits


def starts(world, sockets, names):
    """An installation whose daemon is started with these sockets, and what Popen needs to pass them."""
    install = copy.copy(world.install)
    install.nsproxy = os.path.join(world.directory, f"start-{len(os.listdir(world.directory))}")
    numbers = ",".join(str(sock.fileno()) for sock in sockets)
    with open(install.nsproxy, "w", encoding="utf-8") as file:
        file.write(f"#!/bin/sh\nexec {sys.executable} {starter.__file__} {numbers} '{names}' {world.install.nsproxy} \"$@\"\n")
    os.chmod(install.nsproxy, 0o755)
    return install, {"pass_fds": [sock.fileno() for sock in sockets]}


def proxy_with(world, sockets, names, *options, **popen):
    install, passing = starts(world, sockets, names)
    proxy = daemon.Nsproxy(install, [*install.user_options(), "-s", "", "-w", "1", *options], ready=False, **passing, **popen)
    world.proxies.append(proxy)
    return proxy.wait_ready()


def refused_with(world, sockets, names, *options, **popen):
    """What it says when it does not start with these sockets."""
    install, passing = starts(world, sockets, names)
    result = install.run(*install.user_options(), "-s", "", "-w", "1", *options, **passing, **popen)
    assert result.returncode == 1, result.stderr
    assert result.left == []
    return result.stderr


def service(world, server, *listen, name="web", **keys):
    """A configuration with one service."""
    addresses = ", ".join(f'"{address}"' for address in listen)
    more = "".join(f"    {key.replace('_', '-')} = {value}\n" for key, value in keys.items())
    text = f'service {name} {{\n    listen = {{{addresses}}}\n    connect = {{"{world.private(server.port)}"}}\n{more}}}\n'
    return ["-f", world.config(text)]


@pytest.fixture
def echo(world):
    return world.serve(peers.echo)


@pytest.fixture
def passed(world):
    """A listener in the public namespace, as systemd makes one with NetworkNamespacePath=."""
    def make(host=PUBLIC, port=0, namespace=None):
        return world.keep((namespace or world.pub).listener(host, port))
    return make


def port_of(sock):
    return sock.getsockname()[1]


def exchange(world, host, port, data=b"there and back"):
    with peers.connect(world.pub, host, port) as client:
        client.sendall(data)
        assert peers.receive_exactly(client, len(data)) == data


def same_socket(pid, sock):
    """Has that process this very socket open?"""
    directory = f"/proc/{pid}/fd"
    return os.readlink(f"/proc/self/fd/{sock.fileno()}") in [os.readlink(f"{directory}/{number}") for number in os.listdir(directory)]


def test_named_for_the_service(world, echo, passed):
    listener = passed()
    proxy = proxy_with(world, [listener], "web", *service(world, echo, world.public(port_of(listener))))
    assert proxy.addresses() == [(world.pub.name, PUBLIC, port_of(listener))]
    assert same_socket(proxy.pid, listener)
    for pid in proxy.pids()[1:]:
        assert not same_socket(pid, listener)
    exchange(world, PUBLIC, port_of(listener))


def test_port_zero_takes_the_sockets_port(world, echo, passed):
    listener = passed()
    proxy = proxy_with(world, [listener], "web", *service(world, echo, world.public(0)))
    assert proxy.port == port_of(listener)
    exchange(world, PUBLIC, proxy.port)


def test_a_restart_refuses_nobody(world, echo, passed):
    """The manager keeps listening; who comes while nobody serves is served by the next start."""
    listener = passed()
    options = service(world, echo, world.public(port_of(listener)))
    first = proxy_with(world, [listener], "web", *options)
    exchange(world, PUBLIC, port_of(listener))
    first.finish()
    world.proxies.remove(first)
    with peers.connect(world.pub, PUBLIC, port_of(listener)) as client:
        client.sendall(b"early")
        second = proxy_with(world, [listener], "web", *options)
        second.check_descriptors = False        # the first look at them finds this client's
        assert peers.receive_exactly(client, 5) == b"early"


def test_one_is_passed_and_one_is_bound(world, echo, passed):
    listener = passed()
    options = service(world, echo, world.public(port_of(listener)), world.public(0))
    proxy = proxy_with(world, [listener], "web", *options)
    assert [address[2] == port_of(listener) for address in proxy.addresses()] == [True, False]
    for _, host, port in proxy.addresses():
        exchange(world, host, port)


def test_names_with_a_number(world, echo, passed):
    """web-2 is the second address of web, in whatever order they are passed."""
    one, two = passed(), passed()
    options = service(world, echo, world.public(port_of(one)), world.public(port_of(two)))
    proxy = proxy_with(world, [two, one], "web-2:web-1", *options)
    assert same_socket(proxy.pid, one) and same_socket(proxy.pid, two)
    exchange(world, PUBLIC, port_of(one))
    exchange(world, PUBLIC, port_of(two))


def test_one_name_for_several_sockets(world, echo, passed):
    """As from one unit with several ListenStream= lines: each finds its address."""
    sockets = [passed(), passed(PUBLIC6), passed()]
    options = service(world, echo, world.public(port_of(sockets[2])), world.public(port_of(sockets[1]), PUBLIC6), world.public(port_of(sockets[0])))
    proxy = proxy_with(world, sockets, "web:web:web", *options)
    assert all(same_socket(proxy.pid, sock) for sock in sockets)
    exchange(world, PUBLIC6, port_of(sockets[1]))


@pytest.mark.parametrize("names", ["-", "unknown", "nsproxy.socket"])
def test_without_a_chosen_name_the_address_decides(world, echo, passed, names):
    listener = passed()
    proxy = proxy_with(world, [listener], names, "-l", world.public(port_of(listener)), "-c", world.private(echo.port))
    assert same_socket(proxy.pid, listener)
    exchange(world, PUBLIC, port_of(listener))


def test_port_range(world, passed):
    """One socket for each port; here the middle one is left to us."""
    base = next(port for port in range(20000, 40000, 7) if free(world, port, 3))
    sockets = [passed(port=base + 2), passed(port=base)]
    echo = world.serve(peers.echo)
    options = service(world, echo, world.public(f"{base}-{base + 2}"))
    proxy = proxy_with(world, sockets, "web:web", *options)
    assert all(same_socket(proxy.pid, sock) for sock in sockets)
    for port in range(base, base + 3):
        exchange(world, PUBLIC, port)


def free(world, first, count):
    try:
        for port in range(first, first + count):
            world.pub.listener(PUBLIC, port).close()
    except OSError:
        return False
    return True


def test_every_address_of_both_families(world, echo):
    with world.pub.inside():
        listener = world.keep(socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True))
    proxy_with(world, [listener], "web", *service(world, echo, f"{world.pub.name}@*:{port_of(listener)}"))
    exchange(world, PUBLIC, port_of(listener))
    exchange(world, PUBLIC6, port_of(listener))


def unix_listener(path):
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.bind(path)
    sock.listen(16)
    return sock


def test_unix_path_stays_the_managers(world, echo, short_path):
    """Neither mode nor owner are changed, and the path is there when we are gone."""
    path = f"{short_path}/in"
    listener = world.keep(unix_listener(path))
    os.chmod(path, 0o600)
    proxy = proxy_with(world, [listener], "web", *service(world, echo, f"unix:{path}"))
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
        client.sendall(b"x")
        assert client.recv(1) == b"x"
    proxy.finish()
    world.proxies.remove(proxy)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
        proxy_with(world, [listener], "web", *service(world, echo, f"unix:{path}")).check_descriptors = False
        client.sendall(b"x")
        assert client.recv(1) == b"x"


def test_clients_get_a_reset_when_their_worker_dies(world, passed):
    """What clients inherit from a listener that we did not make is set all the same."""
    listener, server = passed(), world.serve()
    proxy = proxy_with(world, [listener], "web", *service(world, server, world.public(port_of(listener))))
    client, target = world.connect(proxy), server.take()
    target.sendall(b"x")
    assert client.recv(1) == b"x"
    proxy.expect_log("worker")
    proxy.check_workers = False
    os.kill(proxy.workers()[0], signal.SIGKILL)
    assert peers.drain(client)[2] == peers.RESET


def test_in_the_background(world, echo, passed):
    """The process that was started is the one that LISTEN_PID names; the one that stays is its child."""
    listener = passed()
    install, passing = starts(world, [listener], "web")
    pidfile = os.path.join(world.directory, "pid")
    options = service(world, echo, world.public(port_of(listener)))
    with open(os.path.join(world.directory, "log"), "wb") as log:
        result = subprocess.run([install.nsproxy, *install.user_options(), "-s", "", "-w", "1", "-b", "-p", pidfile, *options], stderr=log, timeout=30, **passing)
    assert result.returncode == 0
    with open(pidfile, encoding="ascii") as file:
        pid = int(file.read())
    try:
        assert same_socket(pid, listener)
        exchange(world, PUBLIC, port_of(listener))
    finally:
        os.kill(pid, signal.SIGTERM)
        waits.until(lambda: not proc.alive(pid), "the end of the daemon")


def test_for_another_process(world, echo, passed):
    """LISTEN_PID names somebody else: nothing is ours, and what is open is closed."""
    listener = passed()
    options = service(world, echo, world.public(0))
    proxy = proxy_with(world, [listener], "web", *options, env={"STARTER_PID": "1"})
    assert proxy.port != port_of(listener)
    assert not same_socket(proxy.pid, listener)


# -- what is refused --

def test_wrong_address(world, echo, passed):
    says = refused_with(world, [passed()], "web", *service(world, echo, world.public(9)))
    assert f"socket 3 'web' of the service manager is {PUBLIC}:" in says and "but service web listens on" in says


def test_wrong_number(world, echo, passed):
    one, two = passed(), passed()
    options = service(world, echo, world.public(port_of(one)), world.public(port_of(two)))
    assert f"listens on {world.public(port_of(two))}" in refused_with(world, [one], "web-2", *options)
    assert "no service has this name" in refused_with(world, [one], "web-3", *options)


def test_wrong_namespace(world, echo, passed):
    """The same address and port, but elsewhere: clients of the public namespace would never arrive."""
    with world.priv.inside():
        listener = world.keep(socket.create_server(("", 0)))
    says = refused_with(world, [listener], "web", *service(world, echo, f"{world.pub.name}@0.0.0.0:{port_of(listener)}"))
    assert f"is in another network namespace than '{world.pub.name}@0.0.0.0" in says and f"NetworkNamespacePath=/run/netns/{world.pub.name}" in says


def test_no_such_service(world, echo, passed):
    listener = passed()
    assert "socket 3 'wep' of the service manager: no service has this name" in refused_with(
        world, [listener], "wep", *service(world, echo, world.public(port_of(listener))))


def test_nowhere_without_a_name(world, echo, passed):
    assert "is none of the addresses listened on" in refused_with(world, [passed()], "-", *service(world, echo, world.public(9)))


def test_twice_the_same_listener(world, echo, passed):
    listener = passed()
    options = service(world, echo, world.public(port_of(listener)))
    assert "another socket was passed for the same listener" in refused_with(world, [listener, listener], "web:web", *options)


def test_datagrams(world, echo):
    with world.pub.inside():
        sock = world.keep(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        sock.bind((PUBLIC, 0))
    assert "is no stream socket" in refused_with(world, [sock], "web", *service(world, echo, world.public(port_of(sock))))


def test_not_listening(world, echo):
    sock = world.keep(world.pub.socket())
    sock.bind((PUBLIC, 0))
    assert "does not listen; use Accept=no" in refused_with(world, [sock], "web", *service(world, echo, world.public(port_of(sock))))


def test_no_socket_at_all(world, echo):
    with open(__file__, encoding="utf-8") as file:
        assert "is no socket" in refused_with(world, [file], "web", *service(world, echo, world.public(9)))


def test_ipv6_alone_for_both_families(world, echo):
    with world.pub.inside():
        listener = world.keep(socket.create_server(("::", 0), family=socket.AF_INET6))
    assert "BindIPv6Only=both" in refused_with(world, [listener], "web", *service(world, echo, f"{world.pub.name}@*:{port_of(listener)}"))


def test_every_misfit_is_said(world, echo, passed):
    says = refused_with(world, [passed(), passed()], "nobody:web", *service(world, echo, world.public(9)))
    assert "socket 3 'nobody'" in says and "socket 4 'web'" in says


# -- the real starter --

def test_systemd_socket_activate(world, echo):
    """systemd's own starter: it listens, starts us with the first client, and that client is served."""
    activate = shutil.which("systemd-socket-activate")
    if activate is None:
        pytest.skip("systemd-socket-activate is missing (apt-get install systemd)")
    port = world.pub.free_port(PUBLIC)
    options = service(world, echo, world.public(port), name="web")
    process = world.pub.popen([activate, "-l", f"{PUBLIC}:{port}", "--fdname=web", world.install.nsproxy, *world.install.user_options(), "-s", "", "-w", "1",
                               *options], start_new_session=True)
    try:
        waits.until(lambda: listens(world, port), "the starter listens")
        with peers.connect(world.pub, PUBLIC, port) as client:
            client.sendall(b"first")
            assert peers.receive_exactly(client, 5) == b"first"
        os.kill(process.pid, signal.SIGTERM)
        assert process.wait(peers.PATIENCE) == 0
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def listens(world, port):
    with world.pub.inside(), open("/proc/thread-self/net/tcp", encoding="ascii") as file:
        return any(f":{port:04X} 00000000:0000 0A" in line for line in file)
