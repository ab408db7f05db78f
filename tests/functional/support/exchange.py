# SPDX-License-Identifier: ISC
"""
Many connections at the same time, random sizes in both directions, digests checked: a program of two halves, so that each has a processor of its own.
    python3 exchange.py server HOST         prints its port
    python3 exchange.py client HOST PORT CONNECTIONS GREATEST SEED   prints a JSON summary
On the wire: seed, bytes up, bytes down (three 64-bit numbers), the bytes up and an end; meanwhile the bytes down, then the SHA-256 of what came up.
"""

import asyncio
import hashlib
import json
import random
import struct
import sys
import time

HEAD = struct.Struct("!QQQ")
BLOCK = random.Random(7).randbytes(1 << 20)
CHUNK = 1 << 16


def body(seed, size):
    position = seed % (len(BLOCK) - CHUNK)
    while size:
        part = BLOCK[position:position + min(size, CHUNK)]
        yield part
        size -= len(part)
        position = (position + 4099) % (len(BLOCK) - CHUNK)


async def send_body(writer, seed, size):
    for part in body(seed, size):
        writer.write(part)
        await writer.drain()


async def receive_body(reader, size):
    """SHA-256 of what came, which may be less than asked for."""
    sha = hashlib.sha256()
    while size:
        part = await reader.read(min(size, 1 << 18))
        if not part:
            break
        sha.update(part)
        size -= len(part)
    return sha.digest(), size


async def serve_one(reader, writer):
    try:
        seed, up, down = HEAD.unpack(await reader.readexactly(HEAD.size))
        (sha, _), _ = await asyncio.gather(receive_body(reader, up), send_body(writer, seed + 1, down))
        writer.write(sha)
        await reader.read()
        writer.write_eof()
        await writer.drain()
    except (OSError, asyncio.IncompleteReadError):
        pass            # the client reports it
    finally:
        writer.close()


async def server(host):
    listening = await asyncio.start_server(serve_one, host, 0, backlog=4096)
    print(listening.sockets[0].getsockname()[1], flush=True)
    async with listening:
        await listening.serve_forever()


async def client_one(reader, writer, seed, up, down):
    """Number of mismatches: 0 to 3 (down, digest of up, end)."""
    async def send():
        writer.write(HEAD.pack(seed, up, down))
        await send_body(writer, seed, up)
        writer.write_eof()
    (sha, missing), _ = await asyncio.gather(receive_body(reader, down), send())
    expected_down, expected_up = hashlib.sha256(), hashlib.sha256()
    for part in body(seed + 1, down):
        expected_down.update(part)
    for part in body(seed, up):
        expected_up.update(part)
    tail = await reader.read(64)
    while len(tail) < 32 and (part := await reader.read(64)):
        tail += part
    rest = await reader.read()
    writer.close()
    return (missing != 0 or sha != expected_down.digest()) + (tail[:32] != expected_up.digest()) + (len(tail) != 32 or rest != b"")


async def client(host, port, connections, greatest, seed):
    chance = random.Random(seed)
    started = time.monotonic()
    streams = await asyncio.gather(*(asyncio.open_connection(host, port) for _ in range(connections)))
    open_after = time.monotonic() - started
    jobs, volume = [], 0
    for reader, writer in streams:
        up, down = (int(greatest * chance.random() ** 3) for _ in range(2))
        volume += up + down
        jobs.append(client_one(reader, writer, chance.getrandbits(40), up, down))
    results = await asyncio.gather(*jobs, return_exceptions=True)
    print(json.dumps({
        "connections": connections, "bytes": volume, "mismatches": sum(r for r in results if isinstance(r, int)),
        "errors": [repr(r) for r in results if isinstance(r, BaseException)][:5], "open_s": round(open_after, 3),
        "seconds": round(time.monotonic() - started, 3)}))


def main():
    import resource
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if sys.argv[1] == "server":
        asyncio.run(server(sys.argv[2]))
    else:
        asyncio.run(client(sys.argv[2], *(int(a) for a in sys.argv[3:7])))


if __name__ == "__main__":
    main()
