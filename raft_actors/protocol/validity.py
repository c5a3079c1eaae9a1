"""What a well-formed message is, beyond its types: looked at once, where a message comes in from another process.

A message of this process was made by these rules and is not looked at. One that came over a network may have been made
by anybody who has a key: it must not bring a peer into a state that the rules exclude (BUG-76).
"""

from __future__ import annotations

from raft_actors.protocol.messages import AppendEntries, InstallSnapshot, Message

__all__ = ["why_malformed"]


def why_malformed(message: Message) -> str:
    """Why ``message`` cannot come from a peer that keeps the rules; ``""`` if it can.

    Paper: Figure 2 (entries follow ``prevLogIndex`` without a gap), Figure 3 (terms never go back along a log).
    """
    if not message.sender or not message.incarnation:
        return "no sender"
    match message:
        case AppendEntries():
            return _why_not_a_log(message)
        case InstallSnapshot():
            return _why_no_piece(message)
        case _:
            return ""


def _why_not_a_log(message: AppendEntries) -> str:
    index, term = message.previous.index, message.previous.term
    for entry in message.entries:
        index += 1
        if entry.index != index:
            return "entries do not follow each other"
        if not term <= entry.term <= message.term:
            return "terms of entries go back"
        term = entry.term
    return ""


def _why_no_piece(message: InstallSnapshot) -> str:
    if not message.data or message.offset + len(message.data) > message.size:
        return "a piece outside its snapshot"
    return ""
