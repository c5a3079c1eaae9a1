"""What do the pieces of a request cost, each by itself? Codec, futures, inbox, records.

    python -m benchmarks.pieces

Microseconds of wall-clock time, the best of several rounds, in one thread.
"""

from __future__ import annotations

import itertools
import timeit
from collections.abc import Callable

import raft_actors as raft
from raft_actors.codec import resolve
from raft_actors.futures import RequestFuture
from raft_actors.intake import Mailbox
from raft_actors.protocol.entry import Entry, EntryKind
from raft_actors.records import GENESIS, decode_records, encode_entries

PAYLOAD = b"x" * 256
DRAIN_EVERY = 1000


def cost(label: str, action: Callable[[], object], per: int = 1, number: int = 10_000) -> None:
    best = min(timeit.repeat(action, number=number, repeat=7)) / number / per
    print(f"{label:36} {1e6 * best:7.3f} us")


def codecs() -> None:
    for name in ("cloudpickle", "plain"):
        codec = resolve(name)
        for what, command in (("256 bytes", PAYLOAD), ("tuple", ("set", "key", "value"))):
            data = codec.encode_checked(command)
            cost(f"{name}: encode {what}", lambda codec=codec, command=command: codec.encode_checked(command))
            cost(f"{name}: decode {what}", lambda codec=codec, data=data: codec.decode(data))


def futures() -> None:
    def round_trip() -> None:
        future: RequestFuture[int] = RequestFuture()
        future.try_set(1, 2)
        future.get()

    cost("future: make, set, get", round_trip)


def inbox() -> None:
    config = raft.Config(max_pending_writes=1 << 31, max_pending_bytes=1 << 40)
    mailbox = Mailbox("pieces", config, resolve("cloudpickle"))
    turns = itertools.count(1)

    def request(write: Callable[[], object]) -> None:
        write()
        if next(turns) % DRAIN_EVERY == 0:
            drained = mailbox.drain()
            for batch in (drained.writes, drained.reads):
                if batch is not None:
                    mailbox.release(batch, len(batch.futures))

    cost("inbox: write", lambda: request(lambda: mailbox.write(PAYLOAD, RequestFuture(), watch=False)))
    cost(
        "inbox: read",
        lambda: request(lambda: mailbox.read(PAYLOAD, "linearizable", RequestFuture(), watch=False, min_index=None)),
    )


def records() -> None:
    entries = [Entry(index, 1, EntryKind.COMMAND, 1.0, PAYLOAD) for index in range(1, 1001)]
    pairs, _ = encode_entries(entries, GENESIS)
    cost("records: encode an entry", lambda: encode_entries(entries, GENESIS), per=1000, number=20)
    cost("records: decode an entry", lambda: decode_records(pairs, GENESIS), per=1000, number=20)


def main() -> None:
    for part in (codecs, futures, inbox, records):
        part()


if __name__ == "__main__":
    main()
