# SPDX-License-Identifier: ISC
"""The metrics listener, asked by curl, and a real Prometheus that scrapes it."""

import contextlib
import json
import os
import re
import signal
import subprocess
import tempfile

from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_plain

from . import waits

OPENMETRICS = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"
LISTENING = r"metrics: listening on (\S+)"


class Answer:
    """One answer, as curl got it: status, headers (names in lower case), body."""

    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body


class Scraper:
    """Asks one metrics listener: namespace NAME and "HOST:PORT", or the path of a unix socket."""

    def __init__(self, namespace, where):
        self.namespace, self.where = namespace, where

    @classmethod
    def of(cls, world, proxy):
        """The listener that the daemon says it has, in the public namespace or at a path."""
        return cls(world.pub, proxy.wait_log(LISTENING)[1].split("@")[-1] if "unix:" not in proxy.log() else proxy.wait_log(LISTENING)[1])

    def curl(self, path, *options):
        where = ["--unix-socket", self.where.partition(":")[2]] if self.where.startswith("unix:") else []
        host = "localhost" if where else self.where
        return self.namespace.run(["curl", "-sS", "-i", "-m", "20", *where, *options, f"http://{host}{path}"], capture_output=True, timeout=30)

    def get(self, path="/metrics", *options):
        done = self.curl(path, *options)
        assert done.returncode == 0, f"curl {path}: {done.stderr.decode()}"
        head, _, body = done.stdout.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        return Answer(int(first.split()[1]), {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}, body.decode())

    def families(self):
        """OpenMetrics by the strict parser of Prometheus's own client library."""
        answer = self.get("/metrics", "-H", f"Accept: {OPENMETRICS}")
        assert answer.status == 200
        return list(parse_openmetrics(answer.body))

    def samples(self):
        """{(name, ((label, value), ...)): number} of a scrape."""
        return {(sample.name, tuple(sorted(sample.labels.items()))): sample.value for family in self.families() for sample in family.samples}

    def value(self, name, **labels):
        return self.samples()[name, tuple(sorted(labels.items()))]

    def wait(self, name, wanted, **labels):
        """Until a sample has the value: what is served may be a tenth of a second old."""
        seen = []

        def there():
            seen.append(self.value(name, **labels))
            return seen[-1] == wanted
        waits.until(there, lambda: f"{name} {labels} = {wanted}; it is {seen[-1]}")


def plain(text):
    return list(parse_plain(text))


def never_back(before, after):
    """Counters of the later scrape that are smaller than in the earlier one, or gone."""
    counters = [key for key in before if re.search(r"_(total|bucket|count|sum)$", key[0])]
    return [(key, before[key], after.get(key)) for key in counters if after.get(key, -1) < before[key]]


@contextlib.contextmanager
def prometheus(namespace, targets, rules=()):
    """A Prometheus in the namespace that scrapes the targets (HOST:PORT) every 200 ms; gives query(expression) -> [(labels, value)]."""
    with tempfile.TemporaryDirectory(prefix="nsprom") as place:
        port = namespace.free_port("127.0.0.1")
        config = {"global": {"scrape_interval": "200ms", "scrape_timeout": "200ms", "evaluation_interval": "1s"}, "rule_files": list(rules),
                  "scrape_configs": [{"job_name": "nsproxy", "static_configs": [{"targets": list(targets)}]}]}
        path = os.path.join(place, "prometheus.yml")
        with open(path, "w", encoding="utf-8") as file:
            json.dump(config, file)         # JSON is YAML
        process = namespace.popen(["prometheus", f"--config.file={path}", f"--storage.tsdb.path={place}/data", f"--web.listen-address=127.0.0.1:{port}",
                                   "--log.level=error"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

        def ask(what, **parameters):
            options = [piece for name, value in parameters.items() for piece in ("--data-urlencode", f"{name}={value}")]
            done = namespace.run(["curl", "-sS", "-m", "10", "-G", *options, f"http://127.0.0.1:{port}/api/v1/{what}"], capture_output=True, timeout=20)
            return json.loads(done.stdout)["data"] if done.returncode == 0 and done.stdout.startswith(b"{") else None

        def query(expression):
            data = ask("query", query=expression)
            return [(row["metric"], float(row["value"][1])) for row in data["result"]] if data else []
        query.ask = ask
        try:
            waits.until(lambda: query("vector(1)"), "Prometheus answers", 60)
            yield query
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(20)
