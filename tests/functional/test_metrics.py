# SPDX-License-Identifier: ISC
"""Metrics and status page: what they say of known traffic, over every death, to every client, and to a real Prometheus."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import threading

import pytest

from conftest import PRIVATE, PUBLIC
from support import peers, waits
from support.netns import Place
from support.reloads import reload

pytest.importorskip("prometheus_client", reason="needs python3-prometheus-client")
from support.scrape import OPENMETRICS, Scraper, never_back, plain, prometheus  # noqa: E402

SERVICE = {"service": "relay"}
TREE = os.environ.get("srcdir") or os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


@pytest.fixture(autouse=True)
def can_serve(install):
    if "libmicrohttpd" not in subprocess.run([install.nsproxy, "-V"], capture_output=True, text=True, check=True).stdout:
        pytest.skip("this build has no metrics listener")


def needs(*programs):
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")


def answer_twice(sock):
    """Every byte comes back twice; then the target closes."""
    data = sock.recv(65536)
    sock.sendall(data * 2)


def serving(world, target, top="", **keys):
    proxy = world.relay(target, workers=2, top=f'metrics = "{world.public()}"\n{top}', **keys)
    return proxy, Scraper.of(world, proxy)


def exchange(world, proxy, size):
    with peers.connect(world.pub, PUBLIC, proxy.port) as client:
        client.sendall(b"x" * size)
        assert peers.drain(client)[::2] == (2 * size, "eof")


def kill_and_wait(proxy, program):
    """Ends every process of the program by SIGKILL; until as many new ones are there."""
    old = proxy.children(program)
    for pid in old:
        os.kill(pid, signal.SIGKILL)
    waits.until(lambda: len(now := proxy.children(program)) == len(old) and not set(now) & set(old), f"new {program}")


def forgive(proxy, *patterns):
    proxy.check_workers = proxy.check_descriptors = False
    proxy.expect_log("lost", "worker", "reporter", *patterns)


# ---- what is said -----------------------------------------------------------------------------------------------------------------------------------

def test_known_traffic(world):
    """Counters, reasons and histograms after 20 exchanges and 5 refusals, while one connection is open."""
    server = world.serve(answer_twice)
    proxy, scraper = serving(world, server)
    proxy.expect_log("Connection refused")
    for _ in range(20):
        exchange(world, proxy, 1000)
    scraper.wait("nsproxy_connections_ended_total", 20, end="closed-by-target", **SERVICE)
    open_one = world.connect(proxy)
    scraper.wait("nsproxy_connections_open", 1, **SERVICE)
    server.close()
    for _ in range(5):
        peers.expect_reset(world.pub, PUBLIC, proxy.port)
    scraper.wait("nsproxy_connections_ended_total", 5, end="connect-refused", **SERVICE)
    samples = scraper.samples()

    def value(name, **labels):
        return samples[name, tuple(sorted({**SERVICE, **labels}.items()))]
    assert value("nsproxy_connections_total") == 26
    assert value("nsproxy_connections_open") == 1
    assert value("nsproxy_traffic_bytes_total", direction="up") == 20000
    assert value("nsproxy_traffic_bytes_total", direction="down") == 40000
    assert value("nsproxy_connect_duration_seconds_count") == 20
    assert value("nsproxy_connection_duration_seconds_count") == 25
    assert value("nsproxy_connection_duration_seconds_bucket", le="+Inf") == 25
    records = proxy.wait_access(25)
    for name, field, wanted in (("connect", "connect_ms", records[:20]), ("connection", "duration_ms", records)):
        total = sum(float(record[field]) for record in wanted if record["end"] == "closed-by-target" or name == "connection") / 1000
        assert value(f"nsproxy_{name}_duration_seconds_sum") == pytest.approx(total, abs=26e-6)
        for sample, count in samples.items():
            if sample[0] == f"nsproxy_{name}_duration_seconds_bucket":
                least = float(dict(sample[1])["le"])
                within = [record for record in wanted if float(record[field]) / 1000 <= least and (record["end"] == "closed-by-target" or name == "connection")]
                assert count == len(within), f"bucket {least} of {name}"
    open_one.close()
    scraper.wait("nsproxy_connections_open", 0, **SERVICE)


def test_bytes_of_a_connection_that_lives(world):
    server = world.serve()
    proxy, scraper = serving(world, server)
    client, target = world.pair(proxy, server)
    client.sendall(b"x" * 12345)
    assert len(peers.receive_exactly(target, 12345)) == 12345
    scraper.wait("nsproxy_traffic_bytes_total", 12345, direction="up", **SERVICE)
    assert scraper.value("nsproxy_connections_open", **SERVICE) == 1


def test_both_formats(world):
    """Each is valid by its own parser and by promtool, and they say the same."""
    needs("promtool")
    proxy, scraper = serving(world, world.serve(answer_twice))
    exchange(world, proxy, 10)
    new, old = scraper.get("/metrics", "-H", f"Accept: {OPENMETRICS}"), scraper.get("/metrics")
    assert new.headers["content-type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    assert old.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert new.body.endswith("# EOF\n") and "# EOF" not in old.body
    refused = scraper.get("/metrics", "-H", "Accept: application/openmetrics-text;q=0.0, text/plain")
    assert refused.headers["content-type"].startswith("text/plain")
    checked = subprocess.run(["promtool", "check", "metrics"], input=old.body, capture_output=True, text=True, timeout=30)
    assert (checked.returncode, checked.stderr, checked.stdout) == (0, "", "")
    names = {family.name for family in scraper.families()}
    assert {family.name for family in plain(old.body)} == {name if name != "nsproxy_build" else "nsproxy_build_info" for name in names}
    for family in scraper.families():
        assert family.documentation and family.type in ("counter", "gauge", "histogram", "info"), family
        assert family.unit == next((unit for unit in ("seconds", "bytes") if family.name.endswith(unit)), ""), family


def test_names_are_escaped(world):
    """A service's name may hold what is markup in HTML."""
    port = world.serve(answer_twice).port
    name = "<b>&{}=,"
    text = f'metrics = "{world.public()}"\nservice "{name}" {{ listen = {{"{world.public()}"}} connect = {{"{world.private(port)}"}} }}\n'
    proxy = world.proxy("-w", "1", "-f", world.config(text))
    scraper = Scraper.of(world, proxy)
    assert scraper.value("nsproxy_connections_total", service=name) == 0
    page = scraper.get("/").body
    assert "&lt;b&gt;&amp;{}=," in page and "<b>" not in page


