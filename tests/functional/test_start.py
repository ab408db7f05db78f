# SPDX-License-Identifier: ISC
"""Starting: the ready line, the background, the pid file; and every way not to start, each with one clear line, its exit code, and nothing left behind."""

import os
import re
import signal
import subprocess

import pytest

from conftest import PRIVATE, PUBLIC
from support import daemon, peers, proc, rows, waits

NOBODY = 65534


def one_line(result):
    """The only line on stderr but for those that name a port, and it is the daemon's."""
    lines = [line for line in result.stderr.splitlines() if not daemon.LISTENING.search(line)]
    assert len(lines) == 1, f"not one line:\n{result.stderr}"
    assert lines[0].startswith("nsproxy: "), lines[0]
    assert result.stdout == ""
    return lines[0]


def refused(world, code, says, *options, user=True, wrapper=(), **popen):
    """Starts with these options and expects that exit code, one line that says it, and no process left."""
    options = [*(world.install.user_options() if user else []), "-s", "", *options]
    if wrapper:
        process = subprocess.run([*wrapper, world.install.nsproxy, *options], capture_output=True, text=True, timeout=30, start_new_session=True, **popen)
        process.left = []
    else:
        process = world.install.run(*options, **popen)
    line = one_line(process)
    assert process.returncode == code, f"exit code {process.returncode}, not {code}: {line}"
    assert re.search(says, line), f"{line!r} does not say {says!r}"
    assert process.left == []
    return line


# -- starting --

def test_ready(world):
    proxy = world.relay(world.serve(peers.echo), workers=3)
    assert (proxy.services, proxy.n_workers) == (1, 3)
    assert len(proxy.workers()) == 3 and len(proxy.children("nsproxy-reporter")) == 1 and len(proxy.pids()) == 5
    netns, host, port = proxy.addresses()[0]
    assert (netns, host) == (world.pub.name, PUBLIC) and port > 0
    ready = next(number for number, line in enumerate(proxy.lines) if daemon.READY.search(line.text))
    listening = next(number for number, line in enumerate(proxy.lines) if daemon.LISTENING.search(line.text))
    assert listening < ready, "the port is known when it is ready"


def test_workers_zero_is_one_for_each_processor(world):
    proxy = world.relay(world.serve(peers.echo), workers=0)
    assert proxy.n_workers == len(os.sched_getaffinity(0))


def test_log_without_service_manager_is_plain(world):
    """No <N> in front when stderr is not the journal."""
    proxy = world.proxy("-w", "1", "-l", world.public(), "-c", world.private(9), journal=False)
    assert not [line.raw for line in proxy.lines if line.raw.startswith("<")]
    assert [line.raw for line in proxy.lines if line.raw.startswith("nsproxy: ready, ")]


def test_long_options(world):
    server = world.serve(peers.echo)
    user = ["--user", "nobody"] if not world.install.one_id else []
    proxy = world.proxy(*user, "--workers", "1", "--engine", "copy", "--access-log", "log", "--socket", "", "--pidfile",
                        os.path.join(world.directory, "pid"), "--listen", world.public(), "--connect", world.private(server.port), user=False)
    client = world.connect(proxy)
    client.sendall(b"x")
    assert client.recv(1) == b"x"


def test_services_of_the_command_line_are_named_by_their_listener(world):
    server = world.serve(peers.echo)
    proxy = world.relay(server)
    assert len(proxy.addresses(world.public())) == 1
    world.connect(proxy).close()
    assert proxy.wait_access()[0]["service"] == world.public()


def test_pid_file(world):
    path = os.path.join(world.directory, "nsproxy.pid")
    proxy = world.proxy("-w", "1", "-p", path, "-l", world.public(), "-c", world.private(9))
    with open(path) as file:
        assert file.read() == f"{proxy.pid}\n"


def background(world, *options, name="log"):
    """Starts with -b; its exit code and its log as a file's path."""
    log, pid = (os.path.join(world.directory, f"{name}.{end}") for end in ("log", "pid"))
    text = f'log = "file:{log}"\nservice s {{\n listen = {{"{world.public()}"}}\n connect = {{"{world.private(9)}"}}\n}}\n'
    with open(os.path.join(world.directory, f"{name}.stderr"), "w+") as stderr:
        code = subprocess.run([world.install.nsproxy, *world.install.user_options(), "-s", "", "-b", "-w", "1", "-p", pid,
                               *(options or ("-f", world.config(text)))],
                              stdin=subprocess.DEVNULL, stdout=stderr, stderr=stderr, timeout=30).returncode
        stderr.seek(0)
        return code, log, pid, stderr.read()


