"""The simulated world does what it says: network, partitions, clocks and disks, each on its own."""

from __future__ import annotations

import errno
from collections import Counter
from random import Random
from typing import Any

import pytest

from raft_actors.errors import CorruptLog
from raft_actors.log_store import LogStore
from raft_actors.protocol.effects import Persist, Send
from raft_actors.protocol.events import Received
from raft_actors.testing.simulation import partitions
from raft_actors.testing.simulation.clock import Clock
from raft_actors.testing.simulation.disk import Disk, SimulatedAdapter
from raft_actors.testing.simulation.network import Network
from raft_actors.testing.simulation.partitions import both_ways
from raft_actors.testing.simulation.plan import Plan
from raft_actors.testing.simulation.ports import Died
from raft_actors.testing.simulation.world import World
from storage_adapters import Batch, StorageError
from tests.behaviours.bench import append, entries

NAMES = ("s1", "s2", "s3", "s4", "s5")
COUNT = 400


class Wire:
    """Messages from ``s1`` to ``s2``, one each millisecond, and when they arrived."""

    def __init__(self, **plan: Any) -> None:
        self.world = World(7)
        self.network = Network(self.world, Plan(**plan), NAMES)
        self.arrived: list[tuple[int, float]] = []
        self.network.posts = dict.fromkeys(NAMES, self._note)

    def _note(self, event: object) -> None:
        assert isinstance(event, Received)
        self.arrived.append((event.message.term, self.world.now))

    def send(self, count: int = COUNT) -> Wire:
        """Send so many, numbered in the order of their leaving; see all of them arrive."""
        for number in range(count):
            self.world.after(0.001 * number, self._send, number)
        return self.pass_time()

    def _send(self, number: int) -> None:
        self.network.send("s1", Send("s2", append("s1", number)))

    def pass_time(self) -> Wire:
        """Let everything that is under way arrive."""
        self.world.run(steps=float("inf"), until=self.world.now + 60)
        return self

    @property
    def numbers(self) -> list[int]:
        return [number for number, _ in self.arrived]


def test_a_network_without_faults_delivers_everything_once_and_in_order() -> None:
    assert Wire().send().numbers == list(range(COUNT))


@pytest.mark.parametrize("loss", [0.01, 0.3])
def test_messages_are_lost_as_often_as_planned(loss: float) -> None:
    lost = COUNT * 10 - len(Wire(loss=loss).send(COUNT * 10).numbers)
    assert 0.6 * loss < lost / (COUNT * 10) < 1.4 * loss


def test_messages_arrive_twice() -> None:
    counts = Counter(Counter(Wire(duplicate=0.2).send().numbers).values())
    assert counts.keys() == {1, 2}
    assert 40 < counts[2] < 120