def test_unix_socket(world, short_path):
    path = f"{short_path}/metrics"
    proxy = world.relay(world.serve(answer_twice), top=f'metrics = "unix:{path}"')
    scraper = Scraper(world.pub, f"unix:{path}")
    assert scraper.value("nsproxy_workers") == 1
    assert os.stat(path).st_mode & 0o777 == 0o666
    proxy.kill(signal.SIGTERM)
    proxy.wait_exit()
    assert not os.path.exists(path)


@pytest.mark.parametrize("where", ["home", "private"])
def test_in_other_namespaces(world, where):
    """127.0.0.1 of the namespace that it names, and of no other."""
    address = f"{world.priv.name}@127.0.0.1:0" if where == "private" else "127.0.0.1:0"
    proxy = world.relay(world.serve(answer_twice), top=f'metrics = "{address}"')
    port = proxy.wait_log(r"metrics: listening on \S+:(\d+)")[1]
    if where == "private":
        assert Scraper(world.priv, f"127.0.0.1:{port}").value("nsproxy_workers") == 1
    else:
        done = subprocess.run(["curl", "-sS", "-m", "20", f"http://127.0.0.1:{port}/metrics"], capture_output=True, text=True, timeout=30)
        assert "nsproxy_workers 1" in done.stdout, done.stderr
    assert Scraper(world.pub, f"127.0.0.1:{port}").curl("/metrics").returncode == 7, "it listens elsewhere, too"


def test_requests(world):
    _, scraper = serving(world, world.serve(answer_twice))
    assert scraper.get("/").status == 200
    assert scraper.get("/metrics?x=1").status == 200
    for path in ("/metrics/", "/favicon.ico", "/../etc/passwd", "/%2e%2e/", "/metric"):
        assert scraper.get(path, "--path-as-is").status == 404, path
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "TRACE", "BREW"):
        answer = scraper.get("/metrics", "-X", method)
        assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD"), method
    assert scraper.get("/metrics", "--data", "x" * 100000).status == 405
    head = scraper.get("/metrics", "--head")
    assert head.status == 200 and head.body == "" and int(head.headers["content-length"]) > 1000
    assert "default-src 'none'" in scraper.get("/").headers["content-security-policy"]


