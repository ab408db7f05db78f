#!/usr/bin/env python3
# SPDX-License-Identifier: ISC
"""
What a process may still do, counted from the process itself: as root, on a quiet machine,

    sandboxes.py NAME=PID...

prints a row of a table for each: system calls that its seccomp filters allow (and how many of them with checked arguments), capabilities it holds or could
get, user, open files. The filters are read with ptrace and followed through every branch that depends on arguments.
"""

import ctypes
import os
import re
import struct
import sys

PTRACE_SEIZE, PTRACE_INTERRUPT, PTRACE_DETACH, PTRACE_SECCOMP_GET_FILTER = 0x4206, 0x4207, 17, 0x420c
ALLOW, LOG = 0x7fff0000, 0x7ffc0000
AUDIT_ARCH_X86_64 = 0xc000003e
CALLS = range(0, 470)
libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
libc.ptrace.restype = ctypes.c_long


def filters_of(pid):
    """The classic BPF programs of a process, each a list of (code, jt, jf, k)."""
    if libc.ptrace(PTRACE_SEIZE, pid, None, None) != 0:
        raise OSError(ctypes.get_errno(), f"ptrace {pid}")
    try:
        libc.ptrace(PTRACE_INTERRUPT, pid, None, None)
        os.waitpid(pid, 0x40000000)
        found = []
        while True:
            size = libc.ptrace(PTRACE_SECCOMP_GET_FILTER, pid, ctypes.c_void_p(len(found)), None)
            if size < 0:
                return found
            buffer = ctypes.create_string_buffer(size * 8)
            libc.ptrace(PTRACE_SECCOMP_GET_FILTER, pid, ctypes.c_void_p(len(found)), buffer)
            found.append([struct.unpack_from("HBBI", buffer, i * 8) for i in range(size)])
    finally:
        libc.ptrace(PTRACE_DETACH, pid, None, None)


def outcomes(program, number):
    """Every action that the program may return for this call, whatever its arguments."""
    known = {0: number, 4: AUDIT_ARCH_X86_64}
    ends, seen, work = set(), set(), [(0, None)]
    while work:
        state = work.pop()
        if state in seen:
            continue
        seen.add(state)
        at, value = state
        code, jump_true, jump_false, k = program[at]
        kind = code & 7
        if kind == 6:                                   # RET
            ends.add(k & 0xffff0000)
        elif kind == 0:                                 # LD
            work.append((at + 1, known.get(k) if code & 0xe0 == 0x20 else None))
        elif kind == 5:                                 # JMP
            operation = code & 0xf0
            if operation == 0:
                work.append((at + 1 + k, value))
            elif value is None:
                work += [(at + 1 + jump_true, None), (at + 1 + jump_false, None)]
            else:
                holds = {0x10: value == k, 0x20: value > k, 0x30: value >= k, 0x40: value & k != 0}[operation]
                work.append((at + 1 + (jump_true if holds else jump_false), value))
        else:                                           # ALU on arguments; the rest does not change what is loaded
            work.append((at + 1, None if kind == 4 else value))
    return ends


def count(programs):
    """(calls that may pass all filters, of them those that may also be refused)"""
    allowed = checked = 0
    for number in CALLS:
        each = [outcomes(program, number) for program in programs]
        if all(ends & {ALLOW, LOG} for ends in each):
            allowed += 1
            checked += any(ends - {ALLOW, LOG} for ends in each)
    return allowed, checked


def row(name, pid):
    with open(f"/proc/{pid}/status", encoding="utf-8") as file:
        status = dict(re.findall(r"^(\w+):\t(.*)$", file.read(), re.M))
    caps = [bin(int(status[key], 16)).count("1") for key in ("CapEff", "CapPrm", "CapBnd")]
    programs = filters_of(pid) if status["Seccomp"] == "2" else []
    calls = "all" if not programs else "{} ({} checked)".format(*count(programs))
    kinds = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
    files = sum(kind.startswith("/") and kind != "/dev/null" for kind in kinds)
    return f"| {name} | {calls} | {caps[0]} / {caps[1]} / {caps[2]} | {status['Uid'].split()[0]} | {files} | {'yes' if status['NoNewPrivs'] == '1' else 'no'} |"


def main():
    print("| process | system calls | capabilities effective / permitted / bounding | uid | files open | no_new_privs |\n|---|---|---|---|---|---|")
    for word in sys.argv[1:]:
        name, _, pid = word.rpartition("=")
        print(row(name, int(pid)))


if __name__ == "__main__":
    main()
