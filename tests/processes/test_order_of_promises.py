"""In every step of random runs: nothing is promised before the adapter has returned with it.

As ``test_syncs``, without system calls: the adapter's word is taken for the sync, which that test and those of the
adapters prove. In return there are crashes, restarts and elections, and every message is looked at.
"""

from __future__ import annotations

import random
import threading

import pytest

import raft_actors as raft
from raft_actors import supervisor
from raft_actors.log_writer import Writer
from raft_actors.machines import KV
from raft_actors.protocol.events import Persisted
from storage_adapters import LMDBAdapter, RocksDBAdapter
from tests.processes.promises import Batch, Promises
from tests.processes.sync_program import mark_promises, marked

NAMES = ("p1", "p2", "p3")


class Judge:
    """Takes marks as they are made, in the order of all threads."""

    def __init__(self) -> None:
        self.promises = Promises(list(NAMES))
        self._lock = threading.Lock()
        self._writing: dict[str, Batch] = {}

    def __call__(self, *words: object) -> None:
        word, *rest = map(str, words)
        with self._lock:
            match word, rest:
                case "BEGIN", [name, *batch]:
                    self._writing[name] = Batch.of(batch)
                    self.promises.begin(name, self._writing[name])
                case "END", [name]:
                    self.promises.end(name, self._writing.pop(name))
                case _:
                    self.promises.made(" ".join([word, *rest]))


@pytest.fixture
def judge(monkeypatch):
    judge = Judge()
    mark_promises(judge, monkeypatch.setattr)
    yield judge
    supervisor.stop_all(5.0)


def random_run(config: raft.Config, seed: int, steps: int) -> None:
    """Writes, alone and pipelined, among crashes, stops and restarts of one peer at a time."""
    rng = random.Random(seed)
    for name in NAMES:
        raft.start_peer(KV, name=name, config=config)
    raft.set_configuration("p1", NAMES)
    down: str | None = None
    with raft.Client(NAMES, timeout=20.0) as client:
        for step in range(steps):
            write_some(client, rng, step)
            if down is not None:
                raft.start_peer(KV, name=down, config=config)
                down = None
            elif step < 2 or rng.random() < 0.7:
                down = client.leader() if step < 2 else rng.choice([*NAMES, client.leader()])
                supervisor.handle_of(down).stop(5.0, crash=rng.random() < 0.7)


def write_some(client: raft.Client, rng: random.Random, step: int) -> None:
    futures = [client.write(("set", n, step), block=False) for n in range(rng.choice([1, 3, 200]))]
    if rng.random() < 0.5:
        return
    for future in futures:
        try:
            future.get()
        except raft.OutcomeUnknown:
            continue


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("adapter", [LMDBAdapter, RocksDBAdapter])
def test_no_message_and_no_reply_leaves_before_the_write_it_depends_on(tmp_path, judge, adapter, seed):
    random_run(raft.Config(data_dir=tmp_path, storage=marked(adapter, judge)), seed, 12)
    promises = judge.promises
    assert promises.broken == []
    assert min(promises.kept.get(kind, 0) for kind in ("ACK", "MATCH", "VOTE", "LEAD")) >= 2, promises.kept


def sends_first(self, group):
    """The planted bug: acknowledgements and votes leave before the transaction."""
    for job in group:
        for send in job.sends:
            self._send(send)
    self.store.write([job.persist for job in group])
    self._note(group)
    self._report(Persisted(self._ballot, self._last))


def reports_first(honest):
    """Another one: a peer whose disk is slow is told that its batch is there before it is."""

    def commit(self, group):
        self._note(group)
        self._report(Persisted(self._ballot, self._last))
        threading.Event().wait(0.05)
        honest(self, group)

    return commit


def test_a_writer_that_sends_before_it_writes_is_caught(tmp_path, judge, monkeypatch):
    monkeypatch.setattr(Writer, "_commit", sends_first)
    random_run(raft.Config(data_dir=tmp_path, storage=marked(LMDBAdapter, judge)), 1, 4)
    assert {mark.split()[0] for mark in judge.promises.broken} >= {"VOTE", "MATCH"}


def test_a_writer_that_reports_before_it_writes_is_caught(tmp_path, judge, monkeypatch):
    judge.promises = Promises(["p1"])
    monkeypatch.setattr(Writer, "_commit", reports_first(Writer._commit))
    raft.start_peer(KV, name="p1", config=raft.Config(data_dir=tmp_path, storage=marked(LMDBAdapter, judge)))
    raft.set_configuration("p1", ["p1"])
    raft.Client("p1").write(("set", "a", 1))
    assert {mark.split()[0] for mark in judge.promises.broken} == {"LEAD", "ACK"}
