"""Ways to cut a network, each a set of directed links that nothing passes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import TypeAlias

__all__ = ["draw_partition"]

Links: TypeAlias = tuple[tuple[str, str], ...]


def draw_partition(rng: Random, names: Sequence[str], focus: str) -> Links:
    """Return the links that a partition cuts.

    Args:
        rng: the dice.
        names: all peers.
        focus: the peer that a partition is about, where it is about one.
    """
    kind = KINDS[int(rng.random() * len(KINDS))]
    shuffled = rng.sample(list(names), len(names))
    return kind(rng, shuffled, focus)


def both_ways(one: Sequence[str], other: Sequence[str]) -> Links:
    """Every link between two groups."""
    return tuple(link for a in one for b in other for link in ((a, b), (b, a)) if a != b)


def halves(rng: Random, names: list[str], focus: str) -> Links:
    """Two groups that do not hear each other."""
    middle = rng.randint(1, max(1, len(names) - 1))
    return both_ways(names[:middle], names[middle:])


def alone(rng: Random, names: list[str], focus: str) -> Links:
    """One peer apart from all others."""
    return both_ways([focus], names)


def minority(rng: Random, names: list[str], focus: str) -> Links:
    """One peer with less than half of the others, apart from the rest."""
    others = [name for name in names if name != focus]
    few = rng.randint(0, max(0, (len(names) - 1) // 2 - 1))
    return both_ways([focus, *others[:few]], others[few:])


def deaf(rng: Random, names: list[str], focus: str) -> Links:
    """One peer speaks, and hears nothing."""
    return tuple((other, focus) for other in names if other != focus)


def mute(rng: Random, names: list[str], focus: str) -> Links:
    """One peer hears, and its own words are lost."""
    return tuple((focus, other) for other in names if other != focus)


def ring(rng: Random, names: list[str], focus: str) -> Links:
    """Everybody hears only its two neighbours."""
    count = len(names)
    apart = [(a, b) for a in range(count) for b in range(count) if a != b and (a - b) % count not in (1, count - 1)]
    return tuple((names[a], names[b]) for a, b in apart)


def bridge(rng: Random, names: list[str], focus: str) -> Links:
    """Two groups that hear each other only through one peer."""
    others = [name for name in names if name != focus]
    middle = len(others) // 2
    return both_ways(others[:middle], others[middle:])


def one_link(rng: Random, names: list[str], focus: str) -> Links:
    """A single link, in one direction."""
    others = [name for name in names if name != focus]
    return ((focus, others[0]),) if others else ()


def one_way(rng: Random, names: list[str], focus: str) -> Links:
    """One group does not hear the other."""
    middle = rng.randint(1, max(1, len(names) - 1))
    return tuple((a, b) for a in names[:middle] for b in names[middle:])


def scattered(rng: Random, names: list[str], focus: str) -> Links:
    """Any links."""
    return tuple((a, b) for a in names for b in names if a != b and rng.random() < 0.3)


KINDS: tuple[Callable[[Random, list[str], str], Links], ...] = (
    halves,
    alone,
    alone,
    minority,
    minority,
    deaf,
    mute,
    ring,
    bridge,
    one_link,
    one_way,
    scattered,
)
