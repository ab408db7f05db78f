# SPDX-License-Identifier: ISC
"""What a configuration can say, seen from outside: services, namespaces, ranges, families, unix sockets, include, -t and -T."""

import copy
import grp
import os
import socket
import stat
import subprocess

import pytest

from conftest import PRIVATE, PRIVATE6, PUBLIC, PUBLIC6
from support import daemon, netns, peers, proc


def says(text):
    """A target that sends the text and ends."""
    def handler(sock):
        sock.sendall(text.encode())
        sock.shutdown(socket.SHUT_WR)
        peers.drain(sock)
    return handler


def heard(sock):
    """All that comes until the end."""
    with sock:
        return peers.receive_exactly(sock, 1 << 20).decode()


def service(name, listen, connect, *more):
    listen = ", ".join(f'"{address}"' for address in ([listen] if isinstance(listen, str) else listen))
    return f'service {name} {{\n    listen = {{{listen}}}\n    connect = {{"{connect}"}}\n' + "".join(f"    {line}\n" for line in more) + "}\n"


def free_range(space, host, count):
    """First of `count` ports in a row that nobody holds; nobody else lives in the namespace."""
    for first in range(20000, 60000, count):
        held = []
        try:
            held = [space.listener(host, port) for port in range(first, first + count)]
            return first
        except OSError:
            continue
        finally:
            for sock in held:
                sock.close()
    raise AssertionError("no range is free")


@pytest.fixture
def second_private(namespaces_work):
    made = netns.Namespace("priv2", [f"{PRIVATE}/32"])      # the same address as in the first: they are not joined
    yield made
    made.remove()


def test_several_services_and_namespaces(second_private, world):
    targets = {"a": world.serve(says("a")), "b": world.serve(says("b")), "c": world.serve(says("c"), namespace=second_private)}
    proxy = world.proxy("-w", "2", "-f", world.config("".join(
        service(name, world.public(), f"{(second_private if name == 'c' else world.priv).name}@{PRIVATE}:{target.port}") for name, target in targets.items())))
    assert (proxy.services, proxy.n_workers) == (3, 4)
    for name in targets:
        assert heard(peers.connect(world.pub, PUBLIC, proxy.addresses(name)[0][2])) == name
    spaces = sorted(proc.netns(pid) for pid in proxy.workers())
    assert spaces == sorted([world.priv.inode()] * 2 + [second_private.inode()] * 2)
    assert {record["service"]: record["netns"] for record in proxy.wait_access(3)} == {"a": world.priv.name, "b": world.priv.name, "c": second_private.name}


def test_several_listeners_of_one_service(world):
    proxy = world.proxy("-w", "1", "-f", world.config(service("s", [world.public(), world.public()], world.private(world.serve(says("hi")).port))))
    ports = [port for _, _, port in proxy.addresses("s")]
    assert len(set(ports)) == 2
    assert [heard(peers.connect(world.pub, PUBLIC, port)) for port in ports] == ["hi", "hi"]


def test_several_pairs_on_the_command_line(world):
    pairs = []
    for name in "xyz":
        pairs += ["-l", world.public(world.pub.free_port(PUBLIC)), "-c", world.private(world.serve(says(name)).port)]
    proxy = world.proxy("-w", "1", *pairs)
    assert [heard(peers.connect(world.pub, PUBLIC, port)) for _, _, port in proxy.addresses()] == ["x", "y", "z"]


def test_range_to_equal_range(world):
    count = 5
    public, private = free_range(world.pub, PUBLIC, count), free_range(world.priv, PRIVATE, count)
    for number in range(count):
        world.keep(peers.Server(world.priv.listener(PRIVATE, private + number), says(str(number))))
    proxy = world.proxy("-w", "2", "-l", f"{world.pub.name}@{PUBLIC}:{public}-{public + count - 1}",
                        "-c", f"{world.priv.name}@{PRIVATE}:{private}-{private + count - 1}")
    assert [heard(peers.connect(world.pub, PUBLIC, public + number)) for number in range(count)] == [str(number) for number in range(count)]
    records = proxy.wait_access(count)
    assert {record["listener"].rpartition(":")[2]: record["target"].rpartition(":")[2] for record in records} == {
        str(public + number): str(private + number) for number in range(count)}


