# SPDX-License-Identifier: ISC
"""
Functional tests of the installed programs in network namespaces of their own.

    pytest-3 tests/functional                                    as root
    unshare -Urnm pytest-3 tests/functional                      as an ordinary user
    NSPROXY_PREFIX=/path pytest-3 ...  (or --nsproxy-prefix)     which installation
    NSPROXY_LONG=1                                               the big counts
    NSPROXY_MUST_WORK=1                                          a skip is a failure
    NSPROXY_VALGRIND=/path                                       under valgrind, which needs this directory and a build with test hooks
    -k smoke                                                     a few, one of each kind
"""

import contextlib
import os
import resource
import shutil
import socket

import pytest

from support import daemon, memcheck, netns, peers, sockstat, waits
from support.link import Link

RELAY_ENGINES = ("copy", "splice", "adaptive")
PUBLIC, PRIVATE = "10.10.10.10", "172.20.0.2"
PUBLIC6, PRIVATE6 = "fd00::1", "fd00::2"
MUST_WORK = os.environ.get("NSPROXY_MUST_WORK") == "1"
LONG = os.environ.get("NSPROXY_LONG") == "1"

SMOKE = {       # for builds that only vary what another run of everything shows
    "test_ready", "test_background", "test_missing_namespace", "test_port_in_use", "test_unknown_user", "test_no_permission",
    "test_file_up", "test_many_connections_of_random_sizes", "test_first_bytes_sent_with_the_handshake", "test_client_closes_first_then_a_long_reply",
    "test_reset_in_the_middle_of_a_stream", "test_refused", "test_killed_in_the_middle_of_transfers", "test_everything_ends_with_the_parent",
    "test_connections_may_finish", "test_idle_timeout", "test_bulk_with_urgent_bytes", "test_max_connections_exactly", "test_workers_hold_no_privilege",
    "test_pairs", "test_json", "test_unix_on_both_sides", "test_ipv6", "test_dump_can_be_read_again", "test_ready_status_and_stopping",
}

_figures = []
_state = {"install": None, "engines": RELAY_ENGINES, "no_namespaces": "", "cubic": "", "memcheck": None}


def pytest_addoption(parser):
    parser.addoption("--nsproxy-prefix", default=os.environ.get("NSPROXY_PREFIX", "/usr/local"),
                     help="prefix of the installation to test (default: $NSPROXY_PREFIX, else /usr/local)")


def pytest_configure(config):
    config.addinivalue_line("markers", "smoke: one of the few that every build is tested with")
    os.umask(0o022)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    os.environ["PATH"] += ":/usr/local/sbin:/usr/sbin:/sbin"
    _state["install"] = install = daemon.Install(config.getoption("--nsproxy-prefix"), netns.one_id())
    if install.present():
        _state["engines"] = install.engines()
        if memcheck.DIRECTORY:
            _state["memcheck"] = memcheck.Memcheck()
            install.nsproxy = _state["memcheck"].wrapped(install.nsproxy)
    try:
        netns.private_mounts()
        netns.allow_cubic()
    except OSError as error:
        _state["no_namespaces"] = f"namespaces cannot be made here ({error}): run as root, or inside unshare -Urnm"


def pytest_report_header():
    return [f"nsproxy: {_state['install'].nsproxy}, engines {', '.join(_state['engines'])}, "
            f"{'one id (rootless)' if _state['install'].one_id else 'several ids'}, {'long' if LONG else 'everyday'} counts"]


def pytest_generate_tests(metafunc):
    if "engine" in metafunc.fixturenames:
        metafunc.parametrize("engine", _state["engines"])


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    for item in items:
        if item.originalname in SMOKE:
            item.add_marker("smoke")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    if report.when == "call":
        item.failed = report.failed
    if MUST_WORK and report.skipped:
        report.outcome = "failed"
        report.longrepr = f"skipped, though NSPROXY_MUST_WORK=1: {report.longrepr}"


def pytest_sessionfinish(session):
    if _state["memcheck"] and _state["memcheck"].unseen():
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter):
    if _state["memcheck"]:
        terminalreporter.write_line(_state["memcheck"].summary())
        for program in _state["memcheck"].unseen():
            terminalreporter.write_line(f"ERROR: valgrind looked at no {program}")
    if _figures:
        terminalreporter.section("figures")
        for name, text in _figures:
            terminalreporter.write_line(f"{name}: {text}")


@pytest.fixture
def figure(request):
    """figure("text") puts a measured value into the summary at the end."""
    return lambda text: _figures.append((request.node.name, text))


@pytest.fixture(scope="session")
def install():
    if not _state["install"].present():
        pytest.skip(f"nsproxy is not installed ({_state['install'].nsproxy}); run make install, or name another prefix by NSPROXY_PREFIX")
    return _state["install"]


@pytest.fixture(scope="session")
def hooked():
    """An installation with hooks for tests."""
    prefix = os.environ.get("NSPROXY_HOOKS_PREFIX")
    if not prefix:
        pytest.skip("NSPROXY_HOOKS_PREFIX is not set: it names an installation configured with --enable-test-hooks")
    install = daemon.Install(prefix, netns.one_id())
    assert install.present(), f"{prefix} has no nsproxy"
    return install


@pytest.fixture(scope="session")
def namespaces_work():
    if _state["no_namespaces"]:
        pytest.skip(_state["no_namespaces"])


@pytest.fixture(scope="module")
def pub(namespaces_work):
    """Where the clients are."""
    yield from _namespace("pub", [f"{PUBLIC}/32", f"{PUBLIC6}/128"])


