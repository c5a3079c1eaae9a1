"""Defects of leases: what is promised, for how long, and who believes it (BUG-25 to BUG-27, BUG-33)."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from raft_actors.behaviours.replication import CLOCK_MARGIN
from raft_actors.behaviours.transition import Transition
from raft_actors.protocol.state import LONG_AGO
from tests.simulation.hunting import defect

FOLLOWER = "raft_actors.behaviours.follower"
READS = "raft_actors.behaviours.reads"
RECOVERY = "raft_actors.behaviours.recovery"
REPLICATION = "raft_actors.behaviours.replication"


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


@defect("BUG-25", f"{REPLICATION}:note_reply")
def a_lease_takes_all_clocks_for_equal(honest: Any) -> Any:
    """A leader counts on a promise for as long as it is by its own clock, however fast its voter's clock runs."""

    def note_reply(progress: Any, reply: Any, log_hint: Any, moment: Any) -> Any:
        return honest(progress, replace(reply, promise=reply.promise / CLOCK_MARGIN), log_hint, moment)

    return note_reply


@defect("BUG-25", f"{READS}:_holds_lease")
def a_leader_that_hands_over_keeps_its_lease(honest: Any) -> Any:
    """A leader has asked somebody to stand, whom no promise stops, and goes on reading by its lease."""
    return lambda state, role, moment: honest(state, replace(role, lease_given_up=False), moment)


@defect("BUG-25", f"{FOLLOWER}:refuse_outdated")
def a_refusal_promises_what_nobody_keeps(honest: Any) -> Any:
    """The refusal of an older term promises what only the acceptance of a leader binds the voter to."""

    def refuse_outdated(state: Any, message: Any) -> Transition:
        after, (send,) = honest(state, message)
        promise = state.settings.min_election_timeout if state.settings.lease_reads else 0.0
        return Transition(after, (replace(send, message=replace(send.message, sent=message.sent, promise=promise)),))

    return refuse_outdated


@defect("BUG-25", f"{READS}:_holds_lease", peers=5)
def one_promise_is_a_lease(honest: Any) -> Any:
    """A leader of five reads by its lease while one of them is bound to it."""

    def _holds_lease(state: Any, role: Any, moment: Any) -> bool:
        bound = any(one.promised_until > moment.now for one in role.progress.values())
        return bound and state.settings.lease_reads and not role.lease_given_up

    return _holds_lease
