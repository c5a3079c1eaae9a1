"""Forming a cluster of unconfigured peers, once.

::

    coordinator                    every other named peer
        | FormCluster(proposal) ------> | free: keeps itself free for this proposal for a while
        | <----- free, incarnation ---- |   (in memory only)
        | all are free: configuration entry 1 of term 1, cluster id = proposal; on disk; stands for election
        | RequestVote, AppendEntries of that cluster -> | joins it: the first thing that it stores

Who asks for one cluster has given up any other that it asked for before, also if it was restarted in between.
Nothing is stored anywhere until all have answered, so a refusal leaves no trace. Of two coordinators that meet, the
lower name goes on, and asks again who kept itself free for the other. A peer that is free for one proposal answers no
other until its time is up or it is let go, and the coordinator's time is up before that of anybody who answered it. The
configuration names each member's incarnation, so a store that was wiped in between is not the member that answered.

Thesis: §4.4 discusses bootstrapping; the danger is BUG-69 (two clusters that later merge).
"""

from __future__ import annotations

from msgspec.structs import replace

from raft_actors.behaviours.candidate import campaign
from raft_actors.behaviours.transition import Outcome
from raft_actors.protocol.configuration import Configuration, Member, encode
from raft_actors.protocol.effects import ClusterRefused, Effect, Persist, Refusal, Send
from raft_actors.protocol.entry import Entry, EntryKind
from raft_actors.protocol.events import ClusterRequested
from raft_actors.protocol.messages import FormCluster, FormClusterReply
from raft_actors.protocol.state import Forming, PeerState, Reserved
from raft_actors.protocol.types import Ballot, Moment

__all__ = ["on_form_cluster", "on_form_cluster_reply", "on_formation_tick", "request"]

RETRY = 0.1
"""Seconds after which a peer that did not answer is asked again."""
MARGIN = 1.0
"""Seconds for which a peer stays free beyond the coordinator's own deadline."""


def request(state: PeerState, event: ClusterRequested, moment: Moment) -> Outcome:
    """A caller wants a cluster: ask every named peer whether it is free."""
    refused = _refuse_caller(state, event, moment)
    if refused is not None:
        return state, (refused,)
    forming = Forming(
        event.token,
        event.proposal,
        event.names,
        {state.name: Member(state.name, state.incarnation, state.address)},
        moment.now + event.timeout,
        moment.now + RETRY,
    )
    return _ask_or_form(replace(state, formation=forming), forming, moment)


def _refuse_caller(state: PeerState, event: ClusterRequested, moment: Moment) -> ClusterRefused | None:
    if state.cluster:
        return ClusterRefused(event.token, Refusal.CONFIGURED, state.name, state.configuration)
    if state.name not in event.names:
        return ClusterRefused(event.token, Refusal.NOT_A_MEMBER, state.name)
    if state.formation is not None and moment.now < state.formation.deadline:
        return ClusterRefused(event.token, Refusal.FORMING, state.name)
    return None


def _ask_or_form(state: PeerState, forming: Forming, moment: Moment) -> Outcome:
    missing = [name for name in forming.names if name not in forming.free]
    if not missing:
        return _form(state, forming, moment)
    until = forming.deadline - moment.now + MARGIN
    return state, tuple(_ask(state, forming, name, until) for name in missing)


def _ask(state: PeerState, forming: Forming, name: str, until: float) -> Send:
    free = forming.free.get(name)
    message = FormCluster(
        cluster="",
        sender=state.name,
        incarnation=state.incarnation,
        receiver=free.incarnation if free is not None else "",
        term=state.term,
        proposal=forming.proposal,
        names=forming.names,
        until=until,
    )
    return Send(name, message)


def _form(state: PeerState, forming: Forming, moment: Moment) -> Outcome:
    """All are free: the configuration is the first entry of the new cluster's log. Stand for election at once."""
    members = tuple(forming.free[name] for name in forming.names)
    configuration = Configuration(voters=members)
    entry = Entry(1, 1, EntryKind.CONFIGURATION, moment.wall, encode(configuration))
    state = replace(
        state,
        cluster=forming.proposal,
        ballot=Ballot(1, None),
        log=state.log.append((entry,)),
        time=entry.time,
        configurations=((1, configuration),),
        formation=None,
        formed=forming.token,
    )
    state, effects = campaign(state, moment)
    return state, (Persist(entries=(entry,)), *effects)


def on_form_cluster(state: PeerState, message: FormCluster, moment: Moment) -> Outcome:
    """Somebody wants us in a new cluster: say whether we are free, and keep free if so."""
    if message.until <= 0:
        return _withdraw(state, message)
    if state.cluster:
        return _answer(state, message, "configured")
    if bootstrap_differs(state, message):
        return _answer(state, message, "different")
    formation = state.formation
    effects: tuple[Effect, ...] = ()
    if formation is not None and not _may_change(formation, message) and moment.now < formation.deadline:
        if not isinstance(formation, Forming) or message.sender > state.name:
            return _answer(state, message, "forming")
        state, effects = _give_up(state, formation, Refusal.FORMING, message.sender)
    state = replace(state, formation=Reserved(message.proposal, moment.now + message.until, message.incarnation))
    state, answered = _answer(state, message, "")
    return state, effects + answered