@pytest.fixture(scope="module")
def priv(namespaces_work):
    """Where the targets are."""
    yield from _namespace("priv", [f"{PRIVATE}/32", f"{PRIVATE6}/128"])


def _namespace(tag, addresses):
    made = netns.Namespace(tag, addresses)
    if MUST_WORK:
        assert made.congestion_control == "cubic", f"{made.name} uses {made.congestion_control}, not cubic"
    yield made
    made.remove()


@pytest.fixture
def link(namespaces_work):
    """Two namespaces more, and a link between them that can be cut."""
    made = Link()
    yield made
    made.remove()


@pytest.fixture
def short_path():
    """A directory whose path is short enough for a unix socket's name, and which everybody may enter."""
    import tempfile
    path = tempfile.mkdtemp(prefix="nt", dir="/tmp")
    os.chmod(path, 0o755)
    yield path
    shutil.rmtree(path)


class World:
    """
    What one test starts. close() ends clients, then targets; then the kernel must have given up every connection; then each daemon is checked and
    ended; then the kernel's own count of sockets, and the memory of TCP, are what they were before.
    """

    def __init__(self, install, pub, priv, directory):
        self.install, self.pub, self.priv, self.directory = install, pub, priv, directory
        self._stack = contextlib.ExitStack()
        self.proxies = []
        self.check_sockets = True       # False: something keeps a connection until the daemon ends
        self._before = {space: sockstat.Sockstat(space) for space in (pub, priv)}

    def keep(self, closable):
        """Closes it at the end of the test, before the daemons are checked."""
        self._stack.callback(closable.close)
        return closable

    def serve(self, handler=None, host=PRIVATE, namespace=None):
        """A target; without a handler its connections are for server.take()."""
        return self.keep(peers.Server((namespace or self.priv).listener(host), handler))

    def public(self, port=0, host=PUBLIC):
        return f"{self.pub.name}@{'[' + host + ']' if ':' in host else host}:{port}"

    def private(self, port, host=PRIVATE):
        return f"{self.priv.name}@{'[' + host + ']' if ':' in host else host}:{port}"

    def proxy(self, *options, user=True, control_socket="", **popen):
        """A daemon with exactly these options (and a user, where one is needed); no control socket unless asked for, None: the default one."""
        shared = [*(self.install.user_options() if user else []), *(["-s", control_socket] if control_socket is not None else [])]
        made = daemon.Nsproxy(self.install, [*shared, *options], ready=False, **popen)
        self.proxies.append(made)
        made.wait_ready()
        return made

    def relay(self, target, engine=None, workers=1, options=(), top="", popen=None, **keys):
        """
        A daemon with one service, from public to the target (a Server, or a port). `keys` are keys of the service with _ for -, `top` is text for the
        top of the file; with neither, the command line alone says it all.
        """
        port = target.port if isinstance(target, peers.Server) else target
        shared = [*(["-e", engine] if engine else []), "-w", str(workers), *options]
        if not keys and not top:
            return self.proxy(*shared, "-l", self.public(), "-c", self.private(port), **(popen or {}))
        lines = "".join(f"    {key.replace('_', '-')} = {value}\n" for key, value in keys.items())
        text = f'{top}\nservice relay {{\n    listen = {{"{self.public()}"}}\n    connect = {{"{self.private(port)}"}}\n{lines}}}\n'
        return self.proxy(*shared, "-f", self.config(text), **(popen or {}))

    def config(self, text, name="nsproxy.conf"):
        """A configuration file with this text."""
        path = os.path.join(self.directory, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path

    def connect(self, proxy, **options):
        """A client of the daemon's first listener."""
        _, host, port = proxy.addresses()[0]
        return self.keep(peers.connect(self.pub, host, port, **options))

    def pair(self, proxy, server, **options):
        """A client and the target's end of the same connection."""
        client = self.connect(proxy, **options)
        return client, server.take()

    def close(self):
        self._stack.close()
        problems = [problem for problem in (no_sockets(space) for space in (self.pub, self.priv) if self.check_sockets) if problem]
        for proxy in self.proxies:
            try:
                proxy.finish()
            except AssertionError as error:
                problems.append(str(error))
        for before in self._before.values():
            try:
                before.wait_back()
            except AssertionError as error:
                problems.append(str(error))
        assert not problems, "\n".join(problems)

    def abandon(self):
        """After a test that failed: its own message matters, with the daemons' logs beside it."""
        for proxy in self.proxies:
            proxy.destroy()
            print(f"-- log of nsproxy {' '.join(proxy.options)}\n{proxy.log()[-8000:]}")
        self._stack.close()


def no_sockets(space):
    """None once no TCP connection is left in the namespace, else what is left."""
    try:
        waits.until(lambda: not space.tcp_sockets(), "")
        return None
    except waits.Timeout:
        return f"sockets left in {space.name}:\n" + "\n".join(space.tcp_sockets())


@pytest.fixture
def world(install, pub, priv, tmp_path, request):
    tmp_path.chmod(0o755)
    made = World(install, pub, priv, str(tmp_path))
    yield made
    if getattr(request.node, "failed", True):
        made.abandon()
    else:
        made.close()


@pytest.fixture(autouse=True)
def sockets_give_up():
    """Every socket a test makes gives up in the end."""
    socket.setdefaulttimeout(peers.PATIENCE)
    yield
    socket.setdefaulttimeout(None)


@pytest.fixture(autouse=True)
def memory_is_checked():
    """Under valgrind: what it found in the processes of this test, which have ended when this looks."""
    yield
    if _state["memcheck"]:
        findings = _state["memcheck"].findings()
        assert not findings, "\n".join(findings)