# ---- over deaths ------------------------------------------------------------------------------------------------------------------------------------

def test_counters_never_go_back(world):
    """Over kill -9 of all workers, of the reporter, of both at once: nothing is lost, nothing counted twice."""
    server = world.serve(answer_twice)
    proxy, scraper = serving(world, server)
    forgive(proxy)
    taken = 0
    before = scraper.samples()
    for deaths in (["nsproxy-worker"], ["nsproxy-reporter"], ["nsproxy-worker", "nsproxy-reporter"], ["nsproxy-reporter", "nsproxy-worker"]):
        for _ in range(10):
            exchange(world, proxy, 100)
        taken += 10
        scraper.wait("nsproxy_connections_ended_total", taken, end="closed-by-target", **SERVICE)
        for program in deaths:
            kill_and_wait(proxy, program)
        after = scraper.samples()
        assert never_back(before, after) == []
        before = after
        scraper.wait("nsproxy_connections_total", taken, **SERVICE)
        scraper.wait("nsproxy_traffic_bytes_total", taken * 200, direction="down", **SERVICE)
        scraper.wait("nsproxy_connection_duration_seconds_count", taken, **SERVICE)
    assert scraper.value("nsproxy_worker_restarts_total") == 6
    assert scraper.value("nsproxy_reporter_restarts_total") == 3


def test_connections_lost_with_a_worker(world):
    server = world.serve()
    proxy, scraper = serving(world, server)
    forgive(proxy)
    pairs = [world.pair(proxy, server) for _ in range(8)]
    scraper.wait("nsproxy_connections_open", 8, **SERVICE)
    kill_and_wait(proxy, "nsproxy-worker")
    scraper.wait("nsproxy_connections_ended_total", 8, end="worker-lost", **SERVICE)
    scraper.wait("nsproxy_connections_open", 0, **SERVICE)
    assert scraper.value("nsproxy_connections_total", **SERVICE) == len(pairs)


def test_over_a_reload(world):
    """The listener stays, counters go on, the result is shown."""
    proxy, scraper = serving(world, world.serve(answer_twice))
    proxy.check_workers = proxy.check_descriptors = False
    for _ in range(10):
        exchange(world, proxy, 100)
    scraper.wait("nsproxy_connections_ended_total", 10, end="closed-by-target", **SERVICE)
    before = scraper.samples()
    for number in (1, 2):
        proxy.kill(signal.SIGHUP)
        waits.until(lambda n=number: scraper.curl("/metrics").returncode == 0 and scraper.value("nsproxy_reloads_total", result="good") == n, "a reload")
    exchange(world, proxy, 100)
    scraper.wait("nsproxy_connections_total", 11, **SERVICE)
    after = scraper.samples()
    assert never_back(before, after) == []
    started = ("nsproxy_start_time_seconds", ())
    assert after[started] == before[started]
    loaded = ("nsproxy_config_last_reload_success_timestamp_seconds", ())
    assert after[loaded] > before[loaded]
    with open(os.path.join(world.directory, "nsproxy.conf"), "a", encoding="utf-8") as file:
        file.write("nonsense\n")
    proxy.expect_log("nsproxy.conf", "reload")
    proxy.kill(signal.SIGHUP)
    scraper.wait("nsproxy_config_last_reload_successful", 0)
    assert scraper.value("nsproxy_reloads_total", result="failed") == 1


def test_unix_socket_over_a_reload(world, short_path):
    """The path is the same socket; one that the configuration does not name any more is gone, another is there."""
    path = f"{short_path}/metrics"
    proxy = world.relay(world.serve(answer_twice), top=f'metrics = "unix:{path}"', idle_timeout='"1h"')
    proxy.check_workers = proxy.check_descriptors = False
    scraper, inode = Scraper(world.pub, f"unix:{path}"), os.stat(path).st_ino
    exchange(world, proxy, 100)
    scraper.wait("nsproxy_connections_total", 1, **SERVICE)
    reload(proxy)
    assert os.stat(path).st_ino == inode
    scraper.wait("nsproxy_reloads_total", 1, result="good")
    scraper.wait("nsproxy_connections_total", 1, **SERVICE)
    with open(os.path.join(world.directory, "nsproxy.conf"), encoding="utf-8") as file:
        text = file.read()
    world.config(text.replace(path, f"{path}2"))
    reload(proxy)
    waits.until(lambda: not os.path.exists(path), "the end of the path that is not named any more")
    Scraper(world.pub, f"unix:{path}2").wait("nsproxy_connections_total", 1, **SERVICE)
    proxy.kill(signal.SIGTERM)
    proxy.wait_exit()
    assert not os.path.exists(f"{path}2")


