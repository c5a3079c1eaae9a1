"""Handing committed entries to the machine, in bounded batches, and serving the reads that waited for them.

Nothing is handed over that is not both committed and on our own disk: after a crash, a machine must never know an
entry that the log does not (BUG-03). A machine that falls behind is fed from the store.

Paper: §5.3 ("lastApplied").
"""

from __future__ import annotations

from msgspec.structs import replace

from raft_actors.behaviours.installing import adopt_if_ready
from raft_actors.behaviours.transition import Outcome
from raft_actors.protocol.effects import Apply, ClusterFormed, Effect, Load, ServeReads
from raft_actors.protocol.entry import Entry
from raft_actors.protocol.events import Applied, EntriesLoaded
from raft_actors.protocol.state import PeerState
from raft_actors.protocol.types import LogPosition, Violation

__all__ = ["hand_over", "on_applied", "on_machine_entries_loaded"]

MAX_APPLYING = 4
"""How many batches the machine may hold before it reported one back."""


def hand_over(state: PeerState) -> Outcome:
    """Everything that the machine may have now. Runs at the end of every step, and is cheap when there is nothing."""
    effects: list[Effect] = []
    if state.restoring is not None:
        state = adopt_if_ready(state, effects)
    if state.handed < state.commit_index and state.log.previous.index <= state.handed < state.log.durable:
        state = _apply(state, effects)
    if state.confirmed_reads:
        state = _serve(state, effects)
    if state.formed and state.commit_index >= state.configurations[0][0]:
        effects.append(ClusterFormed(state.formed))
        state = replace(state, formed=0)
    if state.log.overfull:
        state = replace(state, log=state.log.trimmed(state.log.durable + 1))
    return state, tuple(effects)


def _apply(state: PeerState, effects: list[Effect]) -> PeerState:
    last = min(state.commit_index, state.log.durable)
    while state.handed < last and len(state.applying) < MAX_APPLYING:
        entries = state.log.slice(state.handed + 1, state.settings.max_batch_bytes, last)
        if entries is None:
            return _load(state, last, effects)
        state = _handed(state, entries, effects)
    return state


def _load(state: PeerState, last: int, effects: list[Effect]) -> PeerState:
    if state.loading:
        return state
    until = min(last, state.log.tail_first - 1)
    effects.append(Load("", state.handed + 1, until, state.settings.max_batch_bytes))
    return replace(state, loading=True)


def _handed(state: PeerState, entries: tuple[Entry, ...], effects: list[Effect]) -> PeerState:
    effects.append(Apply(entries))
    last = entries[-1].index
    size = sum([len(entry.data) for entry in entries])
    return replace(state, handed=last, applying=(*state.applying, last), unsaved_bytes=state.unsaved_bytes + size)


def _serve(state: PeerState, effects: list[Effect]) -> PeerState:
    ready = [(index, token) for index, token in state.confirmed_reads if index <= state.handed]
    if not ready:
        return state
    effects.extend(ServeReads(token, state.handed) for _, token in ready)
    waiting = tuple(item for item in state.confirmed_reads if item[0] > state.handed)
    return replace(state, confirmed_reads=waiting)


def on_applied(state: PeerState, event: Applied) -> Outcome:
    """The machine reported a batch back."""
    if event.index > state.handed:
        raise Violation(f"the machine applied {event.index}, but was handed only {state.handed}")
    applying = tuple(last for last in state.applying if last > event.index)
    return replace(state, last_applied=max(state.last_applied, event.index), applying=applying), ()


def on_machine_entries_loaded(state: PeerState, event: EntriesLoaded) -> Outcome:
    """Old entries came back from the store for the machine; what it was handed is committed, so it never changes."""
    state = replace(state, loading=False)
    if not event.entries or event.first != state.handed + 1 or event.first < state.log.first:
        return state, ()  # also if a snapshot was installed meanwhile, which has what came of them
    end = event.entries[-1]
    if not state.log.has(LogPosition(end.term, end.index)):
        raise Violation(f"the store holds another committed entry {end.index} than the log")
    effects: list[Effect] = []
    return _handed(state, event.entries, effects), tuple(effects)
