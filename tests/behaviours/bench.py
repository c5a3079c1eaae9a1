"""Peers on a bench: states and messages built by hand, one step at a time.

``s1``, ``s2`` and ``s3`` form the usual cluster. Entry 1 of every log is their configuration, the others are commands.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from msgspec.structs import replace

from raft_actors.behaviours.deadlines import next_deadline
from raft_actors.behaviours.step import Transition, step
from raft_actors.protocol import effects as fx
from raft_actors.protocol import messages as ms
from raft_actors.protocol.configuration import Configuration, Member, encode
from raft_actors.protocol.entry import Entry, EntryKind
from raft_actors.protocol.events import Event, Persisted, Received, Tick
from raft_actors.protocol.log import Log
from raft_actors.protocol.progress import Progress, ProgressState
from raft_actors.protocol.snapshot import Snapshot
from raft_actors.protocol.state import Candidate, Follower, Leader, PeerState, PreCandidate
from raft_actors.protocol.types import NOWHERE, Ballot, LogPosition, Moment, Settings

CLUSTER = "cluster-1"
NOW = 1000.0
"""The time on the bench; peers of a cluster heard their leader at this moment."""

FIRST = LogPosition(1, 1)
"""The end of the shortest log on the bench."""

E = TypeVar("E")


def store(name: str) -> str:
    """The incarnation of a peer's store."""
    return f"{name}'s store"


def configuration(*names: str) -> Configuration:
    return Configuration(voters=tuple(Member(name, store(name)) for name in names))


THREE = configuration("s1", "s2", "s3")


def at(now: float = NOW, jitter: float = 0.5) -> Moment:
    return Moment(now=now, wall=now, jitter=jitter)


def entry(index: int, term: int, data: bytes | None = None) -> Entry:
    return Entry(index, term, EntryKind.COMMAND, 0.0, b"c%d" % index if data is None else data)


def entries(first: int, *terms: int) -> tuple[Entry, ...]:
    return tuple(entry(index, term) for index, term in enumerate(terms, first))


def log_of(terms: Sequence[int], members: Configuration = THREE, durable: int | None = None) -> Log:
    """A log with an entry of each of ``terms``, the first being the configuration."""
    if not terms:
        return Log()
    first = Entry(1, terms[0], EntryKind.CONFIGURATION, 0.0, encode(members))
    log = Log().append((first, *entries(2, *terms[1:])))
    return replace(log, durable=len(terms) if durable is None else durable)


def peer(
    name: str = "s1",
    *,
    terms: Sequence[int] = (1,),
    term: int | None = None,
    voted_for: str | None = None,
    members: Configuration = THREE,
    durable: int | None = None,
    commit: int = 0,
    settings: Settings | None = None,
    **more: Any,
) -> PeerState:
    """A follower that knows no leader; everything committed was handed to its machine and applied."""
    newest = terms[-1] if terms else 0
    return PeerState(
        name=name,
        incarnation=store(name),
        settings=settings or Settings(),
        ballot=Ballot(newest if term is None else term, voted_for),
        log=log_of(terms, members, durable),
        configurations=((1, members),) if terms else (),
        **{
            "cluster": CLUSTER,
            "commit_index": commit,
            "handed": commit,
            "last_applied": commit,
            "role": Follower(NOW + 0.45),
            **more,
        },
    )


def unconfigured(name: str = "s1", **more: Any) -> PeerState:
    """A peer of no cluster, with an empty store."""
    return peer(name, terms=(), **{"cluster": "", "role": Follower(), **more})


def following(leader: str = "s2", name: str = "s1", **more: Any) -> PeerState:
    """A follower that heard ``leader`` right now."""
    return peer(name, **{"leader": leader, "heard_at": NOW, **more})


def pre_candidate(name: str = "s1", votes: Iterable[str] | None = None, **more: Any) -> PeerState:
    role = PreCandidate(frozenset(votes or {name}), frozenset(), NOW + 0.45)
    return peer(name, **{"role": role, **more})


def candidate(name: str = "s1", votes: Iterable[str] | None = None, **more: Any) -> PeerState:
    """A candidate in term 2, with its own ballot on disk."""
    role = Candidate(frozenset({name} if votes is None else votes), frozenset(), NOW + 0.45)
    return peer(name, **{"role": role, "term": 2, "voted_for": name, **more})


