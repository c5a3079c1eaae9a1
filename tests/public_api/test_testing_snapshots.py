"""``raft_actors.testing.Cluster`` whose peers took snapshots: what it shows of their logs, and what a wipe takes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import raft_actors as raft
from raft_actors.log_store import LogStore
from raft_actors.machines import Counter
from raft_actors.testing import Cluster
from storage_adapters import LMDBAdapter
from tests.threads.tools import Recorder, assert_nothing_left, remember

ENGINES = ["lmdb", "rocksdb", "memory"]
BARE = raft.Config(trailing_entries=0)


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    remember()
    yield
    assert_nothing_left()


def written(cluster: Cluster, count: int = 10) -> int:
    """Write, and return the index of the last entry that all have."""
    for _ in range(count):
        cluster.write(("add", 1))
    cluster.converged()
    return cluster.status("s1").last_index


@pytest.mark.parametrize("storage", ENGINES)
def test_entries_begin_after_what_a_snapshot_took_the_place_of(storage: str) -> None:
    with Cluster(Counter, storage=storage, config=BARE) as cluster:
        last = written(cluster)
        assert raft.snapshot("s1") == last
        assert cluster.entries("s1") == []
        assert [entry.index for entry in cluster.entries("s2")] == list(range(1, last + 1))
        cluster.write(("add", 1))
        cluster.converged()
        assert [entry.index for entry in cluster.entries("s1")] == [last + 1]


@pytest.mark.parametrize("storage", ENGINES)
def test_entries_of_a_stopped_peer_are_its_log_and_not_what_was_left_on_its_disk(
    storage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LogStore, "trim", lambda self, max_entries: False)
    with Cluster(Counter, storage=storage, config=BARE) as cluster:
        last = written(cluster)
        raft.snapshot("s2")
        cluster.write(("add", 1))
        cluster.converged()
        cluster.crash("s2")
        assert [entry.index for entry in cluster.entries("s2")] == [last + 1]


def test_entries_that_are_cut_off_while_they_are_read_are_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = LogStore.read
    with Cluster(Counter, config=raft.Config(trailing_entries=2)) as cluster:
        last = written(cluster)
        cut: list[int] = []

        def read(store: LogStore, first: int, *rest: int) -> Any:
            if not cut:
                cut.append(raft.snapshot("s1"))
            return honest(store, first, *rest)

        monkeypatch.setattr(LogStore, "read", read)
        assert [entry.index for entry in cluster.entries("s1")] == [last - 1, last]
        assert cut == [last]


def test_peers_whose_logs_begin_elsewhere_have_converged_if_the_rest_is_equal() -> None:
    with Cluster(Counter, config=BARE) as cluster:
        written(cluster)
        raft.snapshot("s1")
        cluster.write(("add", 1))
        raft.snapshot("s2")
        cluster.write(("add", 1))
        assert cluster.converged() is True


def test_converged_is_red_when_states_differ_although_no_log_is_left() -> None:
    class Different(Recorder):
        def handle_write(self, command: Any, state: Any) -> Any:
            state.append(self.name)
            return None, state

    with Cluster(Different, config=BARE) as cluster:
        cluster.write("x")
        cluster.eventually(lambda: {cluster.status(name).last_applied for name in cluster.names} == {3})
        for name in cluster.names:
            raft.snapshot(name)
            assert cluster.entries(name) == []
        with pytest.raises(AssertionError, match=r"the states of s1 and s2 differ: \['s1'\] and \['s2'\]"):
            cluster.converged(0.3)


def test_converged_is_red_when_the_common_part_of_the_logs_differs(monkeypatch: pytest.MonkeyPatch) -> None:
    with Cluster(Counter, config=BARE) as cluster:
        written(cluster)
        raft.snapshot("s1")
        written(cluster, 2)
        original = cluster._stored
        monkeypatch.setattr(cluster, "_stored", lambda name: original(name)[: -1 if name == "s3" else None])
        with pytest.raises(AssertionError, match="the logs of s1 and s3 differ"):
            cluster.converged(0.1)


@pytest.mark.parametrize("storage", ENGINES)
def test_a_wiped_peer_has_no_snapshot_left(storage: str, tmp_path: Path) -> None:
    with Cluster(Counter, storage=storage, config=BARE, data_dir=tmp_path) as cluster:
        written(cluster)
        victim = next(name for name in cluster.names if name != cluster.leader())
        raft.snapshot(victim)
        cluster.stop(victim)
        cluster.wipe(victim)
        assert not (tmp_path / victim).exists()
        assert cluster.entries(victim) == []
        cluster.start(victim)
        status = cluster.status(victim)
        assert (status.snapshot_index, status.last_applied) == (0, 0)


class OneFile(LMDBAdapter):
    """A store that is a single file, as far as anybody can see."""

    def __init__(self, path: str) -> None:
        Path(path).touch()
        super().__init__(f"{path}-engine")


def test_what_lies_beside_a_store_of_a_single_file_is_wiped_with_it(tmp_path: Path) -> None:
    with Cluster(Counter, 1, storage=OneFile, data_dir=tmp_path, config=BARE) as cluster:
        written(cluster)
        raft.snapshot("s1")
        cluster.stop("s1")
        assert {path.name for path in tmp_path.iterdir()} == {"s1", "s1.TAIL", "s1.snapshots", "s1-engine"}
        cluster.wipe("s1")
        assert {path.name for path in tmp_path.iterdir()} == {"s1-engine"}
