"""A long cable: SECONDS BRIDGE BRIDGE. What comes at one end leaves at the other after so many seconds."""

from __future__ import annotations

import collections
import fcntl
import os
import select
import struct
import subprocess
import sys
import time

TUNSETIFF = 0x400454CA
IFF_TAP, IFF_NO_PI = 2, 0x1000


def end(name: str, bridge: str) -> int:
    """An end of the cable, in a bridge."""
    file = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(file, TUNSETIFF, struct.pack("16sH", name.encode(), IFF_TAP | IFF_NO_PI))
    subprocess.run(["ip", "link", "set", name, "master", bridge, "up"], check=True)
    return file


def main(seconds: float, one: str, other: str) -> None:
    near, far = end("near", one), end("far", other)
    opposite = {near: far, far: near}
    under_way: collections.deque[tuple[float, int, bytes]] = collections.deque()
    print("it is there", flush=True)
    while True:
        wait = max(under_way[0][0] - time.monotonic(), 0.0) if under_way else None
        for file in select.select([near, far], [], [], wait)[0]:
            try:
                under_way.append((time.monotonic() + seconds, opposite[file], os.read(file, 1 << 16)))
            except BlockingIOError:
                continue
        while under_way and under_way[0][0] <= time.monotonic():
            _, file, data = under_way.popleft()
            try:
                os.write(file, data)
            except BlockingIOError:
                continue  # lost


if __name__ == "__main__":
    main(float(sys.argv[1]), *sys.argv[2:])