def test_background(world):
    code, log, pid_file, _ = background(world)
    assert code == 0
    with open(pid_file) as file:
        pid = int(file.read())
    try:
        def text_of_log():
            with open(log) as file:
                return file.read()
        # The reporter writes it, and may be a moment later than the starter's end.
        waits.until(lambda: daemon.READY.search(text_of_log()), "the ready line")
        text = text_of_log()
        port = daemon.split_address(daemon.LISTENING.search(text)["address"])[2]
        assert proc.program(pid) == "nsproxy" and len(proc.children(pid)) == 2
        assert int(proc.stat(pid)[3]) == pid or int(proc.stat(pid)[3]) != os.getsid(0), "it is still in the starter's session"
        assert [proc.descriptors(pid)[number] for number in range(3)] == ["/dev/null"] * 3
        peers.expect_reset(world.pub, PUBLIC, port)     # nobody listens on port 9
    finally:
        children = proc.children(pid)
        os.kill(pid, signal.SIGTERM)
        waits.until(lambda: not any(map(proc.alive, [pid, *children])), "the end of the daemon in the background")


def test_background_tells_that_it_failed(world):
    code, _, pid_file, stderr = background(world, "-l", f"{world.pub.name}@192.0.2.1:0", "-c", world.private(9))
    assert code == 1
    assert "192.0.2.1" in stderr and len(stderr.splitlines()) == 1
    assert not os.path.exists(pid_file)


def test_version(install):
    result = install.run("-V")
    assert result.returncode == 0 and re.search(r"nsproxy \d", result.stdout)
    assert all(re.search(rf"\b{engine}\b", result.stdout) for engine in ("copy", "splice", "adaptive"))
    for library in ("libcap-ng", "libseccomp", "libconfuse"):
        assert library in result.stdout
    assert install.run("--version").stdout == result.stdout


def test_help(install):
    result = install.run("--help")
    assert result.returncode == 0
    for option in ("listen", "connect", "config", "check", "dump", "access-log", "engine", "workers", "user", "background", "pidfile", "socket",
                   "verbose", "version", "help"):
        assert f"--{option}" in result.stdout


# -- not starting: the command line --

BAD_COMMAND_LINES = {
    "unknown long option": (["--no-such-option"], "no-such-option"),
    "unknown short option": (["-X"], "X"),
    "no argument": (["-l"], "l"),
    "stray argument": (["-l", "{pub}", "-c", "{priv}", "stray"], "stray"),
    "connect without listen": (["-c", "{priv}"], "-c|connect"),
    "listen without connect": (["-l", "{pub}"], "-l|listen|connect"),
    "two connects": (["-l", "{pub}", "-c", "{priv}", "-c", "{priv}"], "-c|connect"),
    "file and listen": (["-f", "/dev/null", "-l", "{pub}", "-c", "{priv}"], "-f"),
    "address without port": (["-l", "{pubns}@10.10.10.10", "-c", "{priv}"], "10.10.10.10"),
    "port is a word": (["-l", "{pubns}@10.10.10.10:http", "-c", "{priv}"], "http"),
    "port out of range": (["-l", "{pubns}@10.10.10.10:65536", "-c", "{priv}"], "65536"),
    "port far out of range": (["-l", "{pubns}@10.10.10.10:99999999999999999999", "-c", "{priv}"], "999"),
    "negative port": (["-l", "{pubns}@10.10.10.10:-1", "-c", "{priv}"], "-1"),
    "port zero to connect to": (["-l", "{pub}", "-c", "{privns}@172.20.0.2:0"], "172.20.0.2:0"),
    "range backwards": (["-l", "{pubns}@10.10.10.10:8009-8000", "-c", "{priv}"], "8009-8000"),
    "unequal ranges": (["-l", "{pubns}@10.10.10.10:8000-8009", "-c", "{privns}@172.20.0.2:8000-8004"], "8000-8004|8000-8009|range"),
    "range to connect to only": (["-l", "{pub}", "-c", "{privns}@172.20.0.2:8000-8004"], "8000-8004|range"),
    "bracket left open": (["-l", "{pubns}@[fd00::1:80", "-c", "{priv}"], "fd00"),
    "v6 without brackets": (["-l", "{pubns}@fd00::1:80", "-c", "{priv}"], "fd00"),
    "bad v6": (["-l", "{pubns}@[fd00::zz]:80", "-c", "{priv}"], "fd00::zz"),
    "empty host": (["-l", "{pubns}@:80", "-c", "{priv}"], ":80"),
    "empty address": (["-l", "", "-c", "{priv}"], "empty|address|''"),
    "star to connect to": (["-l", "{pub}", "-c", "{privns}@*:80"], r"\*"),
    "unix without a path": (["-l", "unix:", "-c", "{priv}"], "unix"),
    "unix path too long": (["-l", "unix:/" + "x" * 200, "-c", "{priv}"], "xxx|long"),
    "unknown engine": (["-e", "warp", "-l", "{pub}", "-c", "{priv}"], "warp"),
    "workers is a word": (["-w", "many", "-l", "{pub}", "-c", "{priv}"], "many"),
    "workers negative": (["-w", "-3", "-l", "{pub}", "-c", "{priv}"], "-3"),
    "bad place for the access log": (["-a", "printer", "-l", "{pub}", "-c", "{priv}"], "printer"),
}


