"""What a well-formed message is, beyond its types: looked at once, where a message comes in from another process.

A message of this process was made by these rules and is not looked at. One that came over a network may have been made
by anybody who has a key: it must not bring a peer into a state that the rules exclude (BUG-76).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable

import msgspec

from raft_actors.protocol import sessions
from raft_actors.protocol.configuration import Configuration, Member, decode
from raft_actors.protocol.entry import Entry, EntryKind
from raft_actors.protocol.messages import (
    AppendEntries,
    FormCluster,
    FormClusterReply,
    InstallSnapshot,
    IntroduceReply,
    Join,
    JoinReply,
    Message,
)
from raft_actors.protocol.types import ADDRESS_RULE, NAME_RULE

__all__ = ["is_address", "why_malformed"]


def why_malformed(message: Message) -> str:
    """Why ``message`` cannot come from a peer that keeps the rules; ``""`` if it can.

    Paper: Figure 2 (entries follow ``prevLogIndex`` without a gap), Figure 3 (terms never go back along a log).
    """
    if not message.incarnation or not NAME_RULE.fullmatch(message.sender):
        return "no sender"
    match message:
        case AppendEntries():
            return _why_not_a_log(message)
        case InstallSnapshot():
            return _why_no_piece(message)
        case FormCluster():
            return _why_no_names(message.names)
        case FormClusterReply():
            return _why_nowhere(message.address) or _why_no_cluster(message.configuration)
        case IntroduceReply():
            return _why_nowhere(message.address)
        case Join():
            return _why_nowhere(message.address) or _why_no_names(message.expected)
        case JoinReply():
            return _why_nowhere(message.address) or _why_no_names([message.leader] if message.leader else [])
        case _:
            return ""


@functools.lru_cache(1024)
def is_address(text: str) -> bool:
    """Whether this is ``host:port``, or ``""``."""
    found = ADDRESS_RULE.fullmatch(text)
    return not text or (found is not None and int(found["port"]) <= 65535)


def _why_not_a_log(message: AppendEntries) -> str:
    index, term, newest = message.previous.index, message.previous.term, message.term
    command, finite = EntryKind.COMMAND, math.isfinite
    for entry in message.entries:
        index += 1
        if entry.index != index:
            return "entries do not follow each other"
        if not term <= entry.term <= newest:
            return "terms of entries go back"
        term = entry.term
        if not finite(entry.time) or (entry.kind is not command and not _says_something(entry)):
            return "an entry that says nothing"
    return ""


def _says_something(entry: Entry) -> bool:
    try:
        if entry.kind is EntryKind.CONFIGURATION:
            found = decode(entry.data)
            return bool(found) and not _why_no_cluster(found)
        if entry.kind is EntryKind.SESSION:
            request = sessions.parse(entry)
            return isinstance(request, sessions.SessionWrite) or 0 <= request.timeout < math.inf
    except (msgspec.DecodeError, ValueError, RecursionError):
        return False
    return True


def _why_no_piece(message: InstallSnapshot) -> str:
    if not message.data or message.offset + len(message.data) > message.size:
        return "a piece outside its snapshot"
    return ""


def _why_nowhere(address: str) -> str:
    return "" if is_address(address) else "an address that is none"


def _why_no_names(names: Iterable[str]) -> str:
    return "" if all(map(NAME_RULE.fullmatch, names)) else "a name that is none"


def _why_no_cluster(configuration: Configuration | None) -> str:
    if configuration is None:
        return ""
    for members in _halves(configuration):
        if len({member.name for member in members}) < len(members):
            return "a member that is there twice"
        for member in members:
            why = _why_nowhere(member.address) or _why_no_names([member.name])
            if why:
                return why
    return ""


def _halves(configuration: Configuration) -> list[tuple[Member, ...]]:
    goal = configuration.goal
    wanted = [] if goal is None else [goal.voters, goal.learners]
    return [configuration.voters, configuration.outgoing, configuration.learners, *wanted]
