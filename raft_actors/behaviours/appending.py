"""How a leader's log grows: entries leave for the followers at once, and are put on its own disk meanwhile.

A configuration counts from the moment it is appended, so the leader knows its new members, and forgets the old ones,
in that very step.

Paper: §5.3, §6 ("a server always uses the latest configuration in its log"). Thesis: §10.2.1.
"""

from __future__ import annotations

from msgspec.structs import replace

from raft_actors.behaviours.replication import feed_all
from raft_actors.behaviours.transition import Outcome
from raft_actors.protocol.configuration import Configuration, encode
from raft_actors.protocol.effects import Persist
from raft_actors.protocol.entry import Entry, EntryKind
from raft_actors.protocol.progress import Progress
from raft_actors.protocol.state import Leader, PeerState
from raft_actors.protocol.types import Moment

__all__ = ["append", "append_configuration"]


def append(state: PeerState, role: Leader, entries: tuple[Entry, ...], moment: Moment) -> Outcome:
    """Append ``entries`` of the current term."""
    log = state.log.append(entries)
    if not role.unsynced:
        role = replace(role, unsynced=log.last.index, unsynced_since=moment.now)
    state = replace(state, log=log, time=entries[-1].time)
    role, sends = feed_all(state, role, moment)
    return replace(state, role=role), (*sends, Persist(entries=entries))


def append_configuration(state: PeerState, role: Leader, configuration: Configuration, moment: Moment) -> Outcome:
    """Append the next configuration; it counts from now on."""
    index = state.log.last.index + 1
    known = role.progress
    progress = {
        name: known.get(name) or Progress(next_index=index, heard_at=moment.now)
        for name in configuration.members()
        if name != state.name
    }
    role = replace(role, progress=progress, stuck_since=moment.now)
    entry = Entry(index, state.term, EntryKind.CONFIGURATION, max(state.time, moment.wall), encode(configuration))
    state = replace(state, configurations=(*state.configurations, (index, configuration)))
    return append(state, role, (entry,), moment)
