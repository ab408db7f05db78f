# SPDX-License-Identifier: ISC
"""The seccomp filters of a running process, taken out by ptrace and evaluated: which system calls may pass at all."""

import ctypes
import os
import struct

PTRACE_DETACH, PTRACE_SEIZE, PTRACE_INTERRUPT, PTRACE_SECCOMP_GET_FILTER = 17, 0x4206, 0x4207, 0x420C
ALLOW, LOG = 0x7FFF0000, 0x7FFC0000
AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}[os.uname().machine]
NUMBERS = range(600)

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.restype = ctypes.c_long
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]


def _ptrace(request, pid, address, data):
    result = _libc.ptrace(request, pid, address, data)
    if result < 0:
        errno = ctypes.get_errno()
        raise OSError(errno, f"ptrace {request:#x}: {os.strerror(errno)}")
    return result


def read(pid):
    """Every filter of the process as a list of (code, jt, jf, k). OSError where the kernel does not give them out."""
    _ptrace(PTRACE_SEIZE, pid, None, None)
    try:
        _ptrace(PTRACE_INTERRUPT, pid, None, None)
        os.waitpid(pid, 0x40000000)     # __WALL
        found = []
        while True:
            try:
                length = _ptrace(PTRACE_SECCOMP_GET_FILTER, pid, len(found), None)
            except FileNotFoundError:
                return found
            buffer = ctypes.create_string_buffer(length * 8)
            _ptrace(PTRACE_SECCOMP_GET_FILTER, pid, len(found), ctypes.cast(buffer, ctypes.c_void_p))
            found.append(list(struct.iter_unpack("=HBBI", buffer.raw)))
    finally:
        _libc.ptrace(PTRACE_DETACH, pid, None, None)


JUMPS = {0x15: lambda a, k: a == k, 0x25: lambda a, k: a > k, 0x35: lambda a, k: a >= k, 0x45: lambda a, k: bool(a & k)}


def outcomes(program, number):
    """The actions a filter may answer that call with, whatever its arguments (a value that depends on them is None, and both ways are followed)."""
    found, pending, seen = set(), [(0, None)], set()
    while pending:
        state = pending.pop()
        if state in seen:
            continue
        seen.add(state)
        position, value = state
        code, yes, no, k = program[position]
        if code == 0x06:
            found.add(k & 0xFFFF0000)
        elif code == 0x20:
            pending.append((position + 1, {0: number, 4: AUDIT_ARCH}.get(k)))
        elif code == 0x05:
            pending.append((position + 1 + k, value))
        elif code in JUMPS:
            ways = (True, False) if value is None else (JUMPS[code](value, k),)
            pending += [(position + 1 + (yes if way else no), value) for way in ways]
        else:
            pending.append((position + 1, None))       # arithmetic on an argument
    return found


def allowed(pid):
    """Numbers of the system calls that every filter of the process may let pass."""
    programs = read(pid)
    assert programs, "no filter"
    return [number for number in NUMBERS if all(outcomes(program, number) & {ALLOW, LOG} for program in programs)]


def default_kills(pid):
    """Does some filter of it kill the process for a call that is none?"""
    return any(0x80000000 in outcomes(program, 599) for program in read(pid))
