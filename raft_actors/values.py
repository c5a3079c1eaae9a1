"""What the API returns: a peer's status and a cluster's configuration, as frozen values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

from msgspec.structs import replace

from raft_actors.addresses import full_name, shown
from raft_actors.protocol.state import Candidate, Follower, Leader, PeerState, PreCandidate, Role

if TYPE_CHECKING:
    from raft_actors.errors import RaftError
    from raft_actors.protocol.configuration import Configuration as Members
    from raft_actors.protocol.progress import Progress as FollowerProgress

__all__ = ["Configuration", "Progress", "Status"]


@dataclass(frozen=True, slots=True)
class Configuration:
    """The members of a cluster.

    While a change is under way, it is the newest step of it, and not ``committed``: first the newcomers are learners;
    then the voters are those to be, and a majority of the ones before is needed as well.

    Attributes:
        voters: names of those whose majority decides, in the order given.
        learners: names of those that receive the log and count for nothing.
        index: of the entry that holds it, 0 while there is none.
        committed: whether that entry is committed, and no change under way, as far as the peer asked knows.
    """

    voters: tuple[str, ...] = ()
    learners: tuple[str, ...] = ()
    index: int = 0
    committed: bool = False


@dataclass(frozen=True, slots=True)
class Progress:
    """One follower as its leader sees it.

    Attributes:
        match_index: up to where its log is known to equal the leader's, durably.
        lag: entries it is behind.
        state: ``"probe"``, ``"replicate"``, ``"loading"`` or ``"snapshot"``.
    """

    match_index: int
    lag: int
    state: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """A peer as it last published itself.

    Attributes:
        name: its name.
        role: ``"follower"``, ``"pre_candidate"``, ``"candidate"`` or ``"leader"``.
        term: its current term.
        leader: whom it believes to lead, or ``None``.
        voted_for: whom it voted for in this term, or ``None``.
        configuration: as it knows it.
        first_index: the lowest index in its log.
        last_index: the highest, 0 for an empty log.
        last_term: the term there.
        commit_index: up to where it knows the log to be committed.
        last_applied: up to where its machine has applied it.
        snapshot_index: what its newest snapshot covers, 0 if there is none.
        storage: ``"lmdb"``, ``"rocksdb"``, ``"memory"`` or the name of a factory.
        incarnation: identity of its store.
        progress: of every other member; empty unless this peer leads.
        failure: what stopped it, or ``None``.
    """

    name: str
    role: str = "follower"
    term: int = 0
    leader: str | None = None
    voted_for: str | None = None
    configuration: Configuration = Configuration()
    first_index: int = 1
    last_index: int = 0
    last_term: int = 0
    commit_index: int = 0
    last_applied: int = 0
    snapshot_index: int = 0
    storage: str = ""
    incarnation: str = ""
    progress: Mapping[str, Progress] = field(default_factory=dict)
    failure: RaftError | None = None


def role_name(role: Role) -> str:
    """The word of the contract for a role."""
    match role:
        case Leader():
            return "leader"
        case Candidate():
            return "candidate"
        case PreCandidate():
            return "pre_candidate"
        case Follower():
            return "follower"


def configuration_of(state: PeerState) -> Configuration:
    """The configuration that counts for a peer."""
    if not state.configurations:
        return Configuration()
    return _shown(state, *state.configurations[-1])


def committed_of(state: PeerState) -> Configuration:
    """The newest configuration that a peer knows to be committed."""
    known = (one for one in reversed(state.configurations) if one[0] <= state.commit_index)
    newest = next(known, None)
    return Configuration() if newest is None else _shown(state, *newest)


def _shown(state: PeerState, index: int, configuration: Members) -> Configuration:
    return Configuration(
        tuple(full_name(member.name, member.address) for member in configuration.voters),
        tuple(full_name(member.name, member.address) for member in configuration.learners),
        index,
        index <= state.commit_index and not configuration.changing,
    )


def status_of(state: PeerState, *, storage: str, applied: int, failure: RaftError | None) -> Status:
    """A peer's status from its published state.

    Args:
        state: the state.
        storage: name of the storage engine.
        applied: what the machine has applied, which may be newer than what it reported to the peer.
        failure: what stopped the peer.
    """
    role, log = state.role, state.log
    progress = role.progress if isinstance(role, Leader) else {}
    return Status(
        name=shown(state, state.name),
        role=role_name(role),
        term=state.term,
        leader=_shown_or_none(state, state.leader),
        voted_for=_shown_or_none(state, state.ballot.voted_for),
        configuration=configuration_of(state),
        first_index=log.first,
        last_index=log.last.index,
        last_term=log.last.term,
        commit_index=state.commit_index,
        last_applied=max(state.last_applied, applied),
        snapshot_index=state.snapshot_index,
        storage=storage,
        incarnation=state.incarnation,
        progress=MappingProxyType(
            {shown(state, name): _progress(one, log.last.index) for name, one in progress.items()}
        ),
        failure=failure,
    )


def storage_name(storage: object) -> str:
    """The word for ``Config.storage``: the engine's, or the name of a factory."""
    return storage if isinstance(storage, str) else getattr(storage, "__name__", type(storage).__name__)


def retired(state: PeerState) -> PeerState:
    """What is left of the state of a peer that does not run: its log and its ballot, no role and no leader."""
    return replace(state, role=Follower(), leader=None)


def _shown_or_none(state: PeerState, name: str | None) -> str | None:
    return None if name is None else shown(state, name)


def _progress(progress: FollowerProgress, last: int) -> Progress:
    return Progress(progress.match_index, last - progress.match_index, progress.state.value)
