# SPDX-License-Identifier: ISC
"""Completion in real shells: bash and zsh on a terminal, the Tab key pressed; bash's function also called as the shell calls it."""

import os
import shlex
import shutil
import subprocess

import pytest

from support import peers, terminal

COMPLETION = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "contrib", "completion")


def bash_replies(line, program="nsproxy", env=None):
    """COMPREPLY for a line with the cursor at its end."""
    script = f"""
        for file in {shlex.quote(COMPLETION)}/bash/*; do . "$file"; done
        COMP_LINE={shlex.quote(line)} COMP_POINT={len(line)} COMPREPLY=()
        _{program} {program}
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    result = subprocess.run(["bash", "--norc", "-c", script], capture_output=True, text=True, check=True, env={**os.environ, **(env or {})})
    assert result.stderr == ""
    return [reply for reply in result.stdout.split("\n") if reply]


@pytest.mark.parametrize("line, some", [
    ("nsproxy --eng", {"--engine"}),
    ("nsproxy -e ", {"adaptive", "copy", "splice", "io_uring"}),
    ("nsproxy -v --engine co", {"copy"}),
    ("nsproxy -a ", {"none", "log", "file:"}),
    ("nsproxy -u nobo", {"nobody"}),
    ("nsproxy -l unix:/etc/host", {"/etc/hosts", "/etc/hostname"}),      # the shell itself keeps "unix:", where it splits the word
    ("nsproxy -f /etc/host", {"/etc/hosts"}),
    ("nsproxy -w 0", {"0"}),
])
def test_bash(line, some):
    assert some <= set(bash_replies(line)), f"{line!r}: {bash_replies(line)}"


def test_bash_options():
    replies = bash_replies("nsproxy -")
    assert {"-l", "--listen", "--help", "-V"} <= set(replies) and all(reply.startswith("-") for reply in replies)


def test_bash_completes_namespaces(world):
    assert set(bash_replies(f"nsproxy -l {world.pub.name[:4]}")) >= {f"{world.pub.name}@", f"{world.priv.name}@"}


@pytest.mark.parametrize("line, some", [
    ("nsproxyctl ", {"status", "services", "kill", "top"}),
    ("nsproxyctl --json re", {"resume", "reload"}),
    ("nsproxyctl up", {"upgrade"}),
    ("nsproxyctl log-level ", {"err", "warning", "notice", "info", "debug"}),
    ("nsproxyctl connections --s", {"--service", "--socket", "--state", "--sort"}),
    ("nsproxyctl connections --state half", {"half-closed"}),
    ("nsproxyctl connections --sort b", {"bytes"}),
])
def test_bash_of_nsproxyctl(line, some):
    assert set(bash_replies(line, "nsproxyctl")) == some or len(some) == 4 and some <= set(bash_replies(line, "nsproxyctl"))


@pytest.fixture
def daemon(world, short_path):
    """A daemon with a control socket, two services, one of them named by its address, and a connection; with it in the PATH: (socket, environment)."""
    server = world.serve(peers.echo)
    other = world.serve(peers.echo)
    proxy = world.proxy("-w", "1", "-s", f"{short_path}/control", "-f", world.config("".join(
        f'service {name} {{\n    listen = {{"{world.public()}"}}\n    connect = {{"{world.private(target.port)}"}}\n}}\n'
        for name, target in (("web", server), ("web:443", other)))))
    client = world.connect(proxy)
    client.sendall(b"x")
    assert client.recv(1) == b"x"
    return f"{short_path}/control", {"PATH": f"{world.install.prefix}/sbin:{os.environ['PATH']}"}


def test_bash_asks_the_daemon(daemon):
    socket, env = daemon
    for line, replies in (("drain ", ["web", "web:443"]), ("resume web:", ["443"]), ("connections --service web:4", ["443"]), ("kill ", ["1"]),
                          ("workers --worker ", ["0"]), ("reload ", [])):
        assert bash_replies(f"nsproxyctl -s {socket} {line}", "nsproxyctl", env) == replies, line
    assert bash_replies(f"nsproxyctl --socket={socket} drain ", "nsproxyctl", env) == ["web", "web:443"]
    assert bash_replies("nsproxyctl -s /nonexistent drain ", "nsproxyctl", env) == []


def shell(kind, env=None):
    if kind == "bash":
        made = terminal.Terminal(["bash", "--norc", "--noprofile", "-i"], columns=120, env={"PS1": "ready> ", **(env or {})})
        made.type(f"for f in {COMPLETION}/bash/*; do . $f; done; bind 'set bell-style none'; clear; echo lo''aded\r")
    else:
        if shutil.which("zsh") is None:
            pytest.skip("zsh is not installed")
        made = terminal.Terminal(["zsh", "-f", "-i"], columns=120, env={"PS1": "ready> ", "HOME": "/nonexistent", **(env or {})})
        made.type(f"unsetopt zle_bracketed_paste; fpath=({COMPLETION}/zsh $fpath); autoload -Uz compinit && compinit -u -D; clear; echo lo''aded\r")
    made.wait(r"^loaded$")
    return made


@pytest.fixture(params=["bash", "zsh"])
def typing(request, install):
    """A shell at its prompt."""
    made = shell(request.param, {"PATH": f"{install.prefix}/sbin:{os.environ['PATH']}"})
    yield made
    made.close()


def test_tab_completes_an_option(typing):
    typing.type("nsproxy --eng\t")
    typing.wait(r"ready> nsproxy --engine")
    typing.type("spl\t")
    typing.wait(r"ready> nsproxy --engine splice")


def test_tab_completes_behind_a_colon(typing):
    typing.type("nsproxy -v -a file:/etc/hostn\t")
    typing.wait(r"ready> nsproxy -v -a file:/etc/hostname")


def test_tab_completes_a_namespace(typing, world):
    typing.type(f"nsproxy -v -l {world.pub.name[:-1]}\t")
    typing.wait(rf"ready> nsproxy -v -l {world.pub.name}@")


def test_tab_completes_a_command_and_asks_the_daemon(typing, daemon):
    socket, _ = daemon
    typing.type(f"nsproxyctl -s {socket} dra\t")
    typing.wait(rf"ready> nsproxyctl -s {socket} drain")
    typing.type("web:\t")
    typing.wait(rf"ready> nsproxyctl -s {socket} drain web:443")
    typing.type("\x15nsproxyctl connections --sta\t")
    typing.wait(r"ready> nsproxyctl connections --state")
    typing.type("half\t")
    typing.wait(r"ready> nsproxyctl connections --state half-closed")
