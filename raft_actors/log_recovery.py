"""What a store's log is worth when it is opened: all of it, a sound part before a torn tail, or nothing to go on with.

::

    base    mark or snapshot           end of the log
    |---- sound ----|------- torn? --------|
      damage here is    damage here was never
      CorruptLog        promised: cut off

Everything is read and every record checked, in chunks, without building entries. Nothing is changed here.

Without a mark nothing can be shown to lie above it, so any damage is ``CorruptLog``; a log that merely ends too early
cannot be noticed then.
"""

from __future__ import annotations

from raft_actors.durable_mark import Mark, vote_number
from raft_actors.errors import CorruptLog
from raft_actors.protocol.types import LogPosition
from raft_actors.records import DamagedRecord, Survey, head_of
from raft_actors.store_meta import Meta
from storage_adapters import StorageAdapter

__all__ = ["READ_BYTES", "check_range", "contradiction", "lost_end", "sound_head", "survey_log"]

READ_BYTES = 4 << 20
"""How much of the log is in memory at a time while it is checked, in bytes."""


def survey_log(
    adapter: StorageAdapter, meta: Meta, mark: Mark | None, where: str
) -> tuple[Survey, DamagedRecord | None]:
    """Check the whole log of a store.

    Args:
        adapter: the store.
        meta: what it says about itself.
        mark: its durable-tail mark, ``None`` if there is none that can be read.
        where: the store, for messages.

    Returns:
        What is sound, and the first record of a torn tail after it, if there is one.

    Raises:
        CorruptLog: damage that cannot be a torn tail, or something durable is gone.
    """
    base, (first, last) = meta.base, adapter.bounds()
    survey = Survey(base.last, base.chain, base.time)
    try:
        _require_bounds(first, last, meta)
        check_range(adapter, survey, last if mark is None else min(mark.last.index, last))
        problem = contradiction(mark, meta, survey, last) if mark is not None else None
        if problem is None:
            check_range(adapter, survey, _covered(meta))
    except DamagedRecord as damage:
        raise CorruptLog(f"{where} is damaged: {damage}") from damage
    if problem is not None:
        raise CorruptLog(f"{where} is damaged: {problem}")
    try:
        check_range(adapter, survey, last)
    except DamagedRecord as torn:
        return survey, torn
    return survey, None


def check_range(adapter: StorageAdapter, survey: Survey, last: int) -> None:
    """Check what follows in the log, up to ``last``.

    Raises:
        DamagedRecord: a record is damaged or missing.
    """
    while survey.last.index < last:
        index = survey.last.index + 1
        pairs = adapter.read(index, last, READ_BYTES)
        if not pairs:
            raise DamagedRecord(index, "is missing")
        survey.check(pairs)


def contradiction(mark: Mark, meta: Meta, survey: Survey, last: int) -> str | None:
    """Return what the mark knows better than the store, or ``None``.

    Args:
        mark: the mark.
        meta: what the store says about itself.
        survey: the log, checked up to the mark or to its end.
        last: index of the newest entry in the store.
    """
    if mark.incarnation != meta.identity.incarnation:
        return f"its mark TAIL belongs to another store ({mark.incarnation}, not {meta.identity.incarnation})"
    if max(last, meta.base.last.index) < mark.last.index:
        return f"the log ends with entry {last}, but entry {mark.last.index} was durable"
    if survey.last.index == mark.last.index and (survey.last, survey.chain) != (mark.last, mark.chain):
        return (
            f"entry {mark.last.index} (term {survey.last.term}) is not the one that was durable there "
            f"(term {mark.last.term}): the log is an older copy, or was replaced"
        )
    return _older_ballot(mark, meta)


def _older_ballot(mark: Mark, meta: Meta) -> str | None:
    ballot = meta.ballot
    if ballot.term < mark.ballot_term:
        return f"its ballot is of term {ballot.term}, but one of term {mark.ballot_term} was durable"
    if ballot.term == mark.ballot_term and mark.vote not in (0, vote_number(ballot)):
        return f"its vote in term {ballot.term} is not the one that was durable"
    return None


def _covered(meta: Meta) -> int:
    """The newest entry that was durable when the snapshot was recorded, and is in the log since."""
    return max(meta.base.last.index, 0 if meta.snapshot is None else meta.snapshot.last.index)


def _require_bounds(first: int, last: int, meta: Meta) -> None:
    """The log reaches from its base to its snapshot.

    It may end before the base if that is where the snapshot ends: one that was installed in the place of the log, which
    was still to be dropped.
    """
    base = meta.base.last.index
    if first > base + 1:
        raise DamagedRecord(base + 1, f"is missing: the log begins with entry {first}")
    if damage := lost_end(last, meta):
        raise damage


def lost_end(last: int, meta: Meta) -> DamagedRecord | None:
    """Return the damage of a log that ends with entry ``last``, before what its base and snapshot say."""
    covered = _covered(meta)
    if last >= covered or (meta.snapshot is not None and covered == meta.base.last.index):
        return None
    return DamagedRecord(last + 1, f"is missing, although everything up to entry {covered} was durable")


def sound_head(index: int, pairs: list[tuple[int, bytes]], where: str) -> tuple[LogPosition, int, float]:
    """Return position, chain value and time of an entry that must be in the log.

    Args:
        index: the entry.
        pairs: what the adapter has of it.
        where: the store, for messages.

    Raises:
        CorruptLog: it is damaged or missing.
    """
    try:
        for pair in pairs:
            return head_of(*pair)
        raise DamagedRecord(index, "is missing")
    except DamagedRecord as damage:
        raise CorruptLog(f"{where} is damaged: {damage}") from damage
