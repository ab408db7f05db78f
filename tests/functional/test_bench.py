# SPDX-License-Identifier: ISC
"""The benchmark itself, so short that its figures mean nothing: that it runs, that its reports are whole, and that it leaves nothing behind."""

import json
import os
import shutil
import subprocess
import sys
import xml.etree.ElementTree

import pytest

from support import proc

BENCH = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "bench", "bench.py")
CGROUPS = ("/sys/fs/cgroup", "/sys/fs/cgroup/cpuacct", "/sys/fs/cgroup/memory")
RELAYS, CASES = ("nsproxy-adaptive", "direct"), ("up1", "rr1")


@pytest.fixture(scope="module")
def load(tmp_path_factory):
    """The load generator: make check has built it, else it is built here, once."""
    built = os.path.join(os.environ.get("builddir", "/nonexistent"), "tests", "bench", "load")
    if os.access(built, os.X_OK):
        return built
    compiler = shutil.which(os.environ.get("CC") or "cc")
    if not compiler:
        pytest.skip("no compiler for the load generator")
    made = str(tmp_path_factory.mktemp("bench") / "load")
    subprocess.run([compiler, "-D_GNU_SOURCE=", "-O1", "-o", made, os.path.join(os.path.dirname(BENCH), "load.c")], check=True)
    return made


def bench(install, load, *options):
    """(exit code, output, pid) of a run."""
    process = subprocess.Popen([sys.executable, BENCH, "--prefix", install.prefix, "--load", load, "--no-wait", *options], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True, start_new_session=True)
    out, err = process.communicate(timeout=60)
    return process.returncode, out + err, process.pid


def left_behind(pid):
    """Whatever of that run is still there."""
    name = f"nsbench{pid}"
    found = [f"namespace {space}" for space in os.listdir("/run/netns") if space.startswith(name)]
    found += [path for root in CGROUPS if os.path.isdir(path := f"{root}/{name}")]
    return found + [f"process {proc.program(one)}" for one in proc.session(pid)]


@pytest.fixture
def short_run(install, load, pub, tmp_path):
    """Two relays, two cases, one short round; `pub` says that namespaces and cubic are to be had."""
    if pub.congestion_control != "cubic":
        pytest.skip("no cubic here, and under another algorithm the benchmark does not run")
    figures = tmp_path / "figures.json"
    code, text, pid = bench(install, load, "--only", ",".join(RELAYS), "--cases", ",".join(CASES), "--rounds", "1", "--secs", "0.3", "--json", str(figures))
    assert code == 0, text
    return figures, text, pid


def test_a_short_run(install, load, short_run, tmp_path):
    path, text, pid = short_run
    assert not left_behind(pid)
    data = json.loads(path.read_text())
    assert list(data["results"]) == list(CASES) and data["machine"]["congestion_control"] == "cubic"
    for case in CASES:
        assert list(data["results"][case]) == list(RELAYS)
        for relay, (row,) in data["results"][case].items():
            assert row["errors"] == 0 and row["rate"] > 0 and row["whole"] is not None, f"{case} {relay}: {row}"
            assert f"  {relay} " in text
    assert data["results"]["rr1"]["direct"][0]["p99"] >= data["results"]["rr1"]["direct"][0]["p50"] > 0

    code, text, _ = bench(install, load, "--from", str(path), "--readme", "--plots", str(tmp_path))
    assert code == 0 and "| nsproxy-adaptive | " in text, text
    if shutil.which("gnuplot") and data["results"]["rr1"]["nsproxy-adaptive"][0]["cost"]:
        assert "gnuplot" not in text, text
    for plot in tmp_path.glob("*.svg"):
        xml.etree.ElementTree.parse(plot)


def test_what_cannot_be_measured_is_said(install, load, pub):
    for options, words in ((["--cases", "nosuch"], "no case nosuch"), (["--only", "nosuch", "--cases", "rr1"], "no relay nosuch"),
                           (["--prefix", "/nonexistent", "--only", "nsproxy-adaptive"], "/nonexistent/sbin/nsproxy is not there")):
        code, text, pid = bench(install, load, *options)
        assert code != 0 and words in text, text
        assert not left_behind(pid)
