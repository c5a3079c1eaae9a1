"""How checks are written down, run and reported."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from storage_adapters.interface import Batch, Entry, StorageAdapter, StrPath

Factory: TypeAlias = "Callable[[Any], StorageAdapter]"
ALL = 1 << 40
"""More bytes than any check reads."""


class Result(NamedTuple):
    """The outcome of one check.

    Attributes:
        name: the sentence that was checked.
        ok: whether it holds.
        detail: what was seen instead; empty if it holds.
    """

    name: str
    ok: bool
    detail: str


class Failed(AssertionError):
    """A check found what must not be."""


class Contents(NamedTuple):
    """All that a store shows."""

    bounds: tuple[int, int]
    entries: list[Entry]
    meta: dict[str, bytes | None]


class Lab:
    """What a check works with: stores of the adapter under test in a folder of its own."""

    def __init__(self, factory: Factory, folder: Path) -> None:
        self.factory = factory
        self.folder = folder
        self._opened: list[StorageAdapter] = []

    def path(self, name: str = "store") -> Path:
        """Return the path of the store called ``name``."""
        return self.folder / name

    def open(self, name: str = "store") -> StorageAdapter:
        """Open a store; it is closed when the check is over."""
        store = self.factory(self.path(name))
        self._opened.append(store)
        return store

    def reopen(self, store: StorageAdapter, name: str = "store") -> StorageAdapter:
        """Close a store and open it again."""
        store.close()
        return self.open(name)

    def filled(self, count: int, name: str = "store") -> StorageAdapter:
        """Open a store that holds ``count`` entries and one meta key."""
        store = self.open(name)
        store.write(Batch({"ballot": b"7"}, None, numbered(1, count)))
        return store

    def close(self) -> None:
        """Close all stores that were opened."""
        for store in reversed(self._opened):
            store.close()


class Check(NamedTuple):
    """A named check; ``durable`` ones are for adapters that say so."""

    name: str
    durable: bool
    body: Callable[[Lab], None]


CHECKS: list[Check] = []


def check(name: str, *, durable: bool = False) -> Callable[[Callable[[Lab], None]], Callable[[Lab], None]]:
    """Register the decorated function as the check of a sentence."""

    def register(body: Callable[[Lab], None]) -> Callable[[Lab], None]:
        CHECKS.append(Check(name, durable, body))
        return body

    return register


def numbered(first: int, last: int, tag: str = "entry") -> list[Entry]:
    """Return entries ``first .. last`` whose values name their index."""
    return [(index, f"{tag} {index}".encode()) for index in range(first, last + 1)]


def contents(store: StorageAdapter, *keys: str) -> Contents:
    """Return everything a store holds, as far as its interface shows it."""
    first, last = store.bounds()
    return Contents((first, last), store.read(0, max(last, first) + 10, ALL), {key: store.meta(key) for key in keys})


def expect(seen: object, wanted: object, what: str) -> None:
    """Fail unless ``seen == wanted``, showing both in short."""
    if seen != wanted:
        raise Failed(f"{what}: {_short(seen)} instead of {_short(wanted)}")


@contextmanager
def refused(*errors: type[Exception], what: str) -> Iterator[list[Exception]]:
    """Fail unless the body raises one of ``errors``; it is put into the list that is lent."""
    caught: list[Exception] = []
    try:
        yield caught
    except errors as error:
        caught.append(error)
    else:
        raise Failed(f"{what} was not refused with {' or '.join(error.__name__ for error in errors)}")


def run(factory: Factory, *, directory: StrPath | None = None, names: Collection[str] | None = None) -> list[Result]:
    """Check an adapter.

    Args:
        factory: opens a store at a path; also in another process, so it has to be something pickle or cloudpickle can
            send (a class or a function of a module is).
        directory: where temporary folders are made; the system's place if None.
        names: the checks to run; all if None.

    Returns:
        A result for each check that applies, in a fixed order. Nothing is raised: whatever a check runs into is its
        detail.
    """
    # The modules of checks import this one, and register themselves.
    from storage_adapters.conformance import durability, lifecycle, log, processes, threads  # noqa: F401

    with tempfile.TemporaryDirectory(dir=directory, ignore_cleanup_errors=True) as folder:
        durable = _is_durable(factory, Path(folder) / "probe")
    chosen = [one for one in CHECKS if (durable or not one.durable) and (names is None or one.name in names)]
    return [_run_one(one, factory, directory) for one in chosen]


def _is_durable(factory: Factory, path: Path) -> bool:
    try:
        with contextlib.closing(factory(path)) as store:
            return bool(store.stats()["durable"])
    except Exception:  # noqa: BLE001 - a store that cannot even be asked gets the whole suite, which will say why
        return True


def _run_one(one: Check, factory: Factory, directory: StrPath | None) -> Result:
    with tempfile.TemporaryDirectory(dir=directory, ignore_cleanup_errors=True) as folder:
        lab = Lab(factory, Path(folder))
        try:
            one.body(lab)
        except Exception as error:  # noqa: BLE001 - whatever an adapter under test throws is a result
            detail = str(error) if isinstance(error, Failed) else f"{type(error).__name__}: {error}"
            with contextlib.suppress(Exception):
                lab.close()
            return Result(one.name, ok=False, detail=detail)
        try:
            lab.close()
        except Exception as error:  # noqa: BLE001 - as above
            return Result(one.name, ok=False, detail=f"closing raised {type(error).__name__}: {error}")
    return Result(one.name, ok=True, detail="")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:120]} ... {text[-60:]}"
