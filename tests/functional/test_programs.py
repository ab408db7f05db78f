# SPDX-License-Identifier: ISC
"""Programs that people run, through nsproxy: curl, Python's and nginx's HTTP, Redis, ssh."""

import hashlib
import os
import shutil
import subprocess
import sys

import pytest

from conftest import PRIVATE, PUBLIC
from support import peers, waits

SIZE = 64 << 20


def need(program):
    path = shutil.which(program)
    if not path:
        pytest.skip(f"{program} is not installed")
    return path


@pytest.fixture
def big_file(world):
    path = os.path.join(world.directory, "files", "big")
    os.mkdir(os.path.dirname(path), 0o755)
    with open(path, "wb") as file:
        for block in peers.pattern(SIZE, 8):
            file.write(block)
    return path


@pytest.fixture
def started():
    """Programs started by a test, ended after it."""
    running = []
    yield running.append
    for process in running:
        process.terminate()
    for process in running:
        process.wait(10)


def accepts(space, host, port):
    def try_it():
        try:
            peers.connect(space, host, port).close()
            return True
        except ConnectionRefusedError:
            return False
    return try_it


def curl(world, proxy, name, *options):
    """SHA-256 of what curl fetched."""
    process = world.pub.popen([need("curl"), "-sS", "--fail", "--max-time", "60", "--noproxy", "*", *options, f"http://{PUBLIC}:{proxy.port}/{name}"],
                              stdout=subprocess.PIPE)
    sha = hashlib.sha256()
    while block := process.stdout.read(1 << 20):
        sha.update(block)
    assert process.wait() == 0
    return sha.hexdigest()


def python_http(world, started, directory):
    code = ("import functools, http.server as h; "
            f"s = h.ThreadingHTTPServer(('{PRIVATE}', 0), functools.partial(h.SimpleHTTPRequestHandler, directory='{directory}')); "
            "print(s.server_port, flush=True); s.serve_forever()")
    process = world.priv.popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    started(process)
    with process.stdout:
        return int(process.stdout.readline())


def test_curl_from_pythons_http_server(world, engine, started, big_file):
    need("curl")
    proxy = world.relay(python_http(world, started, os.path.dirname(big_file)), engine)
    assert curl(world, proxy, "big") == peers.digest(SIZE, 8)
    record = proxy.wait_access()[0]
    assert int(record["down"]) > SIZE and 0 < int(record["up"]) < 1000


@pytest.fixture
def nginx(world, started, big_file):
    program = need("nginx")
    port = world.priv.free_port(PRIVATE)
    directory = os.path.join(world.directory, "nginx")
    os.mkdir(directory, 0o777)
    config = world.config(f"""user root root; daemon off; master_process off; worker_processes 1; pid {directory}/pid; error_log stderr warn;
events {{ worker_connections 256; }}
http {{ access_log off; sendfile on; keepalive_requests 10000; client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy;
 fastcgi_temp_path {directory}/fastcgi; uwsgi_temp_path {directory}/uwsgi; scgi_temp_path {directory}/scgi; client_max_body_size 1g;
 server {{ listen {PRIVATE}:{port}; root {os.path.dirname(big_file)}; location /echo {{ return 200 "$request_length\\n"; }} }} }}
""", "nginx.conf")
    started(world.priv.popen([program, "-p", directory, "-e", "stderr", "-c", config], stderr=subprocess.DEVNULL))
    waits.until(accepts(world.priv, PRIVATE, port), "nginx accepting")
    return port


def test_nginx(world, engine, nginx):
    need("curl")
    proxy = world.relay(nginx, engine)
    assert curl(world, proxy, "big") == peers.digest(SIZE, 8)


def test_nginx_keeps_many_requests_on_one_connection(world, engine, nginx):
    need("curl")
    proxy = world.relay(nginx, engine)
    urls = [f"http://{PUBLIC}:{proxy.port}/echo?{number}" for number in range(200)]
    result = world.pub.run([need("curl"), "-sS", "--fail", "--max-time", "60", "--noproxy", "*", *urls], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert len(result.stdout.split()) == 200
    assert len(proxy.wait_access()) == 1, "curl opened a new connection: one was cut"


def test_redis(world, engine, started):
    program, client = need("redis-server"), need("redis-cli")
    port = world.priv.free_port(PRIVATE)
    started(world.priv.popen([program, "--bind", PRIVATE, "--port", str(port), "--save", "", "--appendonly", "no", "--protected-mode", "no",
                              "--dir", world.directory], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
    waits.until(accepts(world.priv, PRIVATE, port), "redis accepting")
    proxy = world.relay(port, engine)
    commands = "".join(f"SET key{number} value{number}\n" for number in range(500)) + "".join(f"GET key{number}\n" for number in range(500))
    result = world.pub.run([client, "-h", PUBLIC, "-p", str(proxy.port)], input=commands, capture_output=True, text=True, timeout=60)
    assert result.stdout.split() == ["OK"] * 500 + [f"value{number}" for number in range(500)]
    value = "x" * (3 << 20)
    world.pub.run([client, "-h", PUBLIC, "-p", str(proxy.port), "-x", "SET", "big"], input=value, text=True, check=True, stdout=subprocess.DEVNULL)
    got = world.pub.run([client, "-h", PUBLIC, "-p", str(proxy.port), "GET", "big"], capture_output=True, text=True, check=True).stdout
    assert got.rstrip("\n") == value


def sshd_for_each(world, program, config):
    """A target that starts sshd on each connection (sshd cannot be told to take port 0)."""
    def handler(sock):
        sock.settimeout(None)
        process = world.priv.popen([program, "-i", "-f", config], stdin=sock, stdout=sock, stderr=subprocess.DEVNULL)
        sock.close()
        process.wait()
    return world.serve(handler)


def test_ssh(world, engine):
    """A login that runs a command and carries data both ways."""
    if world.install.one_id:
        return      # sshd needs more ids than are mapped here; what it would show about nsproxy is shown by the others
    program, ssh, keygen = need("sshd"), need("ssh"), need("ssh-keygen")
    host_key, user_key = (os.path.join(world.directory, name) for name in ("host", "user"))
    for key in (host_key, user_key):
        subprocess.run([keygen, "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    os.makedirs("/run/sshd", exist_ok=True)
    config = world.config(f"HostKey {host_key}\nAuthorizedKeysFile {user_key}.pub\nStrictModes no\nUsePAM no\nPermitRootLogin yes\n", "sshd_config")
    proxy = world.relay(sshd_for_each(world, program, config), engine)
    data = bytes(peers.BLOCK) * 4
    result = world.pub.run([ssh, "-F", "none", "-p", str(proxy.port), "-i", user_key, "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
                            "-o", "BatchMode=yes", "-o", "LogLevel=ERROR", f"root@{PUBLIC}", "cat; echo done >&2"], input=data, capture_output=True, timeout=60)
    assert result.stdout == data, result.stderr
    assert result.stderr == b"done\n"