def names(world):
    return {"pub": world.public(), "priv": world.private(80), "pubns": world.pub.name, "privns": world.priv.name}


@pytest.mark.parametrize("case", BAD_COMMAND_LINES)
def test_bad_command_line(world, case):
    options, says = BAD_COMMAND_LINES[case]
    refused(world, 2, says, *(option.format(**names(world)) for option in options))


def test_same_listener_twice(world):
    """Two services on one address and port: an error of the command line, not of the machine."""
    port = world.pub.free_port(PUBLIC)
    pair = ["-l", world.public(port), "-c", world.private(80)]
    refused(world, 2, f"{PUBLIC}:{port}", *pair, *pair)


# -- not starting: the machine --

@pytest.mark.parametrize("side", ["listen", "connect"])
def test_missing_namespace(world, side):
    missing = "no-such-namespace@10.10.10.10:80"
    pair = (missing, world.private(80)) if side == "listen" else (world.public(), missing)
    line = refused(world, 4, "'no-such-namespace'", "-l", pair[0], "-c", pair[1])
    assert "/run/netns/no-such-namespace" in line and "ip netns add no-such-namespace" in line and "No such file" in line


@pytest.mark.parametrize("name", ["/etc/passwd", "/no/such/file", "pid:999999999"])
def test_namespace_that_is_none(world, name):
    refused(world, 4, re.escape(name), "-l", world.public(), "-c", f"{name}@172.20.0.2:80")


def test_address_not_in_that_namespace(world):
    line = refused(world, 1, PRIVATE, "-l", f"{world.pub.name}@{PRIVATE}:0", "-c", world.private(80))
    assert world.pub.name in line


def test_port_in_use(world):
    with world.pub.listener(PUBLIC) as holder:
        port = holder.getsockname()[1]
        line = refused(world, 1, f"{PUBLIC}:{port}", "-l", world.public(port), "-c", world.private(80))
        assert "in use" in line


def test_one_port_in_use_leaves_nothing_open(world):
    """The first of two listeners is fine, the second is not: the first must be free again."""
    free = world.pub.free_port(PUBLIC)
    with world.pub.listener(PUBLIC) as holder:
        taken = holder.getsockname()[1]
        refused(world, 1, f":{taken}", "-l", world.public(free), "-c", world.private(80), "-l", world.public(taken), "-c", world.private(80))
        world.pub.listener(PUBLIC, free).close()


@pytest.mark.parametrize("user", ["no-such-user", "root:no-such-group"])
def test_unknown_user(world, user):
    refused(world, 1, "no-such-(user|group)", "-u", user, "-l", world.public(), "-c", world.private(80), user=False)


def test_root_is_no_user_for_workers(world):
    if world.install.one_id:
        return      # there is nobody else there
    result = world.install.run("-u", "root", "-s", "", "-w", "1", "-l", world.public(), "-c", world.private(80))
    assert result.returncode in (1, 2) and "root" in one_line(result) and result.left == []


