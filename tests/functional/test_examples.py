# SPDX-License-Identifier: ISC
"""
The examples of the manual pages, as they stand there: in namespaces of exactly these names and addresses, each is checked with -t, started, and used
through every listener. Only users, and the directories that files are in, are those of the test.
"""

import os
import re
import shlex
import signal
import socket
import subprocess

import pytest

from support import netns, peers, proc, waits

PAGES = os.path.join(os.path.dirname(__file__), "..", "..", "man")
PID = "4242"            # of the container's first process, in the page
FAR = "10.8.0.1"        # who is at the other end of the tunnel


def examples_of(page):
    with open(os.path.join(PAGES, page), encoding="utf-8") as file:
        text = file.read()
    return re.search(r"^\.Sh EXAMPLES\n((?:(?!\.Sh ).*\n)*)", text, re.M)[1].replace("\\e", "\\").replace("\\&", "")


def configurations():
    return re.findall(r"^\.Bd -literal.*\n((?:(?!\.Ed).*\n)*)\.Ed", examples_of("nsproxy.conf.5"), re.M)


def commands():
    """Every line with a prompt, continued lines joined."""
    text = examples_of("nsproxy.8").replace("\\\n", " ")
    return [shlex.split(line) for line in re.findall(r"^(?:\.Dl )?# (.*)$", text, re.M)]


COMMANDS = [words for words in commands() if words[0] == "nsproxy"]
SETUP = [words for words in commands() if words[0] != "nsproxy"]
CONFIGURATIONS = configurations()


def parts(address):
    """[NETNS@]HOST:FIRST[-LAST] as (NETNS, HOST, FIRST, LAST)."""
    space, _, rest = address.rpartition("@")
    host, _, ports = rest.rpartition(":")
    first, _, last = ports.partition("-")
    return space, host.strip("[]"), int(first), int(last or first)


@pytest.fixture(scope="module")
def machine(namespaces_work):
    """{name: Namespace}: what the pages talk about; `host` is where nsproxy is started."""
    if not netns.have_ipv6():
        pytest.skip("this kernel has no IPv6")
    made = {name: netns.Namespace("", addresses, name) for name, addresses in {
        "public": ["10.10.10.10/32", "fd00::1/128"], "private": ["172.20.0.2/32", "fd00::2/128"], "host": [], "web": [], "games": [], "far": []}.items()}
    # The tunnel: what the page does with it, it does with one end of a pair of links, whose other end is far away.
    made["host"].ip_batch(["link add wg0 type veth peer name wg0 netns far"])
    made["far"].ip_batch([f"addr add {FAR}/24 dev wg0", "link set wg0 up"])
    for words in SETUP:
        made["host"].run(words, check=True)
    made["vpn"] = netns.Namespace("", [], "vpn")
    yield made
    for space in made.values():
        space.remove()


@pytest.fixture
def container(machine):
    """The first process of the container whose namespace is `web`."""
    process = machine["web"].popen(["cat"], stdin=subprocess.PIPE)
    yield process.pid
    process.stdin.close()
    process.wait()


class Run:
    """One example: its targets answer with their own address as the example writes it, and every listener is tried."""

    def __init__(self, world, machine, place):
        self.world, self.machine, self.place = world, machine, place
        self.sources = {}
        for directory in ("conf.d", "nsproxy"):
            os.mkdir(os.path.join(place, directory))

    def here(self, text):
        """The same with files in a directory of the test."""
        return re.sub(r"/etc/nsproxy|/var/log(?:/nsproxy)?|/run(?!/netns)", self.place, text)

    def space(self, name):
        if name == f"pid:{PID}":
            name = "web"
        return self.machine[os.path.basename(name) or "host"]

    def target(self, address):
        if address.startswith("unix:"):
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(self.here(address[5:]))
            os.chmod(self.here(address[5:]), 0o666)
            listener.listen()
            self.world.keep(peers.Server(listener, self.answer(address)))
            return
        space, host, first, last = parts(address)
        where = self.machine["far"] if host == FAR else self.space(space)
        for port in {first, last}:
            name = f"{space}@{host}:{port}"
            self.world.keep(peers.Server(where.listener(host, port), self.answer(name)))

    def answer(self, name):
        def handler(sock):
            self.sources[name] = sock.getpeername()
            sock.sendall(name.encode())
            sock.shutdown(socket.SHUT_WR)
            peers.drain(sock)
        return handler

    def try_listener(self, listen, connect):
        """Connects to the first and the last port of a listener; how often."""
        if listen.startswith("unix:"):
            self.hear(self.unix_client(self.here(listen[5:])), connect, 0)
            return 1
        space, host, first, last = parts(listen)
        hosts = {"public": ["10.10.10.10", "fd00::1"], "": ["127.0.0.1", "::1"]}[space] if host == "*" else [host]
        for port in sorted({first, last}):
            for name in hosts:
                self.hear(peers.connect(self.space(space), name, port), connect, port - first)
        return len({first, last}) * len(hosts)

    @staticmethod
    def unix_client(path):
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(path)
        return sock

    @staticmethod
    def hear(sock, connect, offset):
        with sock:
            said = peers.receive_exactly(sock, 4096).decode()
        if connect.startswith("unix:"):
            assert said == connect
            return
        space, host, first, last = parts(connect)
        assert said == f"{space}@{host}:{first + (offset if last > first else 0)}"


