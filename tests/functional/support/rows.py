# SPDX-License-Identifier: ISC
"""
Figures for the table of faults at the end of a run of everything, from which README has the one of what nsproxy survives. A test that provokes one of
TITLES says what it measured by record(); the line `ROW <number> <engine> <figure>` is printed, and appended to the file that NSPROXY_ROWS names.
table() is for whoever shows them:
    python3 tests/functional/support/rows.py FILE
"""

import os
import re
import sys

TITLES = {
    1: "a worker is killed in mid-transfer", 2: "a worker is stopped or spins", 3: "workers crash in a loop", 4: "the parent is killed",
    5: "SIGTERM with live connections", 6: "a storm of SIGHUP", 7: "reload of a bad configuration", 8: "a namespace is deleted and made anew",
    9: "a namespace is missing", 10: "the private link goes down and up", 11: "the target refuses", 12: "the target swallows the SYN",
    13: "the target accepts and never reads", 14: "slow readers", 15: "half-close by the client, reply after it",
    16: "half-close by the target, both orders, both at once", 17: "half-open for ever", 18: "reset in mid-stream", 19: "reset with data queued",
    20: "data before the worker is ready", 21: "one-byte writes", 22: "random sizes and pauses", 23: "pipes run out", 24: "urgent byte",
    25: "zero window; a silent peer vanishes", 26: "descriptors of the parent run out", 27: "descriptors of a worker run out",
    28: "errors injected into system calls", 30: "bursts of connections", 31: "many idle connections", 33: "the channel of a worker is full",
    34: "a compromised worker", 35: "what a worker can reach", 36: "malicious messages of a worker", 37: "restrictions of the ring",
    38: "malformed configuration", 40: "logs that cannot be written", 41: "out of memory", 42: "the clock jumps", 43: "a layer of the sandbox is missing",
    44: "soak", 45: "the same rows, other programs", 46: "the channel of a worker stalls, few descriptors",
}


def record(number, engine, figure):
    """One measured figure of a row; engine is "-" where the row is not about one."""
    line = f"ROW {number} {engine} {' '.join(str(figure).split())}"
    print(line)
    path = os.environ.get("NSPROXY_ROWS")
    if path:
        with open(path, "a", encoding="utf-8") as file:     # one short write: several runs may append at the same time
            file.write(line + "\n")


def table(lines):
    """The rows in order, each with its title once."""
    found = sorted({(int(match[1]), match[2], match[3]) for match in (re.match(r"ROW (\d+) (\S+) (.*)", line) for line in lines) if match})
    out, last = [], None
    for number, engine, figure in found:
        out.append(f"{number if number != last else '':>3} {TITLES.get(number, '') if number != last else '':52} {engine:9} {figure}")
        last = number
    return out


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as rows_file:
        print("\n".join(table(rows_file)))
