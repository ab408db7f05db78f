# SPDX-License-Identifier: ISC
"""
Starts a program as a service manager does that opened its sockets: starter.py DESCRIPTOR[,DESCRIPTOR]... NAMES PROGRAM [ARGUMENT]...
The descriptors become 3, 4, ... in this order; NAMES are LISTEN_FDNAMES, "-" for none. STARTER_PID, where it is set, is told for our process id.
"""

import fcntl
import os
import sys

if __name__ == "__main__":
    descriptors = [int(number) for number in sys.argv[1].split(",")]
    high = [fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, 3 + len(descriptors) + 64) for number in descriptors]
    for number, descriptor in enumerate(high, 3):
        os.dup2(descriptor, number, inheritable=True)
    os.environ["LISTEN_PID"] = os.environ.pop("STARTER_PID", str(os.getpid()))
    os.environ["LISTEN_FDS"] = str(len(descriptors))
    if sys.argv[2] != "-":
        os.environ["LISTEN_FDNAMES"] = sys.argv[2]
    os.execv(sys.argv[3], sys.argv[3:])
