"""The program of the other process: opens a store, writes, tells what it has done, and waits to be killed.

It reads one pickled ``Order`` from standard input and answers with lines of text on standard output.
"""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

from storage_adapters.interface import Batch, StorageAdapter

_GROUP = 5


class Order(NamedTuple):
    """What the worker is to do.

    Attributes:
        factory: the pickled factory.
        path: the store.
        batches: how many batches to write.
    """

    factory: bytes
    path: str
    batches: int


def batch(number: int) -> Batch:
    """Return batch ``number`` (from 1): five more entries, the five before written again, and the number in meta."""
    begin = max(1, (number - 2) * _GROUP + 1)
    value = b"%d" % number * 100
    return Batch({"number": b"%d" % number}, begin, [(index, value) for index in range(begin, number * _GROUP + 1)])


def play(write: Callable[[Batch], Any], count: int, told: Callable[[object], None]) -> None:
    """Write the first ``count`` batches and tell the number of each one when its write has returned."""
    for number in range(1, count + 1):
        write(batch(number))
        told(number)


def main() -> None:
    """Do what the order says and then wait for the end."""
    order: Order = pickle.load(sys.stdin.buffer)
    store: StorageAdapter = pickle.loads(order.factory)(order.path)
    play(store.write, order.batches, _tell)
    _tell("done")
    sys.stdin.buffer.read()


def _tell(word: object) -> None:
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
