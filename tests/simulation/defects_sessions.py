"""Defects of sessions: what is written twice counts twice, or not at all."""

from __future__ import annotations

from typing import Any

from raft_actors.protocol.sessions import SessionTable, Verdict
from tests.simulation.hunting import defect

ADMIT = "raft_actors.protocol.sessions:SessionTable.admit"


@defect("BUG-40", ADMIT)
def a_repeated_write_is_applied_again(honest: Any) -> Any:
    """There are sessions, and nobody looks into the replies."""

    def admit(self: Any, write: Any, time: float) -> Any:
        verdict = honest(self, write, time)
        return Verdict.APPLY if isinstance(verdict, tuple) else verdict

    return admit


@defect("BUG-40", ADMIT)
def a_write_whose_reply_was_let_go_is_applied_again(honest: Any) -> Any:
    """A late duplicate comes when the client has its reply already."""

    def admit(self: Any, write: Any, time: float) -> Any:
        verdict = honest(self, write, time)
        return Verdict.APPLY if verdict is Verdict.EXPIRED and write.session in self._sessions else verdict

    return admit


@defect("BUG-40", ADMIT)
def only_the_highest_number_is_remembered(honest: Any) -> Any:
    """One number for each session, as if a client had one write under way: what was overtaken seems done."""

    def admit(self: Any, write: Any, time: float) -> Any:
        verdict = honest(self, write, time)
        replies = getattr(self._sessions.get(write.session), "replies", {})
        highest = max(replies, default=0)
        return (replies[highest],) if verdict is Verdict.APPLY and write.sequence < highest else verdict

    return admit


@defect("BUG-40", "raft_actors.protocol.sessions:SessionTable.copy")
def sessions_are_not_in_snapshots(honest: Any) -> Any:
    """Whoever starts from a snapshot knows no session."""
    return lambda self: SessionTable()


@defect("BUG-40", "raft_actors.protocol.sessions:SessionTable._settle")
def a_reply_is_let_go_before_its_client_has_it(honest: Any) -> Any:
    """A session is evicted in part: two replies are kept."""

    def settle(session: Any, settled: int) -> None:
        honest(session, settled)
        while len(session.replies) > 2:
            del session.replies[next(iter(session.replies))]

    return staticmethod(settle)


@defect("own", ADMIT)
def writes_of_a_client_overtake_each_other(honest: Any) -> Any:
    """The write that it follows was lost on the way; it is applied all the same."""

    def admit(self: Any, write: Any, time: float) -> Any:
        verdict = honest(self, write, time)
        return Verdict.APPLY if verdict is Verdict.EARLY else verdict

    return admit


@defect("own", ADMIT)
def a_session_ends_by_what_one_replica_has_seen(honest: Any) -> Any:
    """Each replica counts how often it was asked, since its start, and forgets the session after that."""

    def admit(self: Any, write: Any, time: float) -> Any:
        self.asked = getattr(self, "asked", 0) + 1
        if self.asked % 50 == 0:
            self._sessions.pop(write.session, None)
        return honest(self, write, time)

    return admit