def leader(
    name: str = "s1",
    *,
    terms: Sequence[int] = (1, 2),
    match: dict[str, int] | None = None,
    first_index: int | None = None,
    members: Configuration = THREE,
    role: dict[str, Any] | None = None,
    **more: Any,
) -> PeerState:
    """A leader of its newest entry's term that pipelines to everybody; ``match``: what the others have."""
    last = len(terms)
    match = match or {}
    progress = {
        other: Progress(
            next_index=last + 1,
            match_index=match.get(other, last),
            state=ProgressState.REPLICATE,
            heard_at=NOW,
        )
        for other in members.members()
        if other != name
    }
    first = first_index if first_index is not None else list(terms).index(terms[-1]) + 1
    data = Leader(progress=progress, first_index=first, heartbeat_deadline=NOW + 0.05, quorum_deadline=NOW + 0.3)
    return peer(
        name,
        terms=terms,
        members=members,
        **{
            "voted_for": name,
            "leader": name,
            "heard_at": NOW,
            "commit": last,
            "role": replace(data, **(role or {})),
            **more,
        },
    )


def leading(state: PeerState) -> Leader:
    assert isinstance(state.role, Leader), f"{state.name} is {type(state.role).__name__}"
    return state.role


# -- messages from another peer to "s1" --------------------------------------------------------------------------------


def _header(sender: str, term: int, to: str) -> dict[str, Any]:
    return {
        "cluster": CLUSTER,
        "sender": sender,
        "incarnation": store(sender),
        "receiver": store(to),
        "term": term,
    }


def pre_vote(sender: str, term: int, last: LogPosition = FIRST, to: str = "s1") -> ms.PreVote:
    return ms.PreVote(**_header(sender, term, to), last=last)


def pre_vote_reply(sender: str, term: int, *, granted: bool, to: str = "s1") -> ms.PreVoteReply:
    return ms.PreVoteReply(**_header(sender, term, to), granted=granted)


def request_vote(
    sender: str, term: int, last: LogPosition = FIRST, *, transfer: bool = False, to: str = "s1"
) -> ms.RequestVote:
    return ms.RequestVote(**_header(sender, term, to), last=last, transfer=transfer)


def vote(sender: str, term: int, *, granted: bool = True, to: str = "s1") -> ms.RequestVoteReply:
    return ms.RequestVoteReply(**_header(sender, term, to), granted=granted)


def append(
    sender: str,
    term: int,
    previous: LogPosition = NOWHERE,
    new: tuple[Entry, ...] = (),
    *,
    commit: int = 0,
    number: int = 0,
    sent: float = NOW,
    to: str = "s1",
) -> ms.AppendEntries:
    return ms.AppendEntries(
        **_header(sender, term, to), previous=previous, entries=new, commit_index=commit, round=number, sent=sent
    )


def ack(sender: str, term: int, match: int, *, number: int = 0, to: str = "s1", **more: Any) -> ms.AppendEntriesReply:
    return ms.AppendEntriesReply(
        **_header(sender, term, to),
        **{"success": True, "match_index": match, "previous": match, "round": number, "sent": NOW, **more},
    )


def nack(
    sender: str, term: int, previous: int, hint: LogPosition = NOWHERE, *, number: int = 0, to: str = "s1"
) -> ms.AppendEntriesReply:
    return ms.AppendEntriesReply(**_header(sender, term, to), success=False, previous=previous, hint=hint, round=number)


def timeout_now(sender: str, term: int, to: str = "s1") -> ms.TimeoutNow:
    return ms.TimeoutNow(**_header(sender, term, to))


def read_index(sender: str, term: int, request: int = 1, to: str = "s1") -> ms.ReadIndex:
    return ms.ReadIndex(**_header(sender, term, to), request=request)


def read_index_reply(sender: str, term: int, request: int, index: int | None, to: str = "s1") -> ms.ReadIndexReply:
    return ms.ReadIndexReply(**_header(sender, term, to), request=request, index=index)


def form_cluster(sender: str, proposal: str, *names: str, until: float = 5.0, to: str = "") -> ms.FormCluster:
    header = {**_header(sender, 0, to), "cluster": "", "receiver": store(to) if to else ""}
    return ms.FormCluster(**header, proposal=proposal, names=names, until=until)


def introduce(sender: str, term: int) -> ms.Introduce:
    return ms.Introduce(**{**_header(sender, term, "s1"), "receiver": ""})


def introduce_reply(sender: str, term: int, **more: Any) -> ms.IntroduceReply:
    return ms.IntroduceReply(**{**_header(sender, term, "s1"), **more})


def join(sender: str, term: int, **more: Any) -> ms.Join:
    return ms.Join(**{**_header(sender, term, "s1"), "receiver": "", **more})


