"""Defects of reads and of the rounds that confirm them (BUG-22 to BUG-30)."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from raft_actors.behaviours.reads import _reply
from raft_actors.behaviours.transition import Transition
from raft_actors.protocol.configuration import has_quorum
from raft_actors.protocol.effects import Send, ServeReads
from raft_actors.protocol.state import Leader
from tests.simulation.hunting import defect

FOLLOWER = "raft_actors.behaviours.follower"
LEADER = "raft_actors.behaviours.leader"
READS = "raft_actors.behaviours.reads"
RECOVERY = "raft_actors.behaviours.recovery"


@defect("BUG-22", f"{READS}:_start_round")
def a_new_leader_reads_before_its_first_entry_is_committed(honest: Any) -> Any:
    """The commit index of a new leader is taken for good at once."""

    def _start_round(state: Any, role: Any, moment: Any) -> Any:
        first = role.first_index
        after, effects = honest(state, replace(role, first_index=0), moment)
        return Transition(replace(after, role=replace(after.role, first_index=first)), effects)

    return _start_round


@defect("BUG-23, BUG-30", "raft_actors.behaviours.applying:_serve")
def reads_do_not_wait_for_their_index(honest: Any) -> Any:
    """A confirmed read is served from whatever the machine has by now."""

    def _serve(state: Any, effects: Any) -> Any:
        confirmed = tuple((0, token) for _, token in state.confirmed_reads)
        return honest(replace(state, confirmed_reads=confirmed), effects)

    return _serve


@defect("BUG-23, BUG-30", f"{RECOVERY}:recover")
def read_requests_are_numbered_anew_after_a_restart(honest: Any) -> Any:
    """The answer to a question of before the restart is taken for the answer to one of now."""
    return lambda **known: replace(honest(**known), next_request=1)


@defect("BUG-24, BUG-28", f"{READS}:_may_answer_at_once")
def a_leader_reads_without_asking(honest: Any) -> Any:
    """Whoever believes to lead answers reads."""
    return lambda state, role, pending, moment: True


@defect("BUG-25, BUG-27", f"{READS}:_may_answer_at_once")
def a_quorum_that_was_heard_lately_is_enough(honest: Any) -> Any:
    """A leader that does not yet have to step down answers reads."""

    def _may_answer_at_once(state: Any, role: Any, pending: Any, moment: Any) -> bool:
        horizon = moment.now - state.settings.max_election_timeout
        heard = {name for name, one in role.progress.items() if one.heard_at > horizon}
        return has_quorum(state.configuration, heard | {state.name})

    return _may_answer_at_once


@defect("BUG-27, BUG-28", f"{READS}:_start_round")
def an_older_round_confirms_a_read(honest: Any) -> Any:
    """Heartbeats that left before the read was asked confirm it."""

    def _start_round(state: Any, role: Any, moment: Any) -> Any:
        after, effects = honest(state, role, moment)
        reading = replace(after.role.reading, number=role.round)
        return Transition(replace(after, role=replace(after.role, reading=reading)), effects)

    return _start_round


@defect("BUG-28", f"{READS}:on_read_index_reply")
def an_answer_is_good_for_later_questions(honest: Any) -> Any:
    """The answer to one read of a follower is used for those that were asked after it."""

    def on_read_index_reply(state: Any, message: Any) -> Any:
        newest = max((number for number, _ in state.forwarded), default=0)
        return honest(state, replace(message, request=max(newest, message.request)))

    return on_read_index_reply


@defect("BUG-28", f"{FOLLOWER}:refuse_outdated")
def a_refusal_confirms_a_round(honest: Any) -> Any:
    """The refusal of an older term copies the round of the message, as if it were of this term."""

    def refuse_outdated(state: Any, message: Any) -> Transition:
        after, (send,) = honest(state, message)
        return Transition(after, (replace(send, message=replace(send.message, round=message.round)),))

    return refuse_outdated


@defect("BUG-28", f"{LEADER}:on_append_entries_reply")
def any_answer_confirms_the_newest_round(honest: Any) -> Any:
    """Whatever a follower answers, it is taken to have heard of the round under way."""

    def on_append_entries_reply(state: Any, reply: Any, moment: Any) -> Any:
        round_ = state.role.round if isinstance(state.role, Leader) else 0
        return honest(state, replace(reply, round=round_), moment)

    return on_append_entries_reply


@defect("BUG-28, BUG-30", f"{READS}:_enqueue")
def a_read_joins_the_round_under_way(honest: Any) -> Any:
    """A read does not wait for the next round, although something may have been committed since this one left."""

    def _enqueue(state: Any, role: Any, pending: Any, moment: Any) -> Any:
        if role.reading is None:
            return honest(state, role, pending, moment)
        reading = replace(role.reading, reads=(*role.reading.reads, pending))
        return Transition(replace(state, role=replace(role, reading=reading)))

    return _enqueue


@defect("BUG-24", f"{READS}:on_read_index")
def whoever_is_asked_names_an_index(honest: Any) -> Any:
    """A peer that leads no more names its commit index to followers that did not hear of it yet."""

    def on_read_index(state: Any, message: Any, moment: Any) -> Any:
        if isinstance(state.role, Leader):
            return honest(state, message, moment)
        return Transition(state, (_reply(state, message.sender, message.request, state.commit_index),))

    return on_read_index


@defect("BUG-24", "raft_actors.behaviours.transition:_turn_away_read")
def reads_of_a_deposed_leader_are_answered(honest: Any) -> Any:
    """Reads that waited for a round are answered with what is there when their leader is deposed."""

    def _turn_away_read(state: Any, read: Any) -> Any:
        if not read.peer:
            return ServeReads(read.token, state.handed)
        late = honest(state, read)
        return Send(late.to, replace(late.message, index=state.commit_index))

    return _turn_away_read
