# SPDX-License-Identifier: ISC
"""The parent dies: nobody outlives it, the port is free again, and connections end with a reset."""

import signal
import time

from conftest import PUBLIC
from support import peers, proc, rows, waits


def test_everything_ends_with_the_parent(world, engine, figure):
    server = world.serve(peers.echo)
    proxy = world.relay(server, engine, workers=2)
    proxy.exit_code = -signal.SIGKILL
    proxy.expect_log("")
    client = world.connect(proxy)
    client.sendall(b"x")
    assert client.recv(1) == b"x"
    children = proc.children(proxy.pid)
    assert len(children) == 3, "two workers and a reporter"
    port = proxy.port
    started = time.monotonic()
    proxy.kill(signal.SIGKILL)
    waits.until(lambda: not any(proc.alive(pid) for pid in children), "the end of workers and reporter")
    figure(f"no process left after {(time.monotonic() - started) * 1000:.0f} ms")
    rows.record(4, engine, f"{(time.monotonic() - started) * 1000:.0f} ms until no process is left, client reset, port free again")
    proxy.process.wait(waits.PATIENCE)      # its own memory may take longer to go than theirs
    assert peers.drain(client)[2] == peers.RESET
    world.pub.listener(PUBLIC, port).close()
