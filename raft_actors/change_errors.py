"""What a caller is told when a cluster did not get the members that were wanted."""

from __future__ import annotations

from raft_actors.errors import (
    ConfigurationChanged,
    ConfigurationInProgress,
    Incompatible,
    InvalidConfiguration,
    NotLeader,
    OutcomeUnknown,
    RaftError,
    Timeout,
    UnknownPeer,
)
from raft_actors.protocol.effects import ChangeAnswer, ChangeRefusal
from raft_actors.values import Configuration

__all__ = ["change_error"]

NOTHING = "nothing was changed"
START = "start it, or check the spelling of the name"


def change_error(asked: str, answer: ChangeAnswer, current: Configuration) -> RaftError:
    """The error for a change that was refused, or has begun and did not end here: it names the peer.

    Args:
        asked: the peer that led, or was believed to.
        answer: what became of the request.
        current: the configuration there.
    """
    peer = answer.peer
    match answer.refusal:
        case ChangeRefusal.NOT_LEADER:
            return NotLeader(answer.leader or "", f"peer {asked!r} does not lead")
        case ChangeRefusal.IN_PROGRESS:
            return ConfigurationInProgress(f"another change of the configuration is under way, {NOTHING}")
        case ChangeRefusal.CHANGED:
            return ConfigurationChanged(
                f"expected another configuration, the current one has index {current.index}, {NOTHING}"
            )
        case ChangeRefusal.UNKNOWN:
            return UnknownPeer(
                peer,
                f"peer {peer!r} is no member of the cluster, {NOTHING}",
                advice="configuration(peer) names the members",
            )
        case ChangeRefusal.UNREACHABLE:
            return UnknownPeer(peer, f"peer {peer!r} did not answer, {NOTHING}", advice=START)
        case ChangeRefusal.NO_QUORUM:
            return UnknownPeer(
                peer,
                f"peer {peer!r} does not answer, and too few others of the new voters do, {NOTHING}",
                advice="start it, or leave it out: a majority of the new voters must be there",
            )
        case _:
            return _wrong(answer) or _unfinished(asked, answer)


def _wrong(answer: ChangeAnswer) -> RaftError | None:
    """The error for a change that can never be."""
    peer = answer.peer
    match answer.refusal:
        case ChangeRefusal.FOREIGN:
            return Incompatible(
                f"peer {peer!r} belongs to another cluster, {NOTHING}",
                advice="give it an empty data_dir, so that it comes as a new peer, or name another one",
            )
        case ChangeRefusal.VOTES_ALREADY:
            return InvalidConfiguration(
                f"peer {peer!r} is a voter and cannot be made a learner, {NOTHING}",
                advice="call remove_peer first, then add_peer with learner=True",
            )
        case ChangeRefusal.EMPTY:
            return InvalidConfiguration(
                f"peer {peer!r} is the last voter and cannot be removed, {NOTHING}",
                advice="add another peer first, or stop this one",
            )
        case _:
            return None


def _unfinished(asked: str, answer: ChangeAnswer) -> RaftError:
    """The error for a change that has begun."""
    if answer.refusal is ChangeRefusal.GIVEN_UP:
        who = f"peer {answer.peer!r} was not heard" if answer.peer else "too few of the voters were heard"
        return Timeout(
            f"{who} for long, the change of the configuration was given up",
            advice="look at configuration(peer), start what is missing, then call again",
        )
    return OutcomeUnknown(
        f"peer {asked!r} leads no more, its successor may go on with the change of the configuration",
        advice="look at configuration(peer), and call again if the members are not the wanted ones",
    )
