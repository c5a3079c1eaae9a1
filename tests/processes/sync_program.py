"""The program that runs under strace: a cluster at work, with marks where durability is promised.

Run as ``sync_program.py FOLDER STORAGE PEERS honest|lying``. A mark is a write of one line to ``FOLDER/marks``, made
just *before* what it names happens, so that a sync that comes a moment too late is seen as too late::

    BEGIN peer first last cut term vote    a batch goes to the adapter (0: no entries, no cut; term -1: no ballot)
    END peer                               the adapter says that it is durable
    MATCH peer index                       an acknowledgement of entries leaves the peer
    VOTE peer term candidate               a vote leaves it
    LEAD peer term                         it leads, by its own vote among others
    ACK index                              a caller is answered

The lying build says that batches are durable without a sync.
"""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path

import lmdb

import raft_actors as raft
from raft_actors import store_meta, supervisor
from raft_actors.futures import RequestFuture
from raft_actors.machines import KV
from raft_actors.protocol.messages import AppendEntriesReply, RequestVoteReply
from raft_actors.transport.local import LOCAL
from storage_adapters import LMDBAdapter, RocksDBAdapter


class Marks:
    def __init__(self, path):
        self.descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def __call__(self, *words):
        os.write(self.descriptor, (" ".join(map(str, words)) + "\n").encode())


def marked(adapter, mark):
    """The adapter of an engine, with marks around its writes."""

    class Marked(adapter):
        def write(self, batch):
            name = Path(self._path).name
            entries = batch.entries
            first, last = (entries[0][0], entries[-1][0]) if entries else (0, 0)
            term, vote = ballot_of(batch)
            mark("BEGIN", name, first, last, batch.truncate_from or 0, term, vote)
            super().write(batch)
            mark("END", name)

    return Marked


def ballot_of(batch):
    if "ballot" not in batch.meta:
        return -1, None
    ballot = store_meta._ballot.decode(store_meta.unseal("ballot", batch.meta["ballot"]))
    return ballot.term, ballot.voted_for


def mark_promises(mark, put=setattr):
    """Marks where votes, acknowledgements and replies leave; ``put`` sets an attribute."""
    send, answer, notice = LOCAL.send, RequestFuture.try_set, supervisor.Handle.noticed

    def marked_send(source, to, message):
        if isinstance(message, AppendEntriesReply) and message.success:
            mark("MATCH", source, message.match_index)
        elif isinstance(message, RequestVoteReply) and message.granted:
            mark("VOTE", source, message.term, to)
        send(source, to, message)

    def marked_answer(self, value, index=None):
        if index is not None:
            mark("ACK", index)
        return answer(self, value, index)

    def marked_notice(self, before, after):
        if type(after.role).__name__ == "Leader" and type(before.role).__name__ != "Leader":
            mark("LEAD", after.name, after.term)
        notice(self, before, after)

    put(LOCAL, "send", marked_send)
    put(RequestFuture, "try_set", marked_answer)
    put(supervisor.Handle, "noticed", marked_notice)


def skip_syncs():
    """The planted bug, in both engines."""
    lmdb.open = partial(lmdb.open, sync=False)

    def commit(self, changes):
        if not changes.is_empty():
            self._db.write(changes)

    RocksDBAdapter._commit = commit


def work(names, config):
    for name in names:
        raft.start_peer(KV, name=name, config=config)
    raft.set_configuration(names[0], names)
    with raft.Client(names, timeout=60.0) as client:
        for number in range(20):
            client.write(("set", "alone", number))
        for future in [client.write(("set", "many", number), block=False) for number in range(300)]:
            future.get()
        if len(names) > 1:
            supervisor.handle_of(client.leader()).stop(5.0, crash=True)
            for number in range(10):
                client.write(("set", "after", number))


def main():
    folder, storage, peers, honesty = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4]
    mark = Marks(folder / "marks")
    mark_promises(mark)
    if honesty == "lying":
        skip_syncs()
    adapter = marked({"lmdb": LMDBAdapter, "rocksdb": RocksDBAdapter}[storage], mark)
    work([f"s{n}" for n in range(1, peers + 1)], raft.Config(data_dir=folder, storage=adapter))
    supervisor.stop_all(5.0)


if __name__ == "__main__":
    main()