def test_page_knows_a_port_chosen_later(world):
    """The listener's namespace is not there at the start; when it comes, the kernel chooses the port."""
    place = Place("front", [f"{PUBLIC}/32"])
    place.delete()
    text = f'metrics = "{world.public()}"\nwait-for-netns = true\n' \
           f'service web {{ listen = {{"{place.name}@{PUBLIC}:0"}} connect = {{"{world.private(80)}"}} }}\n'
    proxy = world.proxy("-w", "1", "-f", world.config(text))
    proxy.expect_log("is missing", "is gone")
    proxy.check_descriptors = False
    try:
        place.make()
        port = proxy.wait_log(rf"service web: listening on {place.name}@{PUBLIC}:([1-9]\d*)$")[1]
        scraper = Scraper.of(world, proxy)
        waits.until(lambda: f"{place.name}@{PUBLIC}:{port} to " in scraper.get("/").body, "the port on the page")
    finally:
        place.remove()


def test_namespace_made_anew(world):
    """The listener follows the name of its namespace."""
    from support.netns import Namespace
    port = world.pub.free_port("127.0.0.1")
    one = Namespace("mon", ["10.9.9.9/32"])
    proxy = world.relay(world.serve(answer_twice), top=f'metrics = "{one.name}@10.9.9.9:{port}"')
    proxy.expect_log("namespace", "metrics")
    proxy.check_descriptors = False
    assert Scraper(one, f"10.9.9.9:{port}").value("nsproxy_workers") == 1
    one.remove()
    two = Namespace("mon", ["10.9.9.9/32"], name=one.name)
    try:
        waits.until(lambda: Scraper(two, f"10.9.9.9:{port}").curl("/metrics").returncode == 0, "metrics in the new namespace")
        assert Scraper(two, f"10.9.9.9:{port}").value("nsproxy_workers") == 1
    finally:
        two.remove()


# ---- Prometheus -------------------------------------------------------------------------------------------------------------------------------------

def test_prometheus_scrapes(world):
    """A real one, in the public namespace, sees what happens, and knows the types; the rules that ship are evaluated without an error."""
    needs("prometheus")
    server = world.serve(answer_twice)
    proxy, scraper = serving(world, server)
    rules = os.path.join(TREE, "contrib/prometheus/nsproxy.rules.yml")
    with prometheus(world.pub, [scraper.where], [rules]) as query:
        waits.until(lambda: query("up{job=\"nsproxy\"} == 1"), "Prometheus scrapes")
        for _ in range(30):
            exchange(world, proxy, 100)
        wanted = 'nsproxy_connections_ended_total{service="relay",end="closed-by-target"} == 30'
        waits.until(lambda: query(wanted), "30 connections, seen by Prometheus")
        assert query("histogram_quantile(0.5, nsproxy_connection_duration_seconds_bucket)")[0][1] > 0
        types = query.ask("metadata")
        assert types["nsproxy_connections"][0]["type"] == "counter"
        assert types["nsproxy_traffic_bytes"][0]["unit"] == "bytes"
        assert types["nsproxy_connect_duration_seconds"][0]["type"] == "histogram"
        loaded = query.ask("rules")["groups"]
        assert loaded and waits.until(lambda: all(rule["health"] != "unknown" for group in query.ask("rules")["groups"] for rule in group["rules"]),
                                      "every rule evaluated")
        assert [rule for group in query.ask("rules")["groups"] for rule in group["rules"] if rule["health"] != "ok"] == []


