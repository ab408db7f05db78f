# SPDX-License-Identifier: ISC
"""What is compared: nsproxy in each of its engines, what people would use in its place, and the kernel alone. Each is started the way its users would."""

import contextlib
import os
import re
import resource
import shutil
import subprocess
import time

from place import LISTEN, PORTS, TARGET, Missing, one_id

PROXYD = next((p for p in ("/usr/lib/systemd/systemd-socket-proxyd", "/lib/systemd/systemd-socket-proxyd") if os.path.exists(p)), None)
STREAM_MODULE = "/usr/lib/nginx/modules/ngx_stream_module.so"
PATIENCE = 15           # seconds for a relay to serve its first connections
# One process or two for each connection: thousands of them say nothing about the relay, and much about the machine.
NOT_FOR_FORKERS = {"rr4k", "idle4k", "conns1000", "conns8000"}
# Two sockets and four ends of pipes for each connection.
NOT_FOR_FEW_DESCRIPTORS = {"rr4k", "idle4k", "conns8000"}
PIPED_4K = 26000
# No process, so no memory that could be told apart.
NOT_FOR_NOBODY = {"idle4k"}


class Relay:
    """
    One thing to be measured: commands that start it (each a list of words; [] for none), or rules for the kernel.
    client_side: clients connect to the target itself, from its own namespace.
    """

    def __init__(self, name, commands=(), version="", rules=None, client_side=False, leave_out=frozenset(), engine=None, note=None):
        self.name, self.commands, self.version, self.rules = name, list(commands), version, rules
        self.client_side, self.leave_out, self.engine, self.note = client_side, leave_out, engine, note

    @property
    def address(self):
        return TARGET if self.client_side else LISTEN


class Running:
    """A relay between start and stop()."""

    def __init__(self, relay, site):
        self.relay, self.site, self.processes = relay, site, []
        self.log = os.path.join(site.directory, f"{relay.name}.log")
        try:
            if relay.rules:
                self._set_rules()
            with open(self.log, "ab", 0) as log:
                for command in relay.commands:
                    self.processes.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                                                           preexec_fn=site.group.enter))
            self._wait_served()
        except BaseException:
            self.stop()
            raise

    def _wait_served(self):
        deadline = time.monotonic() + PATIENCE
        while self.client_space().run([self.site.load, "check", self.relay.address, str(PORTS[0])]).returncode:
            ended = [process for process in self.processes if process.poll() is not None]
            if ended or time.monotonic() > deadline:
                raise Missing(f"{self.relay.name} {'ended' if ended else 'does not serve'}: {self.tail()}")
            time.sleep(0.02)
        if self.relay.engine and " is used instead" in self.tail(1 << 16):
            raise Missing(f"{self.relay.name}: {self.tail()}")

    def tail(self, size=400):
        try:
            with open(self.log, encoding="utf-8", errors="replace") as file:
                return file.read()[-size:].strip()
        except OSError:
            return ""

    def client_space(self):
        return self.site.private if self.relay.client_side else self.site.public

    def _set_rules(self):
        public, private = self.site.public.name, self.site.private.name
        self.site.public.ip("link", "add", "bench0", "netns", public, "type", "veth", "peer", "name", "bench0", "netns", private)
        for name, host in ((public, "192.0.2.1"), (private, "192.0.2.2")):
            self.site.public.ip("-n", name, "addr", "add", f"{host}/30", "dev", "bench0")
            self.site.public.ip("-n", name, "link", "set", "bench0", "up")
        self.site.public.ip("-n", public, "route", "add", f"{TARGET}/32", "via", "192.0.2.2")
        self.site.public.run(["nft", "-f", "-"], input=self.relay.rules, text=True, check=True)

    def stop(self):
        for process in self.processes:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, 9)
        self.site.group.clear()
        for process in self.processes:
            process.wait()
        if self.relay.rules:
            self.site.public.run(["nft", "flush", "ruleset"], check=False)
            subprocess.run(["ip", "-n", self.site.public.name, "link", "del", "bench0"], check=False, stderr=subprocess.DEVNULL)


# The client is a program of the public namespace, so that its packets begin there: hence the hook "output".
DNAT = f"""table ip bench {{
	chain out {{
		type nat hook output priority -100
		ip daddr {LISTEN} tcp dport {PORTS[0]}-{PORTS[-1]} dnat to {TARGET}
	}}
	chain post {{
		type nat hook postrouting priority 100
		ip daddr {TARGET} snat to 192.0.2.1
	}}
}}
"""


