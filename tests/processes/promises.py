"""Judges promises: was what they promise on disk when they were made?

Fed with batches (``begin``, ``end``) and with marks of promises::

    MATCH peer index             an acknowledgement of entries leaves the peer
    VOTE peer term candidate     a vote leaves it
    LEAD peer term               it leads, by its own vote among others
    ACK index                    a caller is answered: a majority must have that entry
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Batch:
    """What a peer writes at once: entries (0: none) after a cut (0: none), and a ballot (term -1: none)."""

    first: int
    last: int
    cut: int
    ballot: tuple[int, str]

    @classmethod
    def of(cls, words: list[str]) -> Batch:
        first, last, cut, term, vote = words
        return cls(int(first), int(last), int(cut), (int(term), vote))


@dataclass
class Peer:
    """What a peer has on disk."""

    last: int = 0
    ballots: set[tuple[int, str]] = field(default_factory=set)


class Promises:
    """Judges them one by one.

    Attributes:
        kept: how many were kept, by kind.
        broken: those that were made too early, with where that was seen.
    """

    def __init__(self, names: list[str]) -> None:
        self.kept: dict[str, int] = {}
        self.broken: list[str] = []
        self._peers = {name: Peer() for name in names}

    def begin(self, name: str, batch: Batch) -> None:
        """A batch goes to the disk: what it cuts off is no longer there for sure."""
        if batch.cut:
            peer = self._peers[name]
            peer.last = min(peer.last, batch.cut - 1)

    def end(self, name: str, batch: Batch) -> None:
        """A batch is durable."""
        peer = self._peers[name]
        peer.ballots.add(batch.ballot)
        if batch.last and batch.first == peer.last + 1:
            peer.last = batch.last

    def made(self, mark: str, where: object = "") -> None:
        """A promise is made."""
        word, *rest = mark.split()
        if self._holds(word, rest):
            self.kept[word] = self.kept.get(word, 0) + 1
        else:
            self.broken.append(f"{mark} ({where})")

    def _holds(self, word: str, rest: list[str]) -> bool:
        peers = self._peers
        match word, rest:
            case "ACK", [index]:
                return 2 * sum(peer.last >= int(index) for peer in peers.values()) > len(peers)
            case "MATCH", [name, index]:
                return peers[name].last >= int(index)
            case "VOTE", [name, term, candidate]:
                return (int(term), candidate) in peers[name].ballots
            case "LEAD", [name, term]:
                return (int(term), name) in peers[name].ballots
        raise ValueError(f"an unknown mark: {mark_text(word, rest)}")


def mark_text(word: str, rest: list[str]) -> str:
    return " ".join([word, *rest])
