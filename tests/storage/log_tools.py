"""Small makers of entries and stores for the tests of the log store."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from raft_actors.log_store import LogStore
from raft_actors.protocol.configuration import Configuration, Member
from raft_actors.protocol.configuration import encode as encode_configuration
from raft_actors.protocol.effects import Persist
from raft_actors.protocol.entry import Entry, EntryKind
from raft_actors.protocol.types import Ballot
from storage_adapters import Batch, LMDBAdapter, RocksDBAdapter, SharedLMDB, StorageAdapter


def shared_lmdb(path: str | Path) -> StorageAdapter:
    """Open a store whose LMDB file all stores of the folder around it share."""
    return SharedLMDB(Path(path).parent / "shared")(path)


shared_lmdb.engine = "shared-lmdb"  # type: ignore[attr-defined]  # as every adapter class has one

ENGINES = [LMDBAdapter, RocksDBAdapter]
SHARING: list[Callable[[str], StorageAdapter]] = [*ENGINES, shared_lmdb]
T0 = 1_700_000_000.0


def command(index: int, term: int = 1, data: bytes | None = None) -> Entry:
    return Entry(index, term, EntryKind.COMMAND, T0 + index, b"command %d" % index if data is None else data)


def commands(first: int, last: int, term: int = 1) -> tuple[Entry, ...]:
    return tuple(command(index, term) for index in range(first, last + 1))


def noop(index: int, term: int) -> Entry:
    return Entry(index, term, EntryKind.NOOP, T0 + index)


def configuration_of(*names: str) -> Configuration:
    return Configuration(voters=tuple(Member(name, f"{number:016x}") for number, name in enumerate(names)))


def change(index: int, term: int, configuration: Configuration) -> Entry:
    return Entry(index, term, EntryKind.CONFIGURATION, T0 + index, encode_configuration(configuration))


def append(store: LogStore, *entries: Entry) -> None:
    store.write([Persist(entries=entries)])


def everything(store: LogStore) -> tuple[Entry, ...]:
    """Read all entries of a store, a few at a time."""
    found: list[Entry] = []
    index = store.recovered.log.first
    while more := store.read(index, 2**62, 4096):
        found += more
        index = more[-1].index + 1
    return tuple(found)


def filled(factory: Callable[[str], StorageAdapter], path: Path, *, last: int = 20, clean: bool = True) -> None:
    """Make a store of peer s1 with commands 1 .. last of term 1, and close it."""
    store = LogStore.open(factory, path, name="s1")
    store.write([Persist(ballot=Ballot(1, "s1"), cluster="c1", entries=commands(1, last))])
    store.close(clean=clean)


def records(factory: Callable[[str], StorageAdapter], path: Path) -> list[tuple[int, bytes]]:
    """Read the raw records of a closed store."""
    with factory(str(path)) as adapter:
        return adapter.read(1, 2**62, 1 << 30)


def replant(factory: Callable[[str], StorageAdapter], path: Path, changed: dict[int, bytes]) -> None:
    """Put other bytes into entries of a closed store, through its engine, which notices nothing."""
    with factory(str(path)) as adapter:
        _, last = adapter.bounds()
        first = min(changed)
        pairs = adapter.read(first, last, 1 << 30)
        adapter.write(Batch(truncate_from=first, entries=[(i, changed.get(i, value)) for i, value in pairs]))


def flipped(record: bytes, at: int = -1, bit: int = 0) -> bytes:
    """Return the record with one bit of one byte turned over."""
    changed = bytearray(record)
    changed[at] ^= 1 << bit
    return bytes(changed)