def test_range_to_one_port(world):
    first = free_range(world.pub, PUBLIC, 4)
    world.proxy("-w", "1", "-l", f"{world.pub.name}@{PUBLIC}:{first}-{first + 3}", "-c", world.private(world.serve(says("one")).port))
    assert [heard(peers.connect(world.pub, PUBLIC, first + number)) for number in range(4)] == ["one"] * 4


@pytest.mark.parametrize("listen, connect", [(PUBLIC6, PRIVATE6), (PUBLIC, PRIVATE6), (PUBLIC6, PRIVATE)])
def test_ipv6(world, engine, listen, connect):
    if not netns.have_ipv6():
        pytest.skip("this kernel has no IPv6")
    server = world.serve(peers.echo, host=connect)
    proxy = world.proxy("-w", "1", "-e", engine, "-l", world.public(host=listen), "-c", world.private(server.port, connect))
    client = world.connect(proxy)
    client.sendall(b"six")
    assert peers.receive_exactly(client, 3) == b"six"
    client.close()
    record = proxy.wait_access()[0]
    assert f"[{listen}]:" in record["listener"] if ":" in listen else f"@{listen}:" in record["listener"]
    assert f"[{connect}]:{server.port}" in record["target"] if ":" in connect else f"{connect}:{server.port}" in record["target"]


def test_star_takes_both_families(world):
    proxy = world.proxy("-w", "1", "-l", f"{world.pub.name}@*:0", "-c", world.private(world.serve(says("both")).port))
    ports = {port for _, _, port in proxy.addresses()}
    assert len(ports) == 1
    hosts = [PUBLIC, "127.0.0.1"] + ([PUBLIC6, "::1"] if netns.have_ipv6() else [])
    assert [heard(peers.connect(world.pub, host, proxy.port)) for host in hosts] == ["both"] * len(hosts)
    clients = [record["client"] for record in proxy.wait_access(len(hosts))]
    assert any(client.startswith(f"{world.pub.name}@{PUBLIC}:") for client in clients), "IPv4 clients are shown as IPv4"


def unix_listener(path):
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(path)
    sock.listen(64)
    return sock


def unix_connect(path):
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(peers.PATIENCE)
    sock.connect(path)
    return sock


def test_unix_listener(world, engine, short_path):
    path = f"{short_path}/in"
    proxy = world.proxy("-w", "1", "-e", engine, "-l", f"unix:{path}", "-c", world.private(world.serve(peers.reply_after_end(1 << 20, 1)).port))
    client = world.keep(unix_connect(path))
    peers.send_pattern(client, 5 << 20, 2)
    client.shutdown(1)
    assert peers.receive_exactly(client, 64).decode() == peers.digest(5 << 20, 2)
    assert peers.drain(client) == (1 << 20, peers.digest(1 << 20, 1), "eof")
    assert os.stat(path).st_mode & 0o777 == 0o666
    assert proxy.wait_access()[0]["end"] == "closed-by-client"
    world.close()
    assert not os.path.exists(path), "the socket is still there after the end"
    world.proxies.clear()