@pytest.fixture
def run(world, machine, short_path):
    return Run(world, machine, short_path)


@pytest.mark.parametrize("number", range(len(CONFIGURATIONS)))
def test_configuration(world, machine, run, number):
    text = run.here(CONFIGURATIONS[number]).replace('user = "nsproxy"\n', "")
    owner = "root" if world.install.one_id else "root:nogroup"
    text = re.sub(r'unix-owner = .*', f'unix-owner = "{owner}"', text)
    if world.install.one_id:        # one id is too few for a range of them
        text = re.sub(r"worker-users = .*\n", "", text)
    path = world.config(text)
    with machine["host"].inside():
        checked = world.install.run(*world.install.user_options(), "-s", "", "-t", "-f", path)
        assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")
        pairs = []
        for body in re.findall(r"^service \S+ \{\n(.*?)^\}", CONFIGURATIONS[number], re.M | re.S):
            connect = re.search(r'connect = \{"(.*)"\}', body)[1]
            pairs += [(listen, connect) for listen in re.findall(r'"(.*?)"', re.search(r"listen = \{(.*)\}", body)[1])]
        assert pairs, "an example without a service"
        for connect in {connect for _, connect in pairs}:
            run.target(connect)
        proxy = world.proxy("-f", path)
    tried = sum(run.try_listener(*pair) for pair in pairs)
    if 'access-log = "file:' in text:
        log = re.search(r'access-log = "file:(.*)"', text)[1]
        waits.until(lambda: os.path.getsize(log) and len(open(log, encoding="utf-8").readlines()) == tried, "the lines of the access log")
    else:
        proxy.wait_access(tried, end="closed-by-target")
    source = re.search(r'source = "(.*)"', text)
    if source:
        assert {address[0] for address in run.sources.values()} == {source[1]}


def options_here(world, run, words, container):
    words = [run.here(word).replace(f"pid:{PID}", f"pid:{container}") for word in words[1:]]
    return [*(world.install.user_options() if "-u" not in words else []), *(words if not world.install.one_id else without_user(words))]


def without_user(words):
    """Where one id is mapped there is nobody else to become."""
    if "-u" in words:
        at = words.index("-u")
        return words[:at] + words[at + 2:]
    return words


@pytest.mark.parametrize("words", [words for words in COMMANDS if "-l" in words], ids=" ".join)
def test_command(world, machine, run, container, words):
    options = options_here(world, run, words, container)
    pairs = [(words[i + 1], words[i + 3]) for i in range(len(words) - 3) if words[i] == "-l"]
    assert pairs and all(words[words.index(listen) + 1] == "-c" for listen, _ in pairs)
    for connect in {connect for _, connect in pairs}:
        run.target(connect)
    with machine["host"].inside():
        if "-b" in words:
            in_background(world, run, options, pairs)
            return
        proxy = world.proxy(*options, user=False)
    if "-w" in words:
        namespaces = {proc.netns(pid) for pid in proxy.workers()}
        assert len(proxy.workers()) == int(words[words.index("-w") + 1]) * len(namespaces) and len(namespaces) == 2
    proxy.wait_access(sum(run.try_listener(*pair) for pair in pairs), end="closed-by-target")


def in_background(world, run, options, pairs):
    code = subprocess.run([world.install.nsproxy, "-s", "", *options], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=60).returncode
    assert code == 0
    with open(options[options.index("-p") + 1], encoding="utf-8") as file:
        pid = int(file.read())
    children = proc.children(pid)
    try:
        assert children
        assert sum(run.try_listener(*pair) for pair in pairs) > 0
    finally:
        os.kill(pid, signal.SIGTERM)
        waits.until(lambda: not any(map(proc.alive, [pid, *children])), "the end of the daemon in the background")


@pytest.mark.parametrize("words", [words for words in COMMANDS if "-l" not in words], ids=" ".join)
def test_command_that_only_looks(world, machine, run, words):
    """-t has nothing to say about the sample, -T prints what can be read again."""
    with open(os.path.join(run.place, "nsproxy.conf"), "w", encoding="utf-8") as file:
        file.write(run.here(CONFIGURATIONS[0]).replace('user = "nsproxy"\n', ""))
    with machine["host"].inside():
        result = world.install.run(*world.install.user_options(), *map(run.here, words[1:]))
    assert (result.returncode, result.stderr) == (0, "")
    assert bool(result.stdout) == ("-T" in words)
