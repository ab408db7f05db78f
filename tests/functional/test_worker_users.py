# SPDX-License-Identifier: ISC
"""worker-users: each worker has a user of its own, over its whole life and when it is replaced."""

import os
import signal

import pytest

from support import peers, proc, waits

FIRST = 230001          # nobody's, and needs no entry anywhere


def uids(proxy):
    """{worker's number, from its title: its four uids}"""
    return {pid: proc.status(pid)["Uid"].split() for pid in proxy.workers()}


@pytest.fixture
def ranged(world):
    if world.install.one_id:
        pytest.skip("there is one user here")
    server = world.serve(peers.echo)

    def start(workers, engine):
        return world.relay(server, engine, workers=workers, top=f'worker-users = {FIRST}-{FIRST + workers - 1}\n', connect_timeout='"5s"')
    return start


def test_each_has_its_own(world, engine, ranged):
    proxy = ranged(3, engine)
    found = uids(proxy)
    assert sorted(found.values()) == [[str(FIRST + number)] * 4 for number in range(3)]
    for pid in found:
        status = proc.status(pid)
        assert status["Groups"] == "" and "0" not in status["Gid"].split()
        assert all(status[key] == "0" * 16 for key in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"))
    assert proc.status(proxy.reporter())["Uid"].split()[0] not in {row[0] for row in found.values()}
    # More than a socket buffer, so that an engine that splices does; one after the other goes to each of them.
    for _ in range(6):
        client = world.connect(proxy)
        peers.send_pattern(client, 100000)
        assert len(peers.receive_exactly(client, 100000)) == 100000
        client.close()


def test_the_next_one_takes_its_place(world, ranged):
    proxy = ranged(3, "adaptive")
    before = uids(proxy)
    victim = proxy.workers()[1]
    proxy.expect_log("worker")
    proxy.check_workers = proxy.check_descriptors = False
    os.kill(victim, signal.SIGKILL)
    waits.until(lambda: len(proxy.workers()) == 3 and victim not in proxy.workers() and
                all(proc.program(pid) == "nsproxy-worker" for pid in proxy.workers()), "another worker")
    waits.until(lambda: sorted(uids(proxy).values()) == sorted(before.values()), lambda: f"the same users: {uids(proxy)}")
    new, = set(proxy.workers()) - set(before)
    assert uids(proxy)[new] == before[victim]