def output(*command):
    """What a program says about itself, on whichever stream it does."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def version(*command, pattern=r"\d+\.[\w.+-]+"):
    found = re.search(pattern, output(*command))
    return found.group(0) if found else "?"


def nsproxy_engines(program):
    """Engines that this build has, as -V lists them."""
    found = re.search(r"^engines: (.*)$", output(program, "-V"), re.M)
    return [name for name in re.findall(r"[a-z_]+", re.sub(r"\(.*?\)", "", found.group(1)))] if found else []


def nsproxy_program(prefix):
    program = os.path.join(os.path.abspath(prefix), "sbin", "nsproxy")
    if not os.access(program, os.X_OK):
        raise Missing(f"{program} is not there: make install, or name another prefix by --prefix")
    return program


def nsproxy(site, program):
    what = version(program, "-V")
    pairs = [word for port in PORTS for word in ("-l", f"{site.public.name}@{LISTEN}:{port}", "-c", f"{site.private.name}@{TARGET}:{port}")]
    user = [] if one_id() else ["-u", "nobody"]

    def relay(name, engine, workers, log):
        return Relay(name, [[program, *user, "-s", "", "-a", log, "-e", engine, "-w", str(workers), *pairs]], what, engine=engine)
    for engine in nsproxy_engines(program):
        yield relay(f"nsproxy-{engine}", engine, 2, "none")
        yield relay(f"nsproxy-{engine}-log", engine, 2, f"file:{site.directory}/access-{engine}.log")
        for workers in (1, 2, 4):
            yield relay(f"nsproxy-{engine}-w{workers}", engine, workers, "none")


def inherited(site, variable, *command):
    """The strongest set-up of the others: the program lives in the private namespace and gets its listeners from the public one, as from a
    service manager, so that no connection costs it a change of namespace."""
    return [site.load, "inherit", site.public.name, site.private.name, LISTEN, str(PORTS[0]), variable, *command]


def haproxy(site):
    program = os.environ.get("HAPROXY") or shutil.which("haproxy")
    if not program:
        raise Missing("haproxy is not installed")
    what = version(program, "-v")
    for splice in (True, False):
        most = 4500 if splice else 9000         # its pipes are descriptors, too, and it does not start without all of them
        for own in (True, False):
            text = (f"global\n  maxconn {most}\n  nbthread 2\ndefaults\n  mode tcp\n  maxconn {most}\n"
                    "  timeout connect 5s\n  timeout client 1h\n  timeout server 1h\n" + ("  option splice-auto\n" if splice else ""))
            for number, port in enumerate(PORTS):
                bind = f"{LISTEN}:{port} namespace {site.public.name} backlog 65535" if own else f"fd@{3 + number}"
                text += f"listen l{port}\n  bind {bind}\n  server s {TARGET}:{port}{f' namespace {site.private.name}' if own else ''}\n"
            name = f"haproxy{'' if own else '-fd'}-{'splice' if splice else 'copy'}"
            command = [program, "-db", "-f", site.file(f"{name}.cfg", text)]
            yield Relay(name, [command if own else inherited(site, "-", *command)], what, leave_out={"conns8000"} if splice else frozenset())


def nginx(site):
    program = shutil.which("nginx")
    if not program or not os.path.exists(STREAM_MODULE):
        raise Missing("nginx or its stream module is not installed")
    servers = "".join(f"server {{ listen {LISTEN}:{port} backlog=65535; proxy_pass {TARGET}:{port}; }}\n" for port in PORTS)
    text = (f"daemon off;\nload_module {STREAM_MODULE};\nuser root;\nworker_processes 2;\npid {site.directory}/nginx.pid;\nerror_log /dev/null;\n"
            f"events {{ worker_connections 20000; }}\nstream {{\ntcp_nodelay on;\nproxy_half_close on;\n{servers}}}\n")
    yield Relay("nginx-fd", [inherited(site, "NGINX", program, "-c", site.file("nginx.conf", text))], version(program, "-v"))


def socket_proxyd(site):
    activate = shutil.which("systemd-socket-activate")
    if not PROXYD or not activate:
        raise Missing("systemd-socket-proxyd is not installed")
    # It is started by its first connection: the check before the measurement is that.
    commands = [["ip", "netns", "exec", site.public.name, activate, "-l", f"{LISTEN}:{port}", "nsenter", f"--net=/run/netns/{site.private.name}",
                 PROXYD, "--connections-max=100000", f"{TARGET}:{port}"] for port in PORTS]
    few = resource.getrlimit(resource.RLIMIT_NOFILE)[0] < PIPED_4K
    note = f"no cases of thousands of connections, the limit of descriptors is below {PIPED_4K}" if few else None
    yield Relay("socket-proxyd", commands, version(PROXYD, "--version", pattern=r"systemd \d+"), leave_out=NOT_FOR_FEW_DESCRIPTORS if few else frozenset(),
                note=note)


def socat(site):
    program = shutil.which("socat")
    if not program:
        raise Missing("socat is not installed")
    commands = []
    for port in PORTS:
        path = f"{site.directory}/s{port}"
        commands.append(["ip", "netns", "exec", site.private.name, program, f"UNIX-LISTEN:{path},fork,backlog=4096,unlink-early",
                         f"TCP:{TARGET}:{port},nodelay"])
        commands.append(["ip", "netns", "exec", site.public.name, program, f"TCP-LISTEN:{port},bind={LISTEN},fork,backlog=4096,reuseaddr,nodelay",
                         f"UNIX-CONNECT:{path}"])
    yield Relay("socat-pair", commands, version(program, "-V", pattern=r"(?<=version )[\d.]+"), leave_out=NOT_FOR_FORKERS)


def kernel(_):
    if not shutil.which("nft"):
        raise Missing("nftables is not installed (kernel-dnat)")
    yield Relay("kernel-dnat", rules=DNAT, version=os.uname().release, leave_out=NOT_FOR_NOBODY)


def direct(_):
    yield Relay("direct", version=os.uname().release, client_side=True, leave_out=NOT_FOR_NOBODY)


def available(site, program):
    """({name: Relay} of all that is installed, [why others are not]); `program` is the nsproxy to be measured."""
    found, missing = {}, []
    for make in (lambda s: nsproxy(s, program), haproxy, nginx, socket_proxyd, socat, kernel, direct):
        try:
            found.update((relay.name, relay) for relay in make(site))
        except Missing as why:
            missing.append(str(why))
    return found, missing
