"""A run as text: one line for each thing that happened, the same bytes for the same seed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from raft_actors.protocol import events as ev
from raft_actors.protocol import messages as msg
from raft_actors.protocol.configuration import Configuration
from raft_actors.protocol.effects import ClusterFormed, ClusterRefused
from raft_actors.protocol.types import Ballot, LogPosition

__all__ = ["as_text", "as_words"]


def as_text(log: Iterable[tuple[Any, ...]]) -> str:
    """Return the trace: time in seconds, who, what."""
    return "\n".join(f"{time:12.6f}  {where:<9} {as_words(rest)}" for time, where, *rest in log) + "\n"


def as_words(rest: Iterable[Any]) -> str:
    """Return what happened in one line, without when and where."""
    return " ".join(_word(one) for one in rest)


def _word(one: Any) -> str:
    match one:
        case str():
            return one
        case float():
            return f"{one:.6f}"
        case LogPosition(term=term, index=index):
            return f"{term}/{index}"
        case Ballot(term=term, voted_for=voted_for):
            return f"term {term} vote {voted_for or '-'}"
        case ev.Received(message=message):
            return f"<- {message.sender} {_message(message)}"
        case ev.Persisted(ballot=ballot, last=last):
            return f"synced {_word(ballot)} log {_word(last)}"
        case ev.EntriesLoaded(reader=reader, first=first, entries=entries):
            return f"loaded {len(entries)} from {first} for {reader or 'the machine'}"
        case ev.WritesRequested(token=token, commands=commands):
            return f"takes {len(commands)} writes (token {token})"
        case ev.ReadsRequested(token=token, lease=lease):
            return f"takes {'lease ' if lease else ''}reads (token {token})"
        case ev.ClusterRequested(proposal=proposal):
            return f"is to form {proposal}"
        case ClusterFormed():
            return "the cluster"
        case ClusterRefused(refusal=refusal, peer=peer):
            return f"no cluster: {refusal.name} {peer}"
        case ev.Applied(index=index):
            return f"has applied {index}"
        case ev.PeerDown(name=peer):
            return f"learns that {peer} is gone"
        case ev.Tick():
            return "deadline"
        case msg.Header():
            return _message(one)
        case Configuration(voters=voters):
            return ",".join(member.name for member in voters)
        case tuple():
            return "(" + ", ".join(_word(each) for each in one) + ")"
    return repr(one)


def _message(message: msg.Header) -> str:
    head = f"{type(message).__name__} term {message.term}"
    match message:
        case msg.AppendEntries():
            end = message.previous.index + len(message.entries)
            span = f"prev {_word(message.previous)} to {end} commit {message.commit_index} round {message.round}"
            return f"{head} {span}"
        case msg.AppendEntriesReply():
            what = f"match {message.match_index}" if message.success else f"refused, hint {_word(message.hint)}"
            return f"{head} {what} round {message.round}"
        case msg.PreVote() | msg.RequestVote():
            return f"{head} last {_word(message.last)}"
        case msg.PreVoteReply() | msg.RequestVoteReply():
            return f"{head} {'granted' if message.granted else 'refused'}"
        case msg.ReadIndex() | msg.ReadIndexReply():
            return f"{head} request {message.request} index {getattr(message, 'index', '')}"
        case msg.FormCluster() | msg.FormClusterReply():
            return f"{head} {message.proposal} {getattr(message, 'refusal', '')}"
    return head