def test_messages_overtake_each_other_some_by_far() -> None:
    wire = Wire(ordered=False, tail=0.1).send()
    assert sorted(wire.numbers) == list(range(COUNT))
    assert wire.numbers != list(range(COUNT))
    late = sorted(time - 0.001 * number for number, time in wire.arrived)
    assert late[COUNT // 2] < 0.002
    assert late[-1] > 0.5


def test_old_messages_come_again_much_later() -> None:
    wire = Wire(replay=0.05, ordered=False).send()
    again = [time - 0.001 * number for number, time in wire.arrived if time - 0.001 * number > 1]
    assert 5 < len(again) < 50
    assert set(wire.numbers) == set(range(COUNT))


def test_faults_of_the_network_end_when_it_is_healed() -> None:
    wire = Wire(loss=1.0, duplicate=1.0, replay=1.0, tail=1.0)
    wire.network.heal()
    assert wire.send().numbers == list(range(COUNT))


def test_a_cut_link_passes_nothing_in_its_direction_and_takes_what_is_under_way() -> None:
    wire = Wire()
    wire._send(1)
    wire.network.cut([("s1", "s2")])
    wire._send(2)
    assert wire.pass_time().numbers == []
    wire.network.send("s2", Send("s1", append("s2", 3)))
    assert wire.pass_time().numbers == [3]


def test_cuts_add_up_until_each_is_mended() -> None:
    wire = Wire()
    wire.network.cut([("s1", "s2")])
    wire.network.cut([("s1", "s2")])
    wire.network.mend([("s1", "s2")])
    assert wire.send(1).numbers == []
    wire.network.mend([("s1", "s2")])
    assert wire.send(1).numbers == [0]


# -- partitions --------------------------------------------------------------------------------------------------------


def cut(kind: Any, names: tuple[str, ...] = NAMES, seed: int = 1) -> set[tuple[str, str]]:
    return set(kind(Random(seed), list(names), "s1"))


def heard_by(links: set[tuple[str, str]]) -> dict[str, set[str]]:
    """By peer, who is heard still."""
    return {name: {other for other in NAMES if other != name and (other, name) not in links} for name in NAMES}


def test_halves_do_not_hear_each_other() -> None:
    heard = heard_by(cut(partitions.halves))
    groups = {frozenset({name, *others}) for name, others in heard.items()}
    assert len(groups) == 2
    assert set().union(*groups) == set(NAMES)


def test_one_peer_is_apart_deaf_or_mute() -> None:
    others = set(NAMES) - {"s1"}
    assert cut(partitions.alone) == set(both_ways(["s1"], NAMES))
    assert cut(partitions.deaf) == {(other, "s1") for other in others}
    assert cut(partitions.mute) == {("s1", other) for other in others}


def test_the_focus_is_cut_off_with_a_minority() -> None:
    for seed in range(20):
        heard = heard_by(cut(partitions.minority, seed=seed))
        assert len(heard["s1"]) + 1 <= len(NAMES) // 2


def test_in_a_ring_everybody_hears_two_neighbours() -> None:
    assert {len(others) for others in heard_by(cut(partitions.ring)).values()} == {2}


def test_a_bridge_is_the_only_way_between_two_groups() -> None:
    heard = heard_by(cut(partitions.bridge))
    assert heard["s1"] == set(NAMES) - {"s1"}
    assert {len(others) for name, others in heard.items() if name != "s1"} == {2}


def test_one_way_cuts_leave_the_other_way_open() -> None:
    for kind in (partitions.one_way, partitions.one_link):
        links = cut(kind)
        assert links
        assert not any((target, source) in links for source, target in links)


@pytest.mark.parametrize("size", range(1, 8))
def test_every_partition_suits_every_size(size: int) -> None:
    names = tuple(f"s{number}" for number in range(1, size + 1))
    rng = Random(size)
    for kind in partitions.KINDS:
        for _ in range(50):
            links = kind(rng, rng.sample(names, size), rng.choice(names))
            assert all(a in names and b in names and a != b for a, b in links), kind


# -- clocks ------------------------------------------------------------------------------------------------------------


def test_a_clock_runs_at_its_rate_jumps_ahead_and_knows_when_a_deadline_comes() -> None:
    world = World(1)
    clock = Clock(world)
    begin = clock.moment().now
    clock.set_rate(1.5)
    deadline = begin + 3.0
    assert clock.when(deadline) == pytest.approx(2.0)
    world.now = clock.when(deadline)
    assert clock.moment().now >= deadline
    clock.set_rate(0.5)
    world.now += 2.0
    assert clock.moment().now == pytest.approx(begin + 4.0)
    clock.jump(5.0)
    assert clock.moment().now == pytest.approx(begin + 9.0)


def test_the_time_of_day_may_jump_back_and_the_monotonic_clock_does_not() -> None:
    clock = Clock(World(1))
    before = clock.moment()
    clock.set_wall(-10_000)
    after = clock.moment()
    assert after.wall < before.wall
    assert after.now >= before.now


# -- disks -------------------------------------------------------------------------------------------------------------


def disk() -> Disk:
    return Disk("s1", "s1-0".rjust(16, "0"), lambda disk, batch: None, lambda disk, snapshot: None)


def opened(medium: Disk) -> LogStore:
    return LogStore.open(lambda path: SimulatedAdapter(medium), "simulated", name="s1")


def write(store: LogStore, first: int, *terms: int, cut: int | None = None) -> None:
    store.write([Persist(truncate_from=cut, entries=entries(first, *terms))], note=False)


@pytest.mark.parametrize(("boundary", "terms"), [(1, [1]), (2, [1, 1, 2]), (3, [1, 1, 2])])
def test_a_crash_leaves_a_batch_wholly_or_not_at_all(boundary: int, terms: list[int]) -> None:
    medium = disk()
    store = opened(medium)
    write(store, 1, 1)
    left = iter(range(boundary - 1, -1, -1))

    def power_fails() -> None:
        if next(left, None) == 0:
            raise Died

    medium.boundary = power_fails
    try:
        write(store, 2, 1, 2)
        write(store, 4, 2)
    except Died:
        pass
    medium.boundary = lambda: None
    assert medium.terms == terms
    assert opened(medium).recovered.log.last.index == len(terms)


def test_what_a_batch_cuts_off_and_appends_is_one_change() -> None:
    medium = disk()
    store = opened(medium)
    write(store, 1, 1, 1, 1)
    write(store, 2, 2, cut=2)
    assert medium.terms == [1, 2]


@pytest.mark.parametrize("survives", [False, True])
def test_a_call_that_failed_did_all_or_nothing_and_nothing_more_is_taken(survives: bool) -> None:
    medium = disk()
    adapter = SimulatedAdapter(medium)
    medium.failing, medium.survives = 1, survives
    with pytest.raises(StorageError) as caught:
        adapter.write(Batch(meta={"note": b"one"}))
    assert caught.value.errno == errno.EIO
    assert ("note" in medium.meta) is survives
    with pytest.raises(StorageError, match="failed before"):
        adapter.write(Batch(meta={"note": b"two"}))
    SimulatedAdapter(medium).write(Batch(meta={"note": b"three"}))
    assert medium.meta["note"] == b"three"


def test_a_read_can_fail() -> None:
    medium = disk()
    store = opened(medium)
    write(store, 1, 1)
    medium.failing = 1
    with pytest.raises(Exception, match="cannot be read"):
        store.read(1, 1, 1000)


def test_any_bit_that_is_flipped_in_a_record_is_noticed_at_the_next_start() -> None:
    for bit in range(0, 8 * 35, 7):
        medium = disk()
        write(opened(medium), 1, 1, 1, 1)
        medium.damage(2, bit)
        assert medium.damaged
        with pytest.raises(CorruptLog):
            opened(medium)


@pytest.mark.parametrize("key", range(5))
def test_any_bit_that_is_flipped_beside_the_log_is_noticed_at_the_next_start(key: int) -> None:
    for bit in range(8 * 5 * 20):
        if bit % 5 == key:
            medium = disk()
            opened(medium).write([Persist(cluster="cluster-1", entries=entries(1, 1))], note=False)
            assert len(medium.meta) == 5
            medium.damage(0, bit)
            with pytest.raises(CorruptLog):
                opened(medium)