def test_no_permission(world):
    """An ordinary user; in a user namespace: root without capabilities."""
    wrapper = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]
    if not world.install.one_id:
        wrapper += [f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    line = refused(world, 4, "(?i)permi|capab|CAP_", "-l", world.public(), "-c", world.private(80), wrapper=wrapper)
    assert world.pub.name in line or world.priv.name in line or "CAP_" in line.upper()


def test_pid_file_that_cannot_be_written(world):
    port = world.pub.free_port(PUBLIC)
    refused(world, 1, "/no/such/dir/pid", "-w", "1", "-p", "/no/such/dir/pid", "-l", world.public(port), "-c", world.private(80))
    world.pub.listener(PUBLIC, port).close()


def test_access_log_that_cannot_be_written(world):
    refused(world, 1, "/no/such/dir/access", "-a", "file:/no/such/dir/access", "-w", "1", "-l", world.public(), "-c", world.private(80))


def over_programs(world, command):
    """Starts the rest in a mount namespace where the directory of the children's programs is another one, filled by `command`."""
    return ["unshare", "-m", "sh", "-c", f'mount -t tmpfs none "{world.install.libexec}" && cd "{world.install.libexec}" && {command}; exec "$@"', "sh"]


@pytest.mark.parametrize("case, command, says", [
    ("both missing", ":", "nsproxy-(worker|reporter)"),
    ("not executable", "touch nsproxy-worker nsproxy-reporter", "nsproxy-(worker|reporter)"),
    ("not programs", "echo garbage > nsproxy-worker; cp nsproxy-worker nsproxy-reporter; chmod 755 *", "(?i)worker|reporter"),
    ("end at once", "cp /bin/true nsproxy-worker; cp /bin/true nsproxy-reporter", "(?i)worker|reporter"),
], ids=lambda value: value.replace(" ", "-") if " " in str(value) and len(str(value)) < 20 else "")
def test_missing_worker_program(world, case, command, says):
    port = world.pub.free_port(PUBLIC)
    pid_file = os.path.join(world.directory, "pid")
    refused(world, 1, says, "-w", "1", "-p", pid_file, "-l", world.public(port), "-c", world.private(80), wrapper=over_programs(world, command))
    assert not os.path.exists(pid_file)
    world.pub.listener(PUBLIC, port).close()


def test_unix_listener_is_not_left_behind(world, short_path):
    path = f"{short_path}/socket"
    with world.pub.listener(PUBLIC) as holder:
        taken = holder.getsockname()[1]
        refused(world, 1, f":{taken}", "-l", f"unix:{path}", "-c", world.private(80), "-l", world.public(taken), "-c", world.private(80))
    assert not os.path.exists(path)


def test_control_socket_is_accepted(world, short_path):
    """-s is an option from the first release on."""
    proxy = world.proxy("-w", "1", "-s", f"{short_path}/control", "-l", world.public(), "-c", world.private(9))
    assert proxy.alive()


# -- not starting: the configuration file --

SERVICE = 'service web {{\n    listen = {{"{pub}"}}\n    connect = {{"{priv}"}}\n}}\n'
BAD_FILES = {        # text, line of the error (None: any), what is said
    "unknown key": ("no-such-key = 1\n" + SERVICE, 1, "no-such-key"),
    "unknown key in a service": ('service web {{\n listen = {{"{pub}"}}\n connect = {{"{priv}"}}\n colour = "blue"\n}}\n', 4, "colour"),
    "unknown section": ("server web {{\n}}\n" + SERVICE, 1, "server"),
    "syntax": ("workers =\n\n" + SERVICE, None, ""),
    "no service": ("workers = 1\n", None, "service"),
    "empty file": ("", None, "service"),
    "duplicate service": (SERVICE + SERVICE, None, "web"),
    "service without a name": (SERVICE.replace("web ", ""), None, ""),
    "service left open": (SERVICE.rstrip("}\n"), None, ""),
    "quote left open": ('user = "nobody\n' + SERVICE, None, ""),
    "no listen": ('service web {{\n connect = {{"{priv}"}}\n}}\n', None, "listen"),
    "no connect": ('service web {{\n listen = {{"{pub}"}}\n}}\n', None, "connect"),
    "two connects": ('service web {{\n listen = {{"{pub}"}}\n connect = {{"{priv}", "{priv}"}}\n}}\n', None, "connect"),
    "bad address": ('service web {{\n listen = {{"{pubns}@10.10.10.10"}}\n connect = {{"{priv}"}}\n}}\n', 2, "10.10.10.10"),
    "port out of range": ('service web {{\n listen = {{"{pub}"}}\n connect = {{"{privns}@172.20.0.2:70000"}}\n}}\n', 3, "70000"),
    "unequal ranges": ('service web {{\n listen = {{"{pubns}@10.10.10.10:8000-8009"}}\n connect = {{"{privns}@172.20.0.2:80-81"}}\n}}\n', None, "range|80-81"),
    "bad time": (SERVICE.replace("}}\n}}", '}}\n idle-timeout = "soon"\n}}'), 4, "soon"),
    "time without a unit": (SERVICE.replace("}}\n}}", '}}\n idle-timeout = "5 parsecs"\n}}'), 4, "parsecs"),
    "negative workers": ("workers = -1\n" + SERVICE, 1, "-1|workers"),
    "workers is a word": ('workers = "many"\n' + SERVICE, 1, "many|workers"),
    "unknown engine": ('engine = "warp"\n' + SERVICE, 1, "warp"),
    "unknown level": ('log-level = "loud"\n' + SERVICE, 1, "loud"),
    "unknown format": ('access-format = "xml"\n' + SERVICE, 1, "xml"),
    "bad place for the log": ('log = "printer"\n' + SERVICE, 1, "printer"),
    "boolean is a word": ('log-empty = "perhaps"\n' + SERVICE, 1, "perhaps|log-empty"),
    "variable of the environment": ('user = "${{NSPROXY_TEST_USER}}"\n' + SERVICE, None, ""),
    "include of a file that is missing": ('include("/no/such/file.conf")\n' + SERVICE, 1, "/no/such/file.conf"),
}


_refused_files = set()


@pytest.mark.parametrize("case", BAD_FILES)
def test_bad_file(world, case):
    text, line, says = BAD_FILES[case]
    path = world.config(text.format(**names(world)))
    user = [] if "user" in text else world.install.user_options()
    for check in ([], ["-t"]):
        place = rf"{re.escape(path)}(:{line or '[0-9]+'})?" if line is None else rf"{re.escape(path)}:{line}"
        refused(world, 6, place, *user, *check, "-f", path, user=False, env={**os.environ, "NSPROXY_TEST_USER": "nobody"})
        assert re.search(says, refused(world, 6, place, *user, *check, "-f", path, user=False, env={**os.environ, "NSPROXY_TEST_USER": "nobody"}))
    _refused_files.add(case)
    if len(_refused_files) == len(BAD_FILES):
        rows.record(38, "-", f"{len(BAD_FILES)} of {len(BAD_FILES)} kinds of bad files: exit code 6, file and line named, nothing started")


@pytest.mark.parametrize("path", ["/no/such/file.conf", "/etc"])
def test_file_that_cannot_be_read(world, path):
    refused(world, 6, re.escape(path), "-f", path)


def test_file_without_permission(world):
    path = world.config("")
    os.chmod(path, 0)
    wrapper = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]
    if not world.install.one_id:
        wrapper += [f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    else:
        os.chmod(world.directory, 0)
    try:
        refused(world, 6, "Permission denied", "-f", path, wrapper=wrapper)
    finally:
        os.chmod(world.directory, 0o755)


def test_error_in_an_included_file_names_that_file(world):
    inner = world.config("no-such-key = 1\n", "inner.conf")
    outer = world.config(f'include("{inner}")\n' + SERVICE.format(**names(world)))
    assert f"{inner}:1" in refused(world, 6, "no-such-key", "-f", outer)


def test_machine_errors_of_a_file(world):
    """What the machine refuses keeps its code at start, and is a fault of the file for -t."""
    missing = world.config(SERVICE.format(**{**names(world), "priv": "no-such-namespace@172.20.0.2:80"}))
    refused(world, 4, "no-such-namespace", "-f", missing)
    refused(world, 6, f"{re.escape(missing)}.*no-such-namespace|no-such-namespace.*", "-t", "-f", missing)
    foreign = world.config(SERVICE.format(**{**names(world), "pub": f"{world.pub.name}@{PRIVATE}:0"}), "foreign.conf")
    refused(world, 1, PRIVATE, "-f", foreign)
    refused(world, 6, PRIVATE, "-t", "-f", foreign)
    user = world.config('user = "no-such-user"\n' + SERVICE.format(**names(world)), "user.conf")
    refused(world, 1, "no-such-user", "-f", user, user=False)
    refused(world, 6, "no-such-user", "-t", "-f", user, user=False)


def test_check_says_everything(world):
    path = world.config('no-such-key = 1\nengine = "warp"\n' + 'service web {{\n listen = {{"{pubns}@10.10.10.10:70000"}}\n connect = {{"{priv}"}}\n}}\n'
                        .format(**names(world)) + 'service web {{\n listen = {{"{pub}"}}\n connect = {{"{priv}"}}\n}}\n'.format(**names(world)))
    result = world.install.run(*world.install.user_options(), "-t", "-f", path)
    assert result.returncode == 6
    for part in (f"{path}:1", "no-such-key", f"{path}:2", "warp", f"{path}:4", "70000", "web"):
        assert part in result.stderr, f"{part} is not in:\n{result.stderr}"
