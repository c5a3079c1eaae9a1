"""Defects of answers to callers, of forming, and of Python and actors (BUG-37 to BUG-41, BUG-52, BUG-69 to BUG-77)."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from raft_actors.behaviours import formation
from raft_actors.behaviours.transition import Transition
from raft_actors.errors import ElectionInProgress
from raft_actors.futures import RequestFuture
from raft_actors.protocol.state import Leader
from raft_actors.requests import WriteBatch
from tests.simulation.hunting import Album, defect

ENGINE = "raft_actors.engine:Engine"
WAITERS = "raft_actors.requests:Waiters"


@defect("BUG-37", f"{ENGINE}.run")
def writes_of_a_deposed_leader_are_called_not_applied(honest: Any) -> Any:
    """Who waits for an entry when its leader steps down is told that it had no effect."""

    def run(self: Any, event: Any, moment: Any) -> None:
        led = isinstance(self.state.role, Leader)
        honest(self, event, moment)
        if led and not isinstance(self.state.role, Leader):
            for segment in self.waiters._segments:
                segment.fail(ElectionInProgress("the leader stepped down"))
            self.waiters._segments.clear()

    return run


@defect("BUG-38, BUG-39, BUG-40", f"{ENGINE}.run", without=("repeat",))  # a session would take no command twice
def a_leader_proposes_again_what_it_still_owes(honest: Any) -> Any:
    """Commands that wait for their commit are appended once more by a leader that comes back."""

    def run(self: Any, event: Any, moment: Any) -> None:
        led = isinstance(self.state.role, Leader)
        honest(self, event, moment)
        if isinstance(self.state.role, Leader) and not led:
            for segment in tuple(self.waiters._segments):
                batch = WriteBatch()
                batch.commands = segment.batch.commands[segment.start : segment.stop]
                batch.futures = [RequestFuture() for _ in batch.commands]
                self.write(batch, moment)

    return run


@defect("BUG-41", f"{WAITERS}.committed", also={f"{WAITERS}.truncated": lambda honest: lambda self, index: None})
def callers_wait_by_index_only(honest: Any) -> Any:
    """The reply of another leader's entry at the same index goes to our caller."""

    def committed(self: Any, entries: Any) -> Any:
        terms = {entry.index: entry.term for entry in entries}
        for place, one in enumerate(self._segments):
            self._segments[place] = one._replace(term=terms.get(one.first, one.term))
        return honest(self, entries)

    return committed


@defect("BUG-77", f"{WAITERS}._overwritten")
def whoever_waits_for_an_overwritten_entry_waits_for_ever(honest: Any) -> Any:
    """A write that lost its place in the log is never answered."""
    return lambda self, segment: self._release(segment.batch, segment.stop - segment.start)


@defect("BUG-77", f"{WAITERS}.committed")
def a_stop_answers_what_was_answered(honest: Any) -> Any:
    """Writes that the machine has answered, or will, are answered again when the peer ends."""

    def committed(self: Any, entries: Any) -> Any:
        due = honest(self, entries)
        for segment in due:
            self._batches[-segment.first] = segment.batch
        return due

    return committed


@defect("BUG-52", "raft_actors.behaviours.applying:hand_over")
def followers_do_not_apply(honest: Any) -> Any:
    """Followers have the log, and their machines nothing."""
    return lambda state: honest(state) if isinstance(state.role, Leader) else Transition(state)


@defect("BUG-69", "raft_actors.behaviours.formation:on_form_cluster")
def a_peer_is_free_for_every_cluster(honest: Any) -> Any:
    """Two callers form a cluster each, of the same peers."""

    def on_form_cluster(state: Any, message: Any, moment: Any) -> Any:
        if message.until <= 0 or state.cluster:
            return honest(state, message, moment)
        return formation._answer(state, message, "")

    return on_form_cluster


@defect("BUG-70", "raft_actors.copies:detached", machine=Album)
def an_exception_of_the_machine_ends_its_peer(honest: Any) -> Any:
    """What ``handle_write`` raises is no result: it takes the actor with it."""

    def detached(error: Exception) -> Exception:
        raise error

    return detached


@defect("BUG-71", "raft_actors.machine_actor:Replica._answer", machine=Album)
def callers_hold_a_piece_of_a_replica(honest: Any) -> Any:
    """A reply is handed out as it is, and its caller changes it."""
    return lambda self, future, reply, index: future.try_set(reply, index)


@defect("BUG-71", "raft_actors.codec:CloudpickleCodec.decode", machine=Album)
def replicas_share_their_commands(honest: Any) -> Any:
    """The same bytes are decoded once for all peers of a process."""
    known: dict[bytes, Any] = {}

    def decode(self: Any, data: bytes) -> Any:
        if data not in known:
            known[data] = honest(self, data)
        return known[data]

    return decode


@defect("BUG-74", "raft_actors.behaviours.leader:write")
def the_time_in_the_log_follows_the_wall_clock(honest: Any) -> Any:
    """A clock that is set back takes the replicated time with it."""

    def write(state: Any, event: Any, moment: Any) -> Any:
        return honest(replace(state, time=0.0), event, moment)

    return write


@defect("BUG-74", "raft_actors.behaviours.transition:election_deadline")
def timeouts_are_told_by_the_wall_clock(honest: Any) -> Any:
    """An election timeout is reckoned from the time of day."""
    return lambda state, moment, *more: honest(state, replace(moment, now=moment.wall), *more)
