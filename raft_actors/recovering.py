"""When a quorum is lost for good: a new cluster from what its stores still hold, by hand.

Raft cannot go on without a majority, and must not: those that are gone may have known more. Somebody who knows that
they never come back may decide to go on with what is left. The log that ends latest counts, term before index: whatever
is in another one only was never committed. ::

    the stores, all locked --> the best one --image--> .NAME-recovering, for each peer of the new cluster
                                                        | all whole and durable
                                                        v
                                                       .NAME-recovered      from here on it is only finished
    NAME --> NAME.before-recovery, .NAME-recovered --> NAME

The new cluster has a new id and new incarnations: no peer of the old one can ever take part in it, whenever it comes
back. Nothing is deleted. After a crash the same call goes on, or begins anew.

Thesis: chapter 4 has no such thing; it is as etcd's forced new cluster, from several stores.
"""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from msgspec import Struct

from raft_actors.backups import write_open_image
from raft_actors.durable_mark import read_mark
from raft_actors.errors import Incompatible
from raft_actors.inspection import NotAStore, engine_in, factory_of, reading
from raft_actors.log_recovery import survey_log
from raft_actors.log_store import AdapterFactory, LogStore
from raft_actors.protocol.configuration import Configuration, Member, has_quorum
from raft_actors.protocol.configuration import decode as decode_configuration
from raft_actors.protocol.entry import EntryKind
from raft_actors.protocol.types import LogPosition
from raft_actors.restoring import Image, fill, found
from raft_actors.store_meta import read_meta
from storage_adapters import StorageAdapter
from storage_adapters import folder as disk

__all__ = ["Recovery", "Store", "finish", "surveyed"]


class Store(Struct, frozen=True):
    """One of the given stores.

    Attributes:
        folder: where it is.
        name: whose it was.
        incarnation: whose exactly.
        engine: name of its engine.
        factory: opens a store of its kind.
        cluster: id of its cluster.
        last: position of its newest entry.
        runs: ``(first index, term)`` of each run of equal terms in its log.
        base: index of the last entry that it has compacted.
        configuration: the newest one in it.
        adapter: the open store.
    """

    folder: Path
    name: str
    incarnation: str
    engine: str
    factory: AdapterFactory
    cluster: str
    last: LogPosition
    runs: tuple[tuple[int, int], ...]
    base: int
    configuration: Configuration
    adapter: StorageAdapter

    def term_at(self, index: int) -> int:
        """The term of an entry, 0 where it is compacted."""
        return max((term for first, term in self.runs if first <= index), default=0)


class Recovery(Struct, frozen=True):
    """Stores that were compared.

    Attributes:
        stores: all of them, the best one first.
    """

    stores: tuple[Store, ...]

    @property
    def best(self) -> Store:
        """The one whose log counts."""
        return self.stores[0]

    def losses(self) -> list[str]:
        """What may be lost, a line each."""
        return [*map(self._dropped, self.stores[1:]), *self._missing()]

    def _dropped(self, store: Store) -> str:
        best = self.best
        common = min(store.last.index, best.last.index)
        while common > max(store.base, best.base) and store.term_at(common) != best.term_at(common):
            common -= 1
        if common == store.last.index:
            return f"{store.name}: nothing, {best.name} has every entry of it"
        # By Leader Completeness (paper §5.4.3): else the leader of the last term of the best log would have had them.
        return f"{store.name}: its entries {common + 1} to {store.last.index}, which were never committed"

    def _missing(self) -> list[str]:
        voters = {name for half in self.best.configuration.halves for name in half}
        members = self.best.configuration.members()
        given = {store.name for store in self.stores if _is(members.get(store.name), store)}
        gone = sorted(voters - given)
        if has_quorum(self.best.configuration, given):
            alive = "these are a majority, which can elect a leader by itself: start them, unless you know why not"
            return [f"nothing that was acknowledged: {alive}"]
        return [f"whatever only {', '.join(gone)} knew, acknowledged writes among it: nobody can tell what"]

    def carry_out(self, peers: Mapping[str, str]) -> str:
        """Make the new cluster, in the places of the stores of ``peers``.

        Args:
            peers: the voters of the new cluster, each with its address, ``""``: that in the old configuration.

        Returns:
            The id of the new cluster.

        Raises:
            Incompatible: as ``require``.
            PeerFailed: a new store cannot be written; nothing was changed.
            OSError: as well.
        """
        chosen = self.require(peers)
        cluster = secrets.token_hex(8)
        for store in chosen:
            shutil.rmtree(_recovering(store.folder), ignore_errors=True)
        self._prepare(chosen, peers, cluster)
        for store in chosen:
            os.rename(_recovering(store.folder), _recovered(store.folder))
            disk.sync(store.folder.absolute().parent)
        for store in chosen:
            _exchange(store.folder)
        return cluster

    def require(self, peers: Collection[str]) -> list[Store]:
        """The stores of ``peers``.

        Raises:
            Incompatible: one has none here, or its place for the old one is taken.
        """
        for place in self.kept(peers):
            if os.path.lexists(place):
                raise Incompatible(f"{place} is there, from another recovery", advice="move it away first")
        return [self._of(name) for name in peers]

    def kept(self, peers: Collection[str]) -> list[Path]:
        """Where the old stores of ``peers`` are kept."""
        return [_before(self._of(name).folder) for name in peers]

    def _of(self, name: str) -> Store:
        for store in self.stores:
            if store.name == name:
                return store
        raise Incompatible(
            f"no store of peer {name!r} was given", advice="recover those that have stores, then add the others"
        )

    def _prepare(self, chosen: Sequence[Store], peers: Mapping[str, str], cluster: str) -> None:
        """Fill a new store for each, and write down in all of them who they are together."""
        best = self.best
        with tempfile.TemporaryDirectory(prefix=".recovery-", dir=best.folder.absolute().parent) as scratch:
            path = Path(scratch) / "image"
            write_open_image(best.folder, best.adapter, path)
            with ExitStack() as stack:
                made = {store.name: stack.enter_context(_filled(path, store, cluster)) for store in chosen}
                voters = tuple(
                    Member(name, one.identity.incarnation, peers[name] or self._address(name))
                    for name, (one, _, _) in made.items()
                )
                for one, last, time in made.values():
                    found(one, last, time, configuration=Configuration(voters), cluster=cluster)

    def _address(self, name: str) -> str:
        member = self.best.configuration.members().get(name)
        return "" if member is None else member.address


