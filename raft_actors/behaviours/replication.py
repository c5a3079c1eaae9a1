r"""How a leader brings each follower's log to its own: probing, pipelining, reading old entries from the store.

::

    PROBE --matches--> REPLICATE --refused (a gap)--> PROBE at the hint
      \                    /
       next entry not in memory --> LOADING --entries read--> back
       not in the log any more  --> SNAPSHOT --installed--> REPLICATE   (``sending``)

Heartbeats carry ``previous = next_index - 1``, so a batch that was lost is noticed by the next heartbeat's refusal.

Paper: §5.3, Figure 2 (AppendEntries). Thesis: §10.2.1.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import replace

from raft_actors.behaviours import resting, sending
from raft_actors.behaviours.transition import Outcome
from raft_actors.protocol.effects import Effect, Load, Send
from raft_actors.protocol.entry import Entry
from raft_actors.protocol.events import ChunkLoaded, EntriesLoaded
from raft_actors.protocol.messages import AppendEntries, AppendEntriesReply
from raft_actors.protocol.progress import Progress, ProgressState
from raft_actors.protocol.state import LONG_AGO, NEVER, Leader, PeerState
from raft_actors.protocol.types import LogPosition, Moment, Violation

__all__ = ["feed", "feed_all", "heartbeat_all", "heartbeats", "note_reply", "on_chunk_loaded", "on_entries_loaded"]

PROBE, REPLICATE, LOADING = ProgressState.PROBE, ProgressState.REPLICATE, ProgressState.LOADING
SNAPSHOT = ProgressState.SNAPSHOT
_FLOWING = (REPLICATE, LOADING)
CLOCK_MARGIN = 0.9
"""Share of a promise that a leader counts on: clocks may differ in rate by 10 %."""


def feed_all(state: PeerState, role: Leader, moment: Moment) -> tuple[Leader, tuple[Effect, ...]]:
    """Send everybody what it may be sent now. Commit news and heartbeats travel with entries that reach all."""
    effects: list[Effect] = []
    progress = {name: feed(state, role, name, one, moment, effects) for name, one in role.progress.items()}
    role = replace(role, progress=progress)
    if len({effect.to for effect in effects if isinstance(effect, Send)}) == len(progress):
        role = _news_told(state, role, moment)
    return role, tuple(effects)


def feed(
    state: PeerState, role: Leader, name: str, progress: Progress, moment: Moment, effects: list[Effect]
) -> Progress:
    """Send one follower the entries it lacks, as far as its window allows; appends to ``effects``."""
    last, max_bytes = state.log.last.index, state.settings.max_batch_bytes
    if progress.next_index <= state.log.previous.index and progress.state is not SNAPSHOT:
        return sending.begin(state, name, progress, moment, effects)
    while progress.next_index <= last and _may_send(progress, state.settings.max_inflight):
        entries = state.log.slice(progress.next_index, max_bytes)
        if entries is None:
            effects.append(Load(name, progress.next_index, state.log.tail_first - 1, max_bytes))
            return replace(progress, state=LOADING)
        progress = _send_entries(state, role, name, progress, entries, moment, effects)
    return progress


def _may_send(progress: Progress, max_inflight: int) -> bool:
    if progress.state is REPLICATE:
        return len(progress.inflight) < max_inflight
    return progress.state is PROBE and not progress.probing


def _send_entries(
    state: PeerState,
    role: Leader,
    name: str,
    progress: Progress,
    entries: tuple[Entry, ...],
    moment: Moment,
    effects: list[Effect],
) -> Progress:
    effects.append(_append_entries(state, role, name, progress, entries, moment))
    if progress.state is PROBE:
        return replace(progress, probing=True)
    last = entries[-1].index
    return replace(progress, next_index=last + 1, inflight=(*progress.inflight, last))


def _append_entries(
    state: PeerState,
    role: Leader,
    name: str,
    progress: Progress,
    entries: tuple[Entry, ...],
    moment: Moment,
    *,
    rests: bool = False,
) -> Send:
    previous = state.log.position_at(progress.next_index - 1)
    if progress.next_index <= state.log.previous.index and not entries:  # a heartbeat to one that needs a snapshot
        previous = state.log.previous
    if previous is None:
        raise Violation(f"next_index {progress.next_index} of {name} is outside the log")
    message = AppendEntries(
        cluster=state.cluster,
        sender=state.name,
        incarnation=state.incarnation,
        receiver=state.configuration.members()[name].incarnation,
        term=state.term,
        previous=previous,
        entries=entries,
        commit_index=state.commit_index,
        round=role.round,
        sent=moment.now,
        rests=rests,
    )
    return Send(name, message)


def heartbeat_all(state: PeerState, role: Leader, moment: Moment) -> tuple[Leader, tuple[Effect, ...]]:
    """An empty AppendEntries to everybody: keeps followers quiet, carries commit news and the newest read round.

    It is also a probe: whatever the follower answers shows where its log matches, and frees a probe that was lost.
    """
    role, repeated = sending.again(state, role, moment)
    rests = resting.may_offer(state, role)
    offered_at = resting.offered_since(role, moment) if rests else LONG_AGO
    role = replace(_news_told(state, role, moment), offered_at=offered_at)
    return role, heartbeats(state, role, role.progress, moment, rests=rests) + repeated


def heartbeats(
    state: PeerState, role: Leader, names: Iterable[str], moment: Moment, *, rests: bool = False
) -> tuple[Effect, ...]:
    """An empty AppendEntries to each of ``names``; ``rests``: and the offer to rest."""
    return tuple([_append_entries(state, role, name, role.progress[name], (), moment, rests=rests) for name in names])


def _news_told(state: PeerState, role: Leader, moment: Moment) -> Leader:
    return replace(role, heartbeat_deadline=moment.now + state.settings.heartbeat_interval, news_deadline=NEVER)


def note_reply(progress: Progress, reply: AppendEntriesReply, log_hint: LogPosition, moment: Moment) -> Progress:
    """What a reply teaches about its sender.

    Args:
        progress: what was known.
        reply: the reply, of our term.
        log_hint: on refusal, the newest of *our* positions that could match the follower's hint.
        moment: now.
    """
    number = max(progress.round, reply.round)
    promised = max(progress.promised_until, reply.sent + reply.promise * CLOCK_MARGIN)
    if not reply.success:
        progress = replace(progress, heard_at=moment.now, round=number, promised_until=promised)
        return _refused(progress, reply, log_hint)
    match = max(progress.match_index, reply.match_index)
    if progress.sending is not None and (reply.wants or match < progress.sending.last.index):
        return replace(
            progress,
            next_index=max(progress.next_index, match + 1),
            match_index=match,
            heard_at=moment.now,
            round=number,
            promised_until=promised,
            lost=reply.wants > 0,
        )
    newest = reply.sent >= progress.newest_sent
    inflight = progress.inflight
    if inflight and inflight[0] <= match:
        inflight = tuple([last for last in inflight if last > match])
    return Progress(
        next_index=max(progress.next_index, match + 1),
        match_index=match,
        state=LOADING if progress.state is LOADING else REPLICATE,
        inflight=inflight,
        window_since=progress.window_since if progress.state in _FLOWING else moment.now,
        heard_at=moment.now,
        round=number,
        promised_until=promised,
        lost=reply.wants > 0,
        priority=reply.priority,
        newest_sent=reply.sent if newest else progress.newest_sent,
        rested_at=(reply.sent if reply.rests else LONG_AGO) if newest else progress.rested_at,
    )


def _refused(progress: Progress, reply: AppendEntriesReply, log_hint: LogPosition) -> Progress:
    """Go back to where the logs may agree, never below what is known to match; a late refusal teaches nothing.

    Where messages overtake each other, one window of them can be refused many times over. Only the first refusal opens
    a new window: if each did, every window would bring forth several, and the peers would be busy with nothing else.
    """
    if progress.state is PROBE:
        late = reply.previous != progress.next_index - 1
    else:
        late = not progress.match_index < reply.previous < progress.next_index or reply.sent < progress.window_since
    if late or progress.state is LOADING or progress.state is SNAPSHOT:
        return progress
    next_index = max(progress.match_index + 1, min(reply.previous, log_hint.index + 1))
    return replace(progress, next_index=next_index, state=PROBE, inflight=(), probing=False)


def on_entries_loaded(state: PeerState, event: EntriesLoaded, moment: Moment) -> Outcome:
    """Entries came back from the store: send them, if the follower still wants them and the log still has them."""
    role = state.role
    progress = role.progress.get(event.reader) if isinstance(role, Leader) else None
    if not isinstance(role, Leader) or progress is None or progress.state is not LOADING:
        return state, ()
    matched = bool(progress.inflight) or progress.match_index == progress.next_index - 1
    progress = replace(progress, state=REPLICATE if matched else PROBE, probing=False)
    effects: list[Effect] = []
    there = event.first > state.log.previous.index  # the log may have been cut behind a snapshot meanwhile
    if there and event.first == progress.next_index and event.entries and state.log.has(_end(event.entries)):
        progress = _send_entries(state, role, event.reader, progress, event.entries, moment, effects)
    progress = feed(state, role, event.reader, progress, moment, effects)
    role = replace(role, progress={**role.progress, event.reader: progress})
    return replace(state, role=role), tuple(effects)


def on_chunk_loaded(state: PeerState, event: ChunkLoaded, moment: Moment) -> Outcome:
    """A piece of our snapshot was read for a follower. If it cannot be read, another snapshot is wanted.

    It is taken as soon as there is an entry more: one of the same place would be the same one for a follower.
    """
    role = state.role
    progress = role.progress.get(event.reader) if isinstance(role, Leader) else None
    if not isinstance(role, Leader) or progress is None:
        return state, ()
    if event.data is None and state.snapshot is not None and state.snapshot.id == event.id:
        state = replace(state, snapshot_wanted=max(state.snapshot_wanted, state.snapshot_index + 1))
    effects: list[Effect] = []
    progress = sending.send_chunk(state, event, progress, moment, effects)
    role = replace(role, progress={**role.progress, event.reader: progress})
    return replace(state, role=role), tuple(effects)


def _end(entries: tuple[Entry, ...]) -> LogPosition:
    return LogPosition(entries[-1].term, entries[-1].index)
