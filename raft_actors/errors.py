"""Every error of the library, sorted by one question: may I retry?

``NotApplied`` was certainly without effect, ``OutcomeUnknown`` may have been applied, ``Refused`` can never succeed,
``CommandFailed`` is a recorded result of the user's own machine, ``PeerFailed`` says that the peer stopped itself.
Every message ends with what to do about it: each class has its advice, and the raiser may give a better one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import pykka

from raft_actors.error_base import RaftError, RemoteError, text_of

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "RaftError",
    "NotApplied",
    "NotLeader",
    "ElectionInProgress",
    "Overloaded",
    "UnknownPeer",
    "NotConfigured",
    "NotInConfiguration",
    "Restarting",
    "OutcomeUnknown",
    "Timeout",
    "Refused",
    "InvalidConfig",
    "InvalidName",
    "InvalidCommand",
    "InvalidConfiguration",
    "ConfigurationChanged",
    "ConfigurationInProgress",
    "AlreadyStarted",
    "SessionExpired",
    "Unauthorized",
    "Incompatible",
    "StoreInUse",
    "MissingExtra",
    "CommandFailed",
    "RemoteError",
    "PeerFailed",
    "StorageFailed",
    "CorruptLog",
    "InvariantViolated",
]


class NotApplied(RaftError):
    """The request had certainly no effect: it is safe to send it again."""

    summary = "the request was not applied"
    advice = "it is safe to retry"


class NotLeader(NotApplied):
    """A write was sent to a follower.

    Attributes:
        leader: the name of the leader as the follower knows it.
    """

    summary = "this peer is not the leader"

    def __init__(self, leader: str, message: str = "", *, advice: str = "") -> None:
        super().__init__(message, advice=advice or f"send the request to {leader!r}, or use a Client, which follows it")
        self.leader = leader


class ElectionInProgress(NotApplied):
    """No leader is known at the moment."""

    summary = "no leader is known, an election is in progress"
    advice = "retry after raft_actors.leader(peer) names one, or use a Client, which waits for it"


class Overloaded(NotApplied):
    """The peer holds as much unfinished work as its ``Config`` allows."""

    summary = "the peer has too much unfinished work"
    advice = "retry later with fewer requests in flight, or raise Config.max_pending_writes or max_pending_bytes"


class UnknownPeer(NotApplied):
    """No peer of this name is running where it was looked for.

    Attributes:
        name: the name that nobody answers to.
    """

    advice = "start it with start_peer, or check the spelling of the name"

    def __init__(self, name: str, message: str = "", *, advice: str = "") -> None:
        super().__init__(message or f"no peer named {name!r} is running in this process", advice=advice)
        self.name = name


class NotConfigured(NotApplied):
    """The peer belongs to no cluster yet."""

    summary = "the peer is not part of a cluster yet"
    advice = "form one with set_configuration(peer, peers)"


class NotInConfiguration(NotApplied):
    """The peer is not, or no longer, a member of its cluster."""

    summary = "the peer is not a member of the cluster"
    advice = "ask a member; configuration(member) names them"


class Restarting(NotApplied):
    """The peer died and its supervisor is about to start it again.

    Attributes:
        name: the peer.
    """

    advice = "retry in a moment, or cancel the restart with stop_peer"

    def __init__(self, name: str, message: str = "", *, advice: str = "") -> None:
        super().__init__(message or f"peer {name!r} is restarting after a failure", advice=advice)
        self.name = name


class OutcomeUnknown(RaftError):
    """The request may or may not have been applied, now or later; ``__cause__`` says why nobody knows."""

    summary = "it is not known whether the request was applied"
    advice = "read the state to find out, and repeat only what is idempotent"

    def retry(self, timeout: float | None = None) -> Any:
        """Go on with the write of a ``Client`` that ended with this error: it is applied once, whatever happened to it.

        Args:
            timeout: seconds; ``None``: those of the client.

        Returns:
            What ``handle_write`` replied.

        Raises:
            RaftError: as ``Client.write``; again an unknown outcome, with ``retry``, if the time is over.
            Refused: the error does not come from a write of a ``Client``, which alone can be repeated without harm.
        """
        again = self.__dict__.get("_again")
        if again is None:
            raise Refused(
                "only a write of a Client can be gone on with", advice="write through a Client, or read the state"
            )
        return again(timeout)


class Timeout(OutcomeUnknown, TimeoutError, pykka.Timeout):
    """No answer came in time; what was asked may still happen."""

    summary = "no answer in time"
    advice = "a read can be repeated; a write may still be applied: repeat only what is idempotent"


class Refused(RaftError):
    """The same call can never succeed."""

    summary = "the call was refused"
    advice = "do not repeat the same call"


class InvalidConfig(Refused):
    """Settings that are wrong or do not go together.

    Attributes:
        fields: the names of the fields that are wrong.
    """

    summary = "invalid Config"
    advice = "see the docstring of raft_actors.Config for types and bounds"

    def __init__(self, message: str = "", *, fields: Iterable[str] = (), advice: str = "") -> None:
        super().__init__(message, advice=advice)
        self.fields = tuple(fields)


class InvalidName(Refused):
    """A name that no peer can have."""

    summary = "invalid name of a peer"
    advice = "use 1 to 64 of the letters a-z and A-Z, digits, '_', '-' and '.', not starting with '.'"


class InvalidCommand(Refused):
    """A command that cannot be encoded, cannot be decoded again, or is too large."""

    summary = "the command cannot be stored"
    advice = "send values that the peer's codec can encode and decode, within Config.max_command_bytes"


class InvalidConfiguration(Refused):
    """A list of members that cannot be a cluster."""

    summary = "this cannot be the configuration of a cluster"
    advice = "give a non-empty list of different names of running peers"


class ConfigurationChanged(Refused):
    """The configuration that was ``expected`` is no longer the current one."""

    summary = "the configuration has changed meanwhile"
    advice = "look at configuration(peer) and decide again"


class ConfigurationInProgress(Refused):
    """Another change of the configuration is still under way."""

    summary = "another change of the configuration is under way"
    advice = "wait until configuration(peer).committed is true, then call again"


class AlreadyStarted(Refused):
    """The name belongs to a running (or restarting) peer of this process.

    Attributes:
        name: the name in use.
    """

    advice = "stop that peer first with stop_peer, or take another name"

    def __init__(self, name: str, message: str = "", *, advice: str = "") -> None:
        super().__init__(message or f"a peer named {name!r} is already started in this process", advice=advice)
        self.name = name


class SessionExpired(Refused):
    """The session of this client was forgotten by the cluster."""

    summary = "the session has expired"
    advice = "look whether this write was applied; later writes open a session of their own"


class Unauthorized(Refused):
    """The key in use may not do this."""

    summary = "not allowed with this key"
    advice = "ask the operator to add the key with the needed role to the cluster's 'allowed' file"


class Incompatible(Refused):
    """A format, cluster, peer or version that does not belong here."""

    summary = "this does not fit together"
    advice = "use the store, the version and the codec that belong to this peer"


class StoreInUse(Refused):
    """Another peer or process has the store open.

    Attributes:
        path: the store.
        pid: the process that has it open, or ``None`` if it cannot be told.
    """

    def __init__(self, path: str, *, pid: int | None, advice: str = "") -> None:
        owner = f"process {pid}" if pid is not None else "another process"
        super().__init__(
            f"the store {path} is in use by {owner}",
            advice=advice or f"stop {owner} first, or use another data_dir or name",
        )
        self.path = path
        self.pid = pid


class MissingExtra(Refused):
    """An optional package is needed that is not installed.

    Attributes:
        extra: the name of the extra that brings it.
    """

    def __init__(self, extra: str, message: str = "", *, advice: str = "") -> None:
        super().__init__(
            message or f"this needs the extra {extra!r}, which is not installed",
            advice=advice or f"pip install 'raft-actors[{extra}]'",
        )
        self.extra = extra


class CommandFailed(RaftError):
    """``handle_write`` or ``handle_read`` raised; ``__cause__`` is the exception.

    This is a recorded result, the same on every replica: the cluster goes on. Also what was done, but has a reply that
    cannot be carried to a caller in another process.
    """

    summary = "the state machine raised an exception"
    advice = "the exception is the __cause__; correct the command or the state machine"

    @classmethod
    def because(cls, cause: BaseException) -> Self:
        """Return the error for an exception of the user's machine, with the exception as its cause."""
        text = cause if isinstance(cause, RemoteError) else f"{type(cause).__name__}: {text_of(cause)}"
        error = cls(f"{cls.summary}: {text}")
        error.__cause__ = cause
        return error


class PeerFailed(RaftError):
    """The peer stopped itself; every call to it fails with this until it is started again."""

    summary = "the peer has stopped itself"
    advice = "look at status(peer).failure, mend the cause and start the peer again"


class StorageFailed(PeerFailed):
    """The disk, or what lies between, reported an error."""

    summary = "the peer's storage failed"
    advice = "check the disk (space, permissions, health), then start the peer again"


class CorruptLog(PeerFailed):
    """The stored log is damaged where it was known to be durable."""

    summary = "the peer's log is damaged"
    advice = "keep the folder, look at it with 'raft-actors verify', and take the data from the other peers"


class InvariantViolated(PeerFailed):
    """A rule of the protocol was found broken; going on could lose data."""

    summary = "an invariant of the protocol does not hold"
    advice = "keep the folder and report this as a bug; the other peers go on without this one"