def test_rules_and_dashboard_name_what_there_is(world):
    """Alerts pass promtool; every name of a metric in them and in the dashboard is one that is exported."""
    needs("promtool")
    _, scraper = serving(world, world.serve(answer_twice))
    exported = {sample[0] for sample in scraper.samples()}
    rules = os.path.join(TREE, "contrib/prometheus/nsproxy.rules.yml")
    checked = subprocess.run(["promtool", "check", "rules", "--lint-fatal", rules], capture_output=True, text=True, timeout=30)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    tested = subprocess.run(["promtool", "test", "rules", os.path.join(TREE, "contrib/prometheus/nsproxy.test.yml")], capture_output=True, text=True,
                            timeout=60)
    assert tested.returncode == 0, tested.stdout + tested.stderr
    with open(os.path.join(TREE, "contrib/grafana/nsproxy.json"), encoding="utf-8") as file:
        dashboard = json.load(file)
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    assert len(expressions) > 10
    with open(rules, encoding="utf-8") as file:
        texts = [*expressions, file.read()]
    used = {name for text in texts for name in re.findall(r"\bnsproxy_\w+", text)}
    assert used - exported == set()


def test_manual_names_every_metric(world):
    """nsproxy(8) lists each family, and none that is not there."""
    _, scraper = serving(world, world.serve(answer_twice))
    with open(os.path.join(TREE, "man/nsproxy.8"), encoding="utf-8") as file:
        section = file.read().partition(".Sh METRICS")[2].partition("\n.Sh ")[0]
    listed = re.findall(r"^\.It Li (nsproxy_\w+)", section, re.M)
    suffix = {"counter": "_total", "info": "_info"}
    assert sorted(listed) == sorted(family.name + suffix.get(family.type, "") for family in scraper.families())


# ---- evil clients -----------------------------------------------------------------------------------------------------------------------------------

def hold(world, scraper, count, data):
    host, port = scraper.where.rsplit(":", 1)
    for _ in range(count):
        sock = world.keep(peers.connect(world.pub, host, int(port)))
        with contextlib.suppress(OSError):
            sock.sendall(data)
        yield sock


def trickle(socks, stop):
    """One byte of a header now and then, as slow as can be."""
    while not stop.wait(0.5):
        for sock in socks:
            with contextlib.suppress(OSError):
                sock.sendall(b"x")


def test_slow_clients_keep_nobody_away(world):
    """150 clients that never finish their request; scrapes come through, and all of them are cut in the end."""
    proxy, scraper = serving(world, world.serve(answer_twice))
    proxy.check_descriptors = False
    socks = list(hold(world, scraper, 150, b"GET /metrics HTTP/1.1\r\nHost: x\r\nX-Slow: "))
    stop = threading.Event()
    worker = threading.Thread(target=trickle, args=(socks, stop))
    worker.start()
    try:
        for _ in range(5):
            exchange(world, proxy, 100)
        assert scraper.value("nsproxy_workers") == 2
        for sock in socks:
            sock.settimeout(20)
            with contextlib.suppress(ConnectionResetError):
                while sock.recv(4096):
                    pass
    finally:
        stop.set()
        worker.join()
    assert proxy.reporter()


EVIL = {
    "nothing": b"", "garbage": os.urandom(3000), "zeroes": b"\0" * 5000, "long line": b"GET /" + b"a" * 60000 + b" HTTP/1.1\r\n\r\n",
    "long header": b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"b" * 60000 + b"\r\n\r\n", "many headers": b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 5000 + b"\r\n",
    "endless chunks": b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + b"fffffff\r\n" + b"z" * 9000,
    "negative length": b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", "two lengths": b"GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 9\r\n\r\nx",
    "pipelined": b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 300, "http/0.9": b"GET /\r\n", "http/9.9": b"GET / HTTP/9.9\r\n\r\n", "tls": b"\x16\x03\x01\x02\0\x01\0",
    "http2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "bare lf": b"GET / HTTP/1.1\nHost: x\n\n", "connect": b"CONNECT 172.20.0.2:80 HTTP/1.1\r\nHost: x\r\n\r\n",
    "absolute": b"GET http://172.20.0.2/ HTTP/1.1\r\nHost: 172.20.0.2\r\n\r\n", "folded": b"GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n",
}