def _is(member: Member | None, store: Store) -> bool:
    return member is not None and member.incarnation == store.incarnation


@contextmanager
def _filled(path: Path, store: Store, cluster: str) -> Iterator[tuple[LogStore, LogPosition, float]]:
    with (
        path.open("rb") as stream,
        LogStore.open(store.factory, _recovering(store.folder), name=store.name, codec="") as made,
    ):
        last, time = fill(Image(path, stream, ""), made, cluster)
        yield made, last, time


@contextmanager
def surveyed(folders: Sequence[Path]) -> Iterator[Recovery]:
    """Open the stores in ``folders``, check and compare them; they stay locked until the end.

    Raises:
        NotAStore: one is none, or there twice.
        StoreInUse: the peer of one is running.
        CorruptLog: one is damaged.
        Incompatible: they do not belong together.
    """
    _require_different(folders)
    with ExitStack() as stack:
        stores = [_opened(folder, stack.enter_context(reading(folder))) for folder in folders]
        _require_one_cluster(stores)
        yield Recovery(tuple(sorted(stores, key=lambda store: store.last, reverse=True)))


def _opened(folder: Path, adapter: StorageAdapter) -> Store:
    where = f"the store {folder}"
    meta = read_meta(adapter.meta, where)
    if meta is None:
        raise NotAStore(f"{folder} holds a log that no peer has made")
    survey, _ = survey_log(adapter, meta, read_mark(folder), where)
    changes = [entry.data for entry in survey.remembered if entry.kind is EntryKind.CONFIGURATION]
    return Store(
        folder=folder,
        name=meta.identity.name,
        incarnation=meta.identity.incarnation,
        engine=engine_in(folder),
        factory=factory_of(folder),
        cluster=meta.identity.cluster,
        last=survey.last,
        runs=tuple(survey.runs),
        base=meta.base.last.index,
        configuration=decode_configuration(changes[-1]) if changes else meta.base.configuration,
        adapter=adapter,
    )


def _require_different(folders: Sequence[Path]) -> None:
    seen: dict[Path, Path] = {}
    for folder in folders:
        real = folder.resolve()
        if real in seen:
            first = seen[real]
            raise NotAStore(f"{folder} is given twice" if first == folder else f"{folder} is {first} once more")
        seen[real] = folder


def _require_one_cluster(stores: Sequence[Store]) -> None:
    names = [store.name for store in stores]
    for store in stores:
        if not store.cluster or not store.configuration:
            raise Incompatible(
                f"{store.folder} belongs to no cluster: there is nothing to recover in it", advice="leave it out"
            )
        if store.cluster != stores[0].cluster:
            raise Incompatible(
                f"{store.folder} belongs to cluster {store.cluster}, {stores[0].folder} to {stores[0].cluster}",
                advice="name the stores of one cluster",
            )
        if names.count(store.name) > 1:
            raise Incompatible(f"two of these are stores of peer {store.name!r}", advice="name each peer once")


# -- places ------------------------------------------------------------------------------------------------------------


def finish(folders: Sequence[Path]) -> list[Path]:
    """Finish a recovery that had all its stores ready when it was interrupted.

    Returns:
        The stores that were put in their places; none if nothing was to be finished.

    Raises:
        OSError: one cannot be moved.
    """
    if any(_recovering(folder).exists() for folder in folders):  # it was not ready yet: all of it is made anew
        for folder in folders:
            shutil.rmtree(_recovered(folder), ignore_errors=True)
        return []
    ready = [folder for folder in folders if _recovered(folder).exists()]
    for folder in ready:
        _exchange(folder)
    return ready


def _exchange(folder: Path) -> None:
    """Put the new store in the place of the old one, which stays beside it."""
    if folder.exists():
        os.rename(folder, _before(folder))
    os.rename(_recovered(folder), folder)
    disk.sync(folder.absolute().parent)


def _before(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.before-recovery")


def _recovering(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}-recovering")


def _recovered(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}-recovered")
