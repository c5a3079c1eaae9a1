"""Snapshots in the words of a transcript."""

from __future__ import annotations

from raft_actors.protocol import effects as fx
from raft_actors.protocol.events import (
    ChunkLoaded,
    ChunkStored,
    Event,
    SnapshotFailed,
    SnapshotLoaded,
    SnapshotRecorded,
    SnapshotRequested,
    SnapshotWritten,
)
from raft_actors.protocol.types import LogPosition


def position(position: LogPosition | None) -> str:
    return f"{position.term}.{position.index}" if position else "?"


def snapshot_event(event: Event) -> str:
    match event:
        case SnapshotRequested():
            return f"is asked for a snapshot (request {event.token})"
        case SnapshotWritten():
            return f"has written snapshot {event.snapshot.id}"
        case SnapshotFailed():
            return "could not write a snapshot"
        case SnapshotRecorded():
            return f"has recorded snapshot {event.id}"
        case ChunkLoaded():
            return f"has read {event.id} from {event.offset}{'' if event.data else ': it is gone'}"
        case ChunkStored():
            return f"has stored {event.id} up to {event.received}{', all of it' if event.snapshot else ''}"
        case SnapshotLoaded():
            return f"has loaded the state in {event.id}"
        case _:
            raise ValueError(f"unknown event {event!r}")


def snapshot_effect(effect: fx.Effect) -> str:
    match effect:
        case fx.Capture():
            return f"capture the state at {position(effect.last)}, configuration of {effect.configuration_index}"
        case fx.Compact():
            return (
                f"to disk: snapshot {effect.snapshot.id}, no entries up to {effect.through}, "
                f"configuration of {effect.configuration_index}"
            )
        case fx.LoadChunk():
            return f"read {effect.id} from {effect.offset} for {effect.reader}"
        case fx.StoreChunk():
            return f"store {effect.id} from {effect.offset}"
        case fx.DropChunks():
            return "drop what was received of a snapshot"
        case fx.Restore():
            return f"load the state in {effect.snapshot.id}"
        case fx.Adopt():
            return f"go on with the state in {effect.snapshot.id}"
        case fx.SnapshotAnswer():
            return f"request {effect.token} has a snapshot of {effect.index}"
        case _:
            raise ValueError(f"unknown effect {effect!r}")
