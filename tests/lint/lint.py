# SPDX-License-Identifier: ISC
"""What the checks share: the files of the tree, one verdict each, and a self-test, because a check that cannot fail is worth nothing."""
import os
import subprocess
import sys
import tempfile
from pathlib import Path

SRCDIR = Path(os.environ.get("srcdir", Path(__file__).resolve().parents[2]))
BUILDDIR = Path(os.environ.get("builddir", ".")).resolve()
PREFIXES = {"parent": "parent", "worker": "worker", "engine": "worker", "reporter": "reporter", "ctl": "ctl"}
MAINS = {"nsproxy.c": "parent", "nsproxy-worker.c": "worker", "nsproxy-reporter.c": "reporter", "nsproxyctl.c": "ctl"}


def sources(root, *patterns):
    """The files that match, in order."""
    return sorted(path for pattern in patterns for path in root.glob(pattern) if path.is_file())


def process_of(name):
    """Which process a file of src/ belongs to; None: any."""
    if name in MAINS:
        return MAINS[name]
    return PREFIXES.get(name.split(".")[0].split("_")[0])


def skip(name, why):
    print(f"SKIP {name}: {why}")
    sys.exit(77)


def tool(name, variable, program):
    """The program that configure found, or a skip."""
    path = os.environ.get(variable) or program
    if path == "no" or subprocess.run(["sh", "-c", f"command -v {path}"], stdout=subprocess.DEVNULL, check=False).returncode != 0:
        skip(name, f"{program} is missing")
    return path


def built(name, program):
    path = BUILDDIR / program
    if not path.exists():
        skip(name, f"{path} is not built")
    if "NSPROXY_SANITIZED" in os.environ.get("LINT_CPPFLAGS", ""):
        skip(name, "sanitizers bring imports of their own")
    return path


def output(*command, **more):
    """Standard output and error of a command, whatever its exit code."""
    return subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
                          **more).stdout


def compiler():
    return (os.environ.get("CC") or "cc").split()


def plant(files):
    """A directory with just these files, which must not pass."""
    root = tempfile.TemporaryDirectory()
    for name, text in files.items():
        path = Path(root.name) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def main(name, check, faults, root=SRCDIR):
    """check(root) returns (problems, what it saw). Each fault is {file: text}, a tree in which it must find something."""
    for number, files in enumerate(faults):
        with plant(files) as place:
            if not check(Path(place))[0]:
                print(f"FAIL {name}: the check itself is broken: it does not see planted fault {number} ({', '.join(files)})")
                sys.exit(1)
    problems, seen = check(root)
    if problems:
        print(f"FAIL {name}: {len(problems)} problems")
        for problem in problems:
            print(f"     {problem}")
        sys.exit(1)
    print(f"PASS {name}: {seen}")