def join_reply(sender: str, term: int, refusal: ms.JoinRefusal = ms.JoinRefusal.ACCEPTED, **more: Any) -> ms.JoinReply:
    return ms.JoinReply(**_header(sender, term, "s1"), refusal=refusal, **more)


def removed(sender: str, term: int, index: int, commit: LogPosition = NOWHERE) -> ms.Removed:
    return ms.Removed(**_header(sender, term, "s1"), index=index, commit=commit)


def form_cluster_reply(sender: str, proposal: str, refusal: str = "", **more: Any) -> ms.FormClusterReply:
    header = {**_header(sender, 0, "s1"), "cluster": ""}
    return ms.FormClusterReply(**{**header, "proposal": proposal, "refusal": refusal, **more})


def snapshot(last: LogPosition, name: str = "", **more: Any) -> Snapshot:
    """A snapshot of ten bytes, by ``s2`` unless it is named."""
    return Snapshot(
        **{
            "id": name or f"s2-{last.index}",
            "last": last,
            "time": float(last.index),
            "configuration_index": 1,
            "configuration": THREE,
            "size": 10,
            **more,
        }
    )


def piece(
    sender: str,
    term: int,
    last: LogPosition,
    offset: int = 0,
    data: bytes = b"12345",
    *,
    name: str = "",
    to: str = "s1",
) -> ms.InstallSnapshot:
    """A piece of ``snapshot(last, name)``."""
    whole = snapshot(last, name)
    return ms.InstallSnapshot(
        **_header(sender, term, to), id=whole.id, last=last, size=whole.size, offset=offset, data=data
    )


def piece_reply(
    sender: str, term: int, offset: int, received: int, match: int = 0, *, name: str = "s1-1", to: str = "s1"
) -> ms.InstallSnapshotReply:
    return ms.InstallSnapshotReply(
        **_header(sender, term, to), id=name, offset=offset, received=received, match_index=match
    )


# -- steps -------------------------------------------------------------------------------------------------------------


def take(state: PeerState, event: Event | ms.Message, moment: Moment | None = None) -> Transition:
    """One step; a message needs no ``Received`` around it."""
    if isinstance(event, ms.Header):
        event = Received(event)
    return step(state, event, moment or at())


def take_all(state: PeerState, *events: Event | ms.Message, moment: Moment | None = None) -> PeerState:
    """The state after several steps."""
    for event in events:
        state = take(state, event, moment).state
    return state


def synced(state: PeerState, moment: Moment | None = None) -> Transition:
    """The disk has everything."""
    return take(state, Persisted(state.ballot, state.log.last), moment)


def timed_out(state: PeerState, jitter: float = 0.5) -> Transition:
    """Its election deadline has come, and it is on time."""
    assert not isinstance(state.role, Leader)
    return take(state, Tick(), at(state.role.election_deadline, jitter))


def awake(state: PeerState, until: float) -> PeerState:
    """The state at ``until``, if nothing happens but that its deadlines come."""
    while next_deadline(state) <= until:
        state = take(state, Tick(), at(next_deadline(state))).state
    return state


def of_type(effects: Iterable[fx.Effect], kind: type[E]) -> list[E]:
    return [effect for effect in effects if isinstance(effect, kind)]


def sent(effects: Iterable[fx.Effect], kind: type[E], to: str | None = None) -> list[E]:
    """The messages of a type that leave, to ``to`` or to anybody."""
    sends = of_type(effects, fx.Send)
    return [send.message for send in sends if isinstance(send.message, kind) and to in (None, send.to)]


def receivers(effects: Iterable[fx.Effect]) -> list[str]:
    """Who is sent something, in order."""
    return [send.to for send in of_type(effects, fx.Send)]


def only(effects: Iterable[fx.Effect], kind: type[E]) -> E:
    """The one effect, or the one message sent, of a type."""
    found = [*of_type(effects, kind), *sent(effects, kind)]
    assert len(found) == 1, f"{len(found)} {kind.__name__}"
    return found[0]


def persist_then_send(effects: Sequence[fx.Effect], kind: type[E]) -> E:
    """The one message of a type, which must leave after a ``Persist``."""
    message = only(effects, kind)
    kinds: list[type] = [type(effect.message) if isinstance(effect, fx.Send) else type(effect) for effect in effects]
    assert fx.Persist in kinds, "nothing is put on disk"
    assert kinds.index(fx.Persist) < kinds.index(type(message)), f"{kind.__name__} leaves before the disk has it"
    return message
