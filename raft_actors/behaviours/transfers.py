"""A caller wants another peer to lead.

::

    TransferRequested --refused--> TransferAnswer: nothing was done
        | target within reach of the log in memory (writes go on until then)
        v
    handed over (``handover``) --not elected, or down, or too late--> TransferAnswer: the old leader leads on
        |
        v
    somebody leads a newer term --> TransferAnswer: done, or another one won

The caller is kept in the state of the peer, not of its role: what it waits for becomes known only when this peer leads
no more. The hand-over itself is gone with the term.

Thesis: §3.10.
"""

from __future__ import annotations

from msgspec.structs import replace

from raft_actors.behaviours.handover import begin_transfer, is_able, successor
from raft_actors.behaviours.transition import Outcome, other_voters
from raft_actors.protocol.effects import TransferAnswer, TransferRefusal
from raft_actors.protocol.events import TransferRequested
from raft_actors.protocol.progress import ProgressState
from raft_actors.protocol.state import NEVER, Handing, Leader, PeerState, Transfer
from raft_actors.protocol.types import Moment

__all__ = ["request", "settle"]


def request(state: PeerState, event: TransferRequested, moment: Moment) -> Outcome:
    """A caller asks for it: refuse what cannot be; ``settle`` does the rest, at the end of this very step."""
    role = state.role
    if not isinstance(role, Leader):
        leader = state.leader if state.leader != state.name else None
        return state, (TransferAnswer(event.token, TransferRefusal.NOT_LEADER, "", leader),)
    refused = _why_not(state, role, event.target, moment)
    if refused is not None:
        return state, (TransferAnswer(event.token, *refused, state.name),)
    handing = Handing(event.token, event.target, moment.now + event.timeout, state.term)
    role = replace(role, lease_given_up=True)  # from before the step in which the target may be told to stand
    return replace(state, handing=handing, role=role), ()


def _why_not(state: PeerState, role: Leader, target: str | None, moment: Moment) -> tuple[TransferRefusal, str] | None:
    """What is wrong with the request, and the peer that it is about."""
    if target == state.name:
        return TransferRefusal.LEADS, state.name
    if target is not None and target not in state.configuration.members():
        return TransferRefusal.UNKNOWN, target
    if target is not None and not state.configuration.is_voter(target):
        return TransferRefusal.LEARNER, target
    if not other_voters(state):
        return TransferRefusal.ALONE, state.name
    if role.transfer is not None or state.handing is not None or state.stopping != NEVER:
        return TransferRefusal.UNDER_WAY, _recipient(state, role)
    if target is None:
        return None if successor(state, role, moment) else (TransferRefusal.NOBODY, "")
    return _why_unable(state, role, target, moment)


def _recipient(state: PeerState, role: Leader) -> str:
    """To whom leadership is being handed over already, as far as that is decided."""
    if role.transfer is not None:
        return role.transfer.target
    return (state.handing.target if state.handing is not None else None) or ""


def _why_unable(state: PeerState, role: Leader, target: str, moment: Moment) -> tuple[TransferRefusal, str] | None:
    progress = role.progress.get(target)
    if progress is None or not state.configuration.is_voter(target):
        return TransferRefusal.UNKNOWN, target
    if is_able(state, progress, moment):
        return None
    return TransferRefusal.LOST_STATE if progress.lost else TransferRefusal.SILENT, target


def settle(state: PeerState, moment: Moment) -> Outcome:
    """Go on with what a caller waits for, and tell it how it ended. Runs at the end of every step while one waits."""
    handing, role = state.handing, state.role
    if handing is None:
        return state, ()
    if isinstance(role, Leader) and state.term == handing.term:
        if role.transfer is None:
            return _hand_on(state, role, handing, moment)
        return _under_way(state, role.transfer, handing, moment)
    if state.leader is not None:
        return _end(state, handing, _outcome(state, handing))
    if moment.now < handing.deadline:
        return state, ()
    return _end(state, handing, TransferRefusal.NO_LEADER)


def _under_way(state: PeerState, transfer: Transfer, handing: Handing, moment: Moment) -> Outcome:
    """A hand-over is under way: ours, or that of a stop, which may have turned to another peer and has its own time."""
    if transfer.sent and not handing.sent:
        handing = replace(handing, sent=True)
        state = replace(state, handing=handing)
    return (state, ()) if moment.now < handing.deadline else _end(state, handing, _late(handing))


def _late(handing: Handing) -> TransferRefusal:
    return TransferRefusal.NOT_ELECTED if handing.sent else TransferRefusal.BEHIND


def _outcome(state: PeerState, handing: Handing) -> TransferRefusal | None:
    """Somebody leads a newer term: whoever it is, if the caller named nobody."""
    if state.leader == state.name:
        return TransferRefusal.NOT_ELECTED
    return None if handing.target in (None, state.leader) else TransferRefusal.OTHER


def _end(state: PeerState, handing: Handing, refusal: TransferRefusal | None, peer: str = "") -> Outcome:
    peer = peer or handing.target or (handing.tried[-1] if handing.tried else "")
    answer = TransferAnswer(handing.token, refusal, peer, state.leader)
    return replace(state, handing=None), (answer,)


def _hand_on(state: PeerState, role: Leader, handing: Handing, moment: Moment) -> Outcome:
    """No hand-over is under way: begin with the target once it is near, or with the next one, or give up."""
    target = handing.target or successor(state, role, moment, handing.tried)
    if target is None or target in handing.tried:
        return _end(state, handing, _why_failed(state, role, handing, moment))
    unable = _why_unable(state, role, target, moment)
    if unable is not None:
        return _end(state, handing, *unable)
    if moment.now >= handing.deadline:
        return _end(state, handing, _late(handing), target)
    if role.progress[target].state is not ProgressState.REPLICATE:
        return state, ()
    return _begin(state, role, handing, target, moment)


def _begin(state: PeerState, role: Leader, handing: Handing, target: str, moment: Moment) -> Outcome:
    """Hand over. Until that is done, writes are turned away: an election timeout has to do for it."""
    transfer = Transfer(target, min(handing.deadline, moment.now + state.settings.max_election_timeout))
    state, told = begin_transfer(state, role, transfer)
    handing = replace(handing, tried=(*handing.tried, target), sent=handing.sent or bool(told))
    return replace(state, handing=handing), told


def _why_failed(state: PeerState, role: Leader, handing: Handing, moment: Moment) -> TransferRefusal:
    if handing.sent:
        return TransferRefusal.NOT_ELECTED
    if not handing.tried:
        return TransferRefusal.NOBODY
    unable = _why_unable(state, role, handing.tried[-1], moment)
    return unable[0] if unable is not None else TransferRefusal.BEHIND