def _may_change(formation: Forming | Reserved, message: FormCluster) -> bool:
    """Whether we are free for this proposal as well: the one who asks has given its earlier one up, by asking anew."""
    again = isinstance(formation, Reserved) and formation.by == message.incarnation
    return again or formation.proposal == message.proposal


def _withdraw(state: PeerState, message: FormCluster) -> Outcome:
    formation = state.formation
    if isinstance(formation, Reserved) and formation.proposal == message.proposal:
        state = replace(state, formation=None)
    return state, ()


def _answer(state: PeerState, message: FormCluster, refusal: str) -> Outcome:
    reply = FormClusterReply(
        cluster=state.cluster,
        sender=state.name,
        incarnation=state.incarnation,
        receiver=message.incarnation,
        term=state.term,
        proposal=message.proposal,
        refusal=refusal,
        configuration=state.configuration if refusal == "configured" else None,
        address=state.address,
    )
    return state, (Send(message.sender, reply),)


def on_form_cluster_reply(state: PeerState, reply: FormClusterReply, moment: Moment) -> Outcome:
    """Another peer is free, or is not.

    Who keeps itself free for somebody else is asked again until our time is up: that other attempt may give way to
    ours, and if both gave up at the first refusal, nobody would form anything.
    """
    forming = state.formation
    if not isinstance(forming, Forming) or forming.proposal != reply.proposal or moment.now >= forming.deadline:
        return _let_go(state, reply)
    if reply.sender not in forming.names:
        return state, ()
    if reply.refusal == "different":
        return _give_up(_warned(state, reply.sender), forming, Refusal.DIFFERENT, reply.sender)
    if reply.refusal == "configured":
        return _give_up(state, forming, Refusal.CONFIGURED, reply.sender, reply.configuration)
    if reply.refusal:
        return replace(state, formation=replace(forming, busy=forming.busy | {reply.sender})), ()
    known = forming.free.get(reply.sender)
    if known is not None and known.incarnation != reply.incarnation:
        return _give_up(state, forming, Refusal.FORMING, reply.sender)
    free = Member(reply.sender, reply.incarnation, reply.address)
    forming = replace(forming, free={**forming.free, reply.sender: free})
    state = replace(state, formation=forming)
    if any(name not in forming.free for name in forming.names):
        return state, ()
    return _form(state, forming, moment)


def bootstrap_differs(state: PeerState, message: FormCluster) -> bool:
    """Whether we look for other peers than the sender wants in its cluster."""
    bootstrap = state.bootstrap
    return bootstrap is not None and set(bootstrap.names) != set(message.names)


def _warned(state: PeerState, peer: str) -> PeerState:
    bootstrap = state.bootstrap
    return state if bootstrap is None else replace(state, bootstrap=replace(bootstrap, refused=peer))


def _let_go(state: PeerState, reply: FormClusterReply) -> Outcome:
    """Free for an attempt that is over: nobody has to keep itself free for it any longer."""
    if reply.refusal or reply.proposal == state.cluster:
        return state, ()
    message = FormCluster(
        cluster="",
        sender=state.name,
        incarnation=state.incarnation,
        receiver=reply.incarnation,
        term=state.term,
        proposal=reply.proposal,
        names=(),
        until=0.0,
    )
    return state, (Send(reply.sender, message),)


def _give_up(
    state: PeerState, forming: Forming, refusal: Refusal, peer: str, configuration: Configuration | None = None
) -> Outcome:
    """Tell the caller, and let go those who keep themselves free for us."""
    withdrawn = tuple(_ask(state, forming, name, 0.0) for name in forming.free if name != state.name)
    refused = ClusterRefused(forming.token, refusal, peer, configuration)
    return replace(state, formation=None), (refused, *withdrawn)


def on_formation_tick(state: PeerState, moment: Moment) -> Outcome:
    """Ask again who did not answer; give up when the time is over."""
    formation = state.formation
    if isinstance(formation, Reserved) and moment.now >= formation.deadline:
        return replace(state, formation=None), ()
    if not isinstance(formation, Forming):
        return state, ()
    if moment.now >= formation.deadline:
        missing = next(name for name in formation.names if name not in formation.free)
        refusal = Refusal.FORMING if missing in formation.busy else Refusal.UNREACHABLE
        return _give_up(state, formation, refusal, missing)
    if moment.now < formation.retry:
        return state, ()
    formation = replace(formation, retry=moment.now + RETRY)
    effects: tuple[Effect, ...]
    state, effects = _ask_or_form(replace(state, formation=formation), formation, moment)
    return state, effects
