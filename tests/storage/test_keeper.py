"""The keeper of a peer's snapshots without its thread: what it reports, and what stops the peer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import raft_actors as raft
from raft_actors.codec import resolve
from raft_actors.log_store import LogStore
from raft_actors.machine_actor import Replica
from raft_actors.machines import KV
from raft_actors.protocol.configuration import NO_CONFIGURATION
from raft_actors.protocol.effects import Capture, Persist, Restore, StoreChunk
from raft_actors.protocol.events import ChunkStored, SnapshotFailed, SnapshotLoaded, SnapshotWritten
from raft_actors.protocol.types import Ballot, LogPosition
from raft_actors.snapshot_keeper import Keeper
from storage_adapters import MemoryAdapter
from tests.storage.log_tools import commands

CAPTURE = Capture(LogPosition(1, 12), 0, NO_CONFIGURATION)


class Picky(KV):
    """Loads what the test lets it."""

    problem: BaseException | None = None

    def load(self, file: Any) -> Any:
        if self.problem is not None:
            raise self.problem
        return super().load(file)


class Kept:
    """A keeper, and everything around it."""

    def __init__(self, path: Path) -> None:
        self.store = LogStore.open(MemoryAdapter, path, name="s1")
        self.store.write([Persist(Ballot(1, "s1"), cluster="c1", entries=commands(1, 20))])
        self.machine = Picky()
        self.replica = Replica(self.machine, "s1", resolve("cloudpickle"))
        self.replica.adopt({"k": 1}, CAPTURE.last.index)
        self.told: list[Any] = []
        self.keeper = Keeper("s1", self.store, self.replica, "cloudpickle", self.told.append)

    def save(self) -> Any:
        saving = self.keeper.capture(CAPTURE)
        assert saving is not None
        self.keeper.perform(saving)
        return self.told.pop()

    @property
    def files(self) -> list[str]:
        return self.store.snapshots.folder.names()


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return Kept(tmp_path)


def test_a_state_that_was_written_can_be_loaded_and_taken_once(kept: Kept) -> None:
    written = kept.save()
    assert isinstance(written, SnapshotWritten)
    kept.keeper.perform(Restore(written.snapshot))
    assert kept.told == [SnapshotLoaded(written.snapshot.id)]
    assert kept.keeper.take(written.snapshot)[0] == {"k": 1}
    with pytest.raises(raft.InvariantViolated):
        kept.keeper.take(written.snapshot)


def test_one_that_is_given_up_before_its_first_byte_is_not_written_either(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = kept.store.snapshots.create

    def given_up_meanwhile(*args: Any, **more: Any) -> Any:
        output = create(*args, **more)
        kept.keeper.give_up()
        return output

    monkeypatch.setattr(kept.store.snapshots, "create", given_up_meanwhile)
    assert kept.save() == SnapshotFailed()
    assert kept.files == []


def test_a_state_that_is_not_what_was_applied_is_never_saved(kept: Kept) -> None:
    kept.replica.applied += 1
    with pytest.raises(raft.InvariantViolated):
        kept.keeper.capture(CAPTURE)


@pytest.mark.parametrize(
    ("problem", "stops"),
    [(ValueError("odd"), raft.Incompatible), (MemoryError(), MemoryError), (OSError(5, "no"), OSError)],
)
def test_a_state_that_is_needed_and_cannot_be_loaded_stops_the_peer(
    kept: Kept, problem: BaseException, stops: type[BaseException]
) -> None:
    written = kept.save()
    kept.machine.problem = problem
    with pytest.raises(stops):
        kept.keeper.perform(Restore(written.snapshot))
    assert kept.told == []


def test_a_snapshot_that_is_gone_when_it_is_to_be_loaded_stops_the_peer(kept: Kept) -> None:
    written = kept.save()
    kept.store.snapshots.folder.remove(f"{written.snapshot.id}.snap")
    with pytest.raises(raft.CorruptLog, match="'s1' cannot load its snapshot"):
        kept.keeper.perform(Restore(written.snapshot))


def test_pieces_that_do_not_go_on_with_what_is_here_are_refused_and_everything_is_dropped(kept: Kept) -> None:
    kept.keeper.perform(StoreChunk("other-9", 0, 100, b"x" * 10))
    kept.keeper.perform(StoreChunk("other-9", 20, 100, b"x" * 10))
    assert kept.told == [ChunkStored("other-9", 10), ChunkStored("other-9", -1)]
    assert kept.files == []


def test_a_whole_file_that_is_no_snapshot_is_refused(kept: Kept) -> None:
    kept.keeper.perform(StoreChunk("other-9", 0, 10, b"x" * 10))
    assert kept.told == [ChunkStored("other-9", -1)]
    assert kept.files == []