@pytest.mark.parametrize("owner,fails", [("root:nogroup", False), ("nobody:nogroup", True)])
def test_unix_owner_without_the_right_to_give_away(world, short_path, owner, fails):
    """As the service's unit starts it, without CAP_CHOWN: a group needs nothing, another owner is refused with the reason."""
    if world.install.one_id:
        pytest.skip("there is one user here")
    install = copy.copy(world.install)
    install.nsproxy = f"{short_path}/start"
    with open(install.nsproxy, "w", encoding="utf-8") as file:
        file.write(f'#!/bin/sh\nexec setpriv --bounding-set=-chown,-fowner {world.install.nsproxy} "$@"\n')
    os.chmod(install.nsproxy, 0o755)
    path = f"{short_path}/in"
    options = [*install.user_options(), "-s", "", "-f", world.config(
        f'workers = 1\nservice s {{\n listen = {{"unix:{path}"}}\n connect = {{"{world.private(9)}"}}\n unix-mode = "0660"\n unix-owner = "{owner}"\n}}\n')]
    if fails:
        result = install.run(*options)
        assert result.returncode == 1 and "change the owner of" in result.stderr and "CAP_CHOWN" in result.stderr
        assert not os.path.exists(path)
        return
    proxy = daemon.Nsproxy(install, options)
    world.proxies.append(proxy)
    status = os.stat(path)
    assert (status.st_uid, grp.getgrgid(status.st_gid).gr_name, stat.S_IMODE(status.st_mode)) == (0, "nogroup", 0o660)
    assert proc.status(proxy.pid)["Gid"].split() == ["0"] * 4



def test_unix_target(world, engine, short_path):
    path = f"{short_path}/out"
    world.keep(peers.Server(unix_listener(path), peers.reply_after_end(1 << 20, 3)))
    os.chmod(path, 0o666)
    proxy = world.proxy("-w", "1", "-e", engine, "-l", world.public(), "-c", f"unix:{path}")
    client = world.connect(proxy)
    peers.send_pattern(client, 5 << 20, 4)
    client.shutdown(1)
    assert peers.receive_exactly(client, 64).decode() == peers.digest(5 << 20, 4)
    assert peers.drain(client) == (1 << 20, peers.digest(1 << 20, 3), "eof")


def test_unix_on_both_sides(world, engine, short_path):
    world.keep(peers.Server(unix_listener(f"{short_path}/out"), peers.echo))
    os.chmod(f"{short_path}/out", 0o666)
    world.proxy("-w", "1", "-e", engine, "-l", f"unix:{short_path}/in", "-c", f"unix:{short_path}/out")
    client = world.keep(unix_connect(f"{short_path}/in"))
    sending = peers.Background(peers.send_pattern, client, 8 << 20, 5)
    assert peers.drain(client, 8 << 20)[:2] == (8 << 20, peers.digest(8 << 20, 5))
    sending.result()


def test_abstract_unix_on_both_sides(world):
    """They belong to the namespace nsproxy is started in."""
    tag = f"@nt{os.getpid()}"
    with world.pub.inside():
        listener = unix_listener(f"\0{tag[1:]}out")
        world.keep(peers.Server(listener, peers.echo))
        world.proxy("-w", "1", "-l", f"unix:{tag}in", "-c", f"unix:{tag}out")
        client = world.keep(unix_connect(f"\0{tag[1:]}in"))
    client.sendall(b"abstract")
    assert peers.receive_exactly(client, 8) == b"abstract"


def test_unix_target_that_is_missing(world, short_path):
    """Nobody there yet: clients get an end at once, and it works as soon as somebody is."""
    path = f"{short_path}/late"
    proxy = world.proxy("-w", "1", "-l", world.public(), "-c", f"unix:{path}")
    proxy.expect_log("late")
    peers.expect_reset(world.pub, PUBLIC, proxy.port)
    world.keep(peers.Server(unix_listener(path), says("here")))
    os.chmod(path, 0o666)
    assert heard(peers.connect(world.pub, PUBLIC, proxy.port)) == "here"


def test_stale_unix_socket_is_replaced_a_live_one_is_not(world, short_path):
    path = f"{short_path}/in"
    target = world.private(world.serve(says("fresh")).port)
    unix_listener(path).close()
    world.proxy("-w", "1", "-l", f"unix:{path}", "-c", target)
    assert heard(unix_connect(path)) == "fresh"
    result = world.install.run(*world.install.user_options(), "-s", "", "-w", "1", "-l", f"unix:{path}", "-c", target)
    assert result.returncode == 1 and path in result.stderr
    assert heard(unix_connect(path)) == "fresh"


