"""Writes one number after the other until SIGTERM, or so many; prints each with when it was begun and answered.

::

    NUMBER BEGUN ANSWERED    it was acknowledged
    NUMBER BEGUN unknown     nobody knows what became of it
"""

from __future__ import annotations

import signal
import sys
import threading
import time

import raft_actors as raft


def main(keys: str, first: str, pause: str, size: str, most: str, names: list[str]) -> None:
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    number = int(first)
    with raft.Client(names, timeout=30.0, keys=keys) as client:
        while not stopped.wait(float(pause)) and number < int(first) + int(most):
            begun = time.monotonic()
            try:
                client.write((number, b"x" * int(size)))
                print(number, begun, time.monotonic(), flush=True)
            except raft.OutcomeUnknown:
                print(number, begun, "unknown", flush=True)
            except raft.NotApplied as error:
                print(f"# {number} {error}", flush=True)
            number += 1
        print("# all", flush=True)
        stopped.wait()
    print("# end", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:6], sys.argv[6:])
