"""How a peer without a cluster begins: it waits to be asked, asks to be let in, or looks for peers to form one with."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import pykka

from raft_actors.addresses import Place
from raft_actors.arguments import PeerRef, member_of
from raft_actors.errors import InvalidConfig
from raft_actors.protocol.state import Bootstrap, Joining

__all__ = ["WAITS", "Beginning", "beginning_of"]


class Beginning(NamedTuple):
    """What a peer does while its store knows of no cluster; ``places``: where the others are, as far as was said."""

    joining: Joining | None = None
    bootstrap: Bootstrap | None = None
    places: tuple[Place, ...] = ()


WAITS = Beginning()


def beginning_of(name: str, join: Iterable[PeerRef] | PeerRef | None, bootstrap_expect: int | None) -> Beginning:
    """What the arguments of ``start_peer`` mean.

    Raises:
        InvalidConfig: they do not go together.
        InvalidName: nobody can have one of these names.
    """
    if join is None:
        if bootstrap_expect is not None:
            raise _invalid("bootstrap_expect needs join: the names of all peers that are to form the cluster")
        return WAITS
    given = [join] if isinstance(join, str | pykka.ActorRef) else list(join)
    places = tuple(dict.fromkeys(member_of(peer) for peer in given))
    known = tuple(dict.fromkeys(place.name for place in places))
    seeds = tuple(one for one in known if one != name)
    if bootstrap_expect is None:
        if not seeds:
            raise _invalid(f"join names nobody but {name!r} itself: name a member of the cluster")
        return Beginning(Joining(seeds), None, places)
    _check_expected(name, known, bootstrap_expect)
    return Beginning(Joining(seeds, expected=known) if seeds else None, Bootstrap(known), places)


def _check_expected(name: str, known: tuple[str, ...], expected: int) -> None:
    if isinstance(expected, bool) or not isinstance(expected, int):
        raise TypeError(f"bootstrap_expect must be a number of peers, not {expected!r:.60}")
    if expected != len(known):
        raise _invalid(f"bootstrap_expect is {expected}, but join names {len(known)} peers: {', '.join(known)}")
    if name not in known:
        raise _invalid(f"join must name {name!r} too: give all {expected} peers the same names")


def _invalid(message: str) -> InvalidConfig:
    return InvalidConfig(message, fields=("bootstrap_expect", "join"), advice="see the docstring of start_peer")