def test_unix_mode(world, short_path):
    path = f"{short_path}/in"
    world.proxy("-w", "1", "-f", world.config(service("s", f"unix:{path}", world.private(9), 'unix-mode = "0600"')))
    assert os.stat(path).st_mode & 0o777 == 0o600


@pytest.mark.parametrize("form", ["path", "pid"])
def test_namespace_by(world, form):
    holder = world.priv.popen(["cat"], stdin=subprocess.PIPE)
    try:
        name = {"path": f"/proc/{holder.pid}/ns/net", "pid": f"pid:{holder.pid}"}[form]
        proxy = world.proxy("-w", "1", "-l", world.public(), "-c", f"{name}@{PRIVATE}:{world.serve(says(form)).port}")
        assert heard(world.connect(proxy)) == form
        assert proc.netns(proxy.workers()[0]) == world.priv.inode()
        assert proxy.wait_access()[0]["netns"] == name
    finally:
        holder.stdin.close()
        holder.wait()


def test_namespace_left_out_is_the_starters(world):
    with world.pub.inside():
        proxy = world.proxy("-w", "1", "-l", f"{PUBLIC}:0", "-c", world.private(world.serve(says("own")).port))
    assert heard(peers.connect(world.pub, PUBLIC, proxy.port)) == "own"


def test_both_sides_in_one_namespace(world):
    proxy = world.proxy("-w", "1", "-l", f"{world.priv.name}@{PRIVATE}:0", "-c", world.private(world.serve(says("same")).port))
    assert heard(peers.connect(world.priv, PRIVATE, proxy.port)) == "same"


def test_host_name_is_resolved(world):
    """Which of the addresses of its name comes first is the machine's choice (/etc/hosts, gai.conf)."""
    try:
        host = socket.getaddrinfo("localhost", None, type=socket.SOCK_STREAM)[0][4][0]
    except OSError as error:
        pytest.skip(f"this machine knows no localhost: {error}")
    server = world.serve(says("local"), host=host)
    proxy = world.proxy("-w", "1", "-l", world.public(), "-c", f"{world.priv.name}@localhost:{server.port}", "-v")
    assert heard(world.connect(proxy)) == "local"
    assert proxy.wait_access()[0]["target"].endswith(f"{f'[{host}]' if ':' in host else host}:{server.port}")


def test_host_name_that_does_not_exist(world):
    result = world.install.run(*world.install.user_options(), "-s", "", "-l", world.public(), "-c", f"{world.priv.name}@no-such-host.invalid:80")
    assert result.returncode == 1 and "no-such-host.invalid" in result.stderr and len(result.stderr.splitlines()) == 1


def test_source_address(world):
    world.priv.ip_batch(["addr add 172.20.0.77/32 dev lo"])
    server = world.serve()
    proxy = world.relay(server, source='"172.20.0.77"')
    _, target = world.pair(proxy, server)
    assert target.getpeername()[0] == "172.20.0.77"


def test_include(world):
    """Each match, in lexical order; a pattern without a match is none's fault."""
    directory = os.path.join(world.directory, "conf.d")
    os.mkdir(directory)
    for name in ("20-b", "10-a"):
        world.config(service(name[3:], world.public(), world.private(world.serve(says(name)).port)), f"conf.d/{name}.conf")
    world.config("this is not read", "conf.d/readme.txt")
    proxy = world.proxy("-w", "1", "-f", world.config(f'include("{directory}/*.conf")\ninclude("{directory}/*.none")\n'))
    assert [heard(peers.connect(world.pub, PUBLIC, port)) for _, _, port in proxy.addresses()] == ["10-a", "20-b"]


