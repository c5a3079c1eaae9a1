"""Defects of reads and of leases (BUG-22 to BUG-30)."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from raft_actors.behaviours.transition import Transition
from raft_actors.protocol.configuration import has_quorum
from raft_actors.protocol.state import LONG_AGO
from tests.simulation.hunting import defect

FOLLOWER = "raft_actors.behaviours.follower"
READS = "raft_actors.behaviours.reads"
RECOVERY = "raft_actors.behaviours.recovery"
REPLICATION = "raft_actors.behaviours.replication"


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


@defect("BUG-25, BUG-26", f"{REPLICATION}:note_reply")
def a_lease_begins_when_the_answer_comes(honest: Any) -> Any:
    """A lease is reckoned from the arrival of an acknowledgement, not from the departure of what it acknowledges."""

    def note_reply(progress: Any, reply: Any, log_hint: Any, moment: Any) -> Any:
        return honest(progress, replace(reply, sent=moment.now), log_hint, moment)

    return note_reply


@defect("BUG-25, BUG-27", f"{READS}:_holds_lease")
def a_lease_lasts_as_long_as_the_leadership(honest: Any) -> Any:
    """A quorum that answered once is a lease."""

    def _holds_lease(state: Any, role: Any, moment: Any) -> Any:
        loyal = sum(one.promised_until > 0 for one in role.progress.values())
        return state.settings.lease_reads and 2 * (loyal + 1) > len(state.configuration.voters)

    return _holds_lease


@defect("BUG-25", f"{RECOVERY}:recover")
def a_promise_of_a_lease_does_not_outlive_a_restart(honest: Any) -> Any:
    """A restarted voter has forgotten that it promised to elect nobody."""
    return lambda **known: replace(honest(**known), no_vote_until=LONG_AGO)


@defect("BUG-25, BUG-33", "raft_actors.behaviours.voting:hears_a_leader")
def a_promise_of_a_lease_is_not_kept(honest: Any) -> Any:
    """Voters elect somebody else while they hear their leader."""
    return lambda state, moment: False


@defect("BUG-25, BUG-26", f"{FOLLOWER}:on_leader_down")
def a_lost_connection_ends_a_promise(honest: Any) -> Any:
    """A leader whose connection broke is taken for dead, lease and all."""
    return lambda state, moment: honest(replace(state, no_vote_until=LONG_AGO), moment)
