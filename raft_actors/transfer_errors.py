"""What a caller is told when leadership was not handed to the peer that it wanted."""

from __future__ import annotations

from raft_actors.errors import (
    ElectionInProgress,
    InvalidConfiguration,
    NotApplied,
    NotLeader,
    OutcomeUnknown,
    RaftError,
    Refused,
    Timeout,
    UnknownPeer,
)
from raft_actors.protocol.effects import TransferAnswer, TransferRefusal

__all__ = ["transfer_error"]

LOOK = "look at raft_actors.leader(peer), and call again if another peer is to lead"
RETRY = "it is safe to call again"


def transfer_error(asked: str, answer: TransferAnswer) -> RaftError:
    """The error for a hand-over that failed: it names the peer, and says who leads.

    Args:
        asked: the peer that led, or was believed to.
        answer: what became of the request.
    """
    peer, leader = answer.peer, answer.leader
    match answer.refusal:
        case TransferRefusal.NOT_LEADER:
            return NotLeader(leader or "", f"peer {asked!r} does not lead")
        case TransferRefusal.UNKNOWN:
            return UnknownPeer(
                peer, f"peer {peer!r} is no member of the cluster", advice="configuration(peer) names the members"
            )
        case TransferRefusal.LEARNER:
            return InvalidConfiguration(
                f"peer {peer!r} is a learner and cannot lead", advice="name a voter; configuration(peer) names them"
            )
        case TransferRefusal.LEADS:
            return Refused(f"peer {peer!r} leads already", advice="nothing is to be done")
        case TransferRefusal.ALONE:
            return Refused(f"peer {peer!r} is the only voter: nobody else can lead", advice="add a peer first")
        case _:
            return _failed(asked, answer) if leader == asked else _left(asked, answer)


def _failed(asked: str, answer: TransferAnswer) -> RaftError:
    """The old leader leads on."""
    peer, on = answer.peer, f"{asked!r} leads on"
    match answer.refusal:
        case TransferRefusal.UNDER_WAY:
            to = f"to {peer!r} " if peer else ""
            return ElectionInProgress(f"peer {asked!r} is handing leadership over {to}already", advice=LOOK)
        case TransferRefusal.LOST_STATE:
            return NotApplied(
                f"peer {peer!r} has lost its state and cannot lead before the leader has sent it a snapshot; {on}",
                advice="call again when status(peer).snapshot_index is not 0",
            )
        case TransferRefusal.NOBODY:
            return NotApplied(f"no other voter answers, or all have lost their state; {on}", advice=RETRY)
        case TransferRefusal.SILENT:
            return UnknownPeer(
                peer, f"peer {peer!r} does not answer the leader; {on}", advice="start it, or name another"
            )
        case TransferRefusal.BEHIND:
            return NotApplied(f"peer {peer!r} did not catch up with the leader in time; {on}", advice=RETRY)
        case _:
            return OutcomeUnknown(
                f"peer {peer!r} was told to stand for election, and was not elected in time; {on}", advice=LOOK
            )


def _left(asked: str, answer: TransferAnswer) -> RaftError:
    """The old leader leads no more, and not the peer that was wanted does."""
    if answer.leader is not None:
        return OutcomeUnknown(
            f"peer {asked!r} leads no more, but {answer.leader!r} was elected, not {answer.peer!r}", advice=LOOK
        )
    return Timeout(f"peer {asked!r} leads no more, and it is not known in time who does", advice=LOOK)