def test_comments_and_every_key(world):
    everything = '''# a comment
workers = 1
log = "stderr"                  # another
log-level = "info"
access-log = "log"
access-format = "pairs"
log-empty = true
control = ""
control-mode = "0600"
drain-timeout = "5s"
wait-for-netns = false
engine = "copy"
''' + ('' if world.install.one_id else 'user = "nobody"\ncontrol-group = "nogroup"\n')
    keys = ('engine = "splice"', "max-connections = 10", "backlog = 16", f'source = "{PRIVATE}"', 'connect-timeout = "1500ms"', 'idle-timeout = "10min"',
            'half-close-timeout = "1h"', "keepalive = false", 'user-timeout = "30s"', "log-empty = true", 'access-log = "log"', "wait-for-netns = false",
            'unix-mode = "0660"', 'unix-owner = "root"')
    path = world.config(everything + service("all", world.public(), world.private(world.serve(says("all")).port), *keys))
    proxy = world.proxy("-f", path, user=False)
    assert heard(world.connect(proxy)) == "all"
    assert proxy.wait_access()[0]["engine"] == "splice"


def test_command_line_wins_over_the_file(world):
    path = world.config('workers = 1\nengine = "copy"\nuser = "no-such-user"\naccess-log = "none"\n' + service(
        "s", world.public(), world.private(world.serve(says("x")).port)))
    proxy = world.proxy("-f", path, "-w", "3", "-e", "splice", "-a", "log", "-u", "nobody" if not world.install.one_id else "root", user=False)
    assert proxy.n_workers == 3
    assert heard(world.connect(proxy)) == "x"
    assert proxy.wait_access()[0]["engine"] == "splice"


def test_check_is_silent_when_all_is_well(world):
    path = world.config(service("s", world.public(), world.private(80)))
    for options in (["-f", path], ["-l", world.public(), "-c", world.private(80)]):
        result = world.install.run(*world.install.user_options(), "-t", *options)
        assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_check_while_it_is_running(world):
    """The port being in use by ourselves is not an error of the file."""
    server = world.serve(says("x"))
    port = world.pub.free_port(PUBLIC)
    path = world.config(service("s", world.public(port), world.private(server.port)))
    world.proxy("-w", "1", "-f", path)
    result = world.install.run(*world.install.user_options(), "-t", "-f", path)
    assert (result.returncode, result.stderr) == (0, "")


def test_dump_can_be_read_again(world):
    path = world.config('workers = 3\ndrain-timeout = "7s"\n' + service("one", world.public(), world.private(80), 'idle-timeout = "90s"', "max-connections = 7")
                        + service("two", [world.public(host=PUBLIC6), f"{world.pub.name}@*:0"], world.private(8080), 'engine = "copy"', 'access-log = "none"'))
    user = world.install.user_options()
    first = world.install.run(*user, "-T", "-f", path)
    assert first.returncode == 0 and first.stderr == ""
    for part in ("one", "two", PUBLIC, PUBLIC6, f"{PRIVATE}:80", "max-connections = 7", "connect-timeout", "half-close-timeout"):
        assert part in first.stdout
    again = world.config(first.stdout, "dumped.conf")
    assert world.install.run("-t", "-f", again).stderr == ""
    assert world.install.run("-T", "-f", again).stdout == first.stdout


def test_dump_of_the_command_line(world):
    server = world.serve(says("dumped"))
    dump = world.install.run(*world.install.user_options(), "-s", "", "-w", "1", "-e", "copy", "-T", "-l", world.public(), "-c", world.private(server.port))
    assert dump.returncode == 0
    proxy = world.proxy("-f", world.config(dump.stdout), user=False)
    assert heard(world.connect(proxy)) == "dumped"


def test_many_services(world):
    """As many as an installation may have, each found at its own port."""
    server = world.serve(says("x"))
    text = "".join(service(f"s{number}", world.public(), world.private(server.port)) for number in range(100))
    proxy = world.proxy("-w", "1", "-f", world.config(text))
    assert proxy.services == 100
    ports = [proxy.addresses(f"s{number}")[0][2] for number in range(100)]
    gathered = [heard(peers.connect(world.pub, PUBLIC, port)) for port in ports]
    assert gathered == ["x"] * 100
    assert len({record["service"] for record in proxy.wait_access(100)}) == 100