def test_garbage(world):
    """None of it ends or stops the reporter: it is the same process afterwards, and answers."""
    proxy, scraper = serving(world, world.serve(answer_twice))
    proxy.check_descriptors = False
    before = proxy.reporter()
    socks = {name: list(hold(world, scraper, 2, data)) for name, data in EVIL.items()}
    for name, pair in socks.items():
        for sock in pair:
            with contextlib.suppress(ConnectionResetError):
                peers.drain(sock)
        assert proxy.children("nsproxy-reporter") == [before], name
    for sock in hold(world, scraper, 50, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"):
        peers.reset(sock)
    assert scraper.value("nsproxy_reporter_restarts_total") == 0
    exchange(world, proxy, 100)
    proxy.wait_access(1)


def test_flood_of_scrapes(world, figure):
    """While eight clients ask as fast as they can, connections are relayed, and each has its line in the log."""
    proxy, scraper = serving(world, world.serve(answer_twice))
    proxy.check_descriptors = False
    host, port = scraper.where.rsplit(":", 1)
    stop, counts = threading.Event(), []

    def ask():
        count = 0
        while not stop.is_set():
            with peers.connect(world.pub, host, int(port)) as sock:
                sock.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
                count += peers.drain(sock)[0] > 1000
        counts.append(count)
    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(200):
            exchange(world, proxy, 100)
        proxy.wait_access(200)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert len(counts) == 8 and min(counts) > 0
    figure(f"{sum(counts)} scrapes beside 200 connections")
    assert scraper.value("nsproxy_records_dropped_total") == 0
    assert scraper.value("nsproxy_reporter_restarts_total") == 0


# ---- the page ---------------------------------------------------------------------------------------------------------------------------------------

def test_page(world):
    """Services, workers, errors by reason, the last warnings; nothing that runs, nothing to load."""
    server = world.serve(answer_twice)
    proxy, scraper = serving(world, server)
    forgive(proxy, "Connection refused")
    exchange(world, proxy, 1000)
    kill_and_wait(proxy, "nsproxy-worker")
    server.close()
    peers.expect_reset(world.pub, PUBLIC, proxy.port)
    page = waits.until(lambda: (text := scraper.get("/").body) and "connect-refused" in text and "serving" in text and text,
                       "the refusal and a worker that serves again on the page")
    assert scraper.get("/").headers["content-type"] == "text/html; charset=utf-8"
    assert not re.search(r"<script|<img|<link|https?://|javascript:|\son\w+=", page)
    for text in ('<html lang="en">', "<caption>Services</caption>", "<caption>Workers</caption>", 'scope="row">relay', PRIVATE, "connect-refused&nbsp;1",
                 "serving", "ended: killed by signal 9", "<meta name=\"viewport\""):
        assert text in page, text
    for tag in ("table", "tr", "td", "th", "div", "p", "main", "dl", "dt", "dd", "span", "small", "time", "caption", "thead", "tbody"):
        assert len(re.findall(rf"<{tag}[ >]", page)) == page.count(f"</{tag}>"), f"<{tag}> is not closed"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_in_a_browser(world, scheme, tmp_path):
    """Headless Chromium shows it, at 800 pixels without a horizontal scroll bar of the page, and says what the screen holds."""
    needs("chromium")
    proxy, scraper = serving(world, world.serve(answer_twice))
    for _ in range(30):
        exchange(world, proxy, 2000)
    scraper.wait("nsproxy_connections_total", 30, **SERVICE)
    shot = str(tmp_path / "page.png")
    base = ["chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-background-networking",
            f"--user-data-dir={tmp_path}/profile", "--hide-scrollbars", "--window-size=800,700", *(["--force-dark-mode"] if scheme == "dark" else [])]
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)}
    done = world.pub.run([*base, f"--screenshot={shot}", f"http://{scraper.where}/"], capture_output=True, timeout=90, env=environment)
    assert os.path.exists(shot), done.stderr.decode()[-2000:]
    with open(shot, "rb") as file:
        assert file.read(8) == b"\x89PNG\r\n\x1a\n"
    assert os.path.getsize(shot) > 10000, "an empty page"
    keep = os.environ.get("NSPROXY_SCREENSHOT")
    if keep:
        with open(shot, "rb") as file, open(f"{keep}-{scheme}.png", "wb") as copy:
            copy.write(file.read())
    dom = world.pub.run([*base, "--dump-dom", f"http://{scraper.where}/"], capture_output=True, timeout=90, env=environment).stdout.decode()
    assert "<caption>Services</caption>" in dom and ">30<" in dom
