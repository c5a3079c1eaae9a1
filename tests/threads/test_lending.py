"""A sleeping owner's turn may be run by a sender: once, by one thread at a time, and nothing is left lying."""

from __future__ import annotations

import threading
import time
from collections import Counter

import pytest

from raft_actors.lending import LendingChannel, become_lender, lend_all, rouse, rouse_all

PATIENCE = 10.0


class Owner:
    """A thread that takes what its channel holds; ``handled`` is by whom."""

    def __init__(self) -> None:
        self.channel = LendingChannel()
        self.channel.turn = self.turn
        self.seen: list[object] = []
        self.by: list[str] = []
        self.overlaps = 0
        self.must_go_on = False
        self.enter = threading.Event()
        self.leave = threading.Event()
        self.leave.set()
        self._busy = threading.Lock()
        self._stop = False
        self.wakes = 0
        self.thread = threading.Thread(target=self._run, name="owner", daemon=True)
        self.thread.start()

    def turn(self) -> bool:
        if not self._busy.acquire(blocking=False):
            self.overlaps += 1
            return False
        try:
            items = self.channel.take()
            self.seen += items
            self.by += [threading.current_thread().name] * len(items)
            self.enter.set()
            self.leave.wait(PATIENCE)
        finally:
            self._busy.release()
        return self.must_go_on

    def _run(self) -> None:
        while not self._stop:
            self.channel.get()
            self.wakes += 1
            self.turn()

    def end(self) -> None:
        self._stop = True
        self.leave.set()
        self.channel.close()
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive()


@pytest.fixture
def owner():
    one = Owner()
    yield one
    one.end()


def eventually(predicate) -> None:
    end = time.monotonic() + PATIENCE
    pause = threading.Event()
    while not predicate():
        assert time.monotonic() < end, "did not come true"
        pause.wait(0.001)


def asleep(owner: Owner) -> None:
    eventually(lambda: owner.channel._asleep)


def test_a_sleeping_owner_is_not_woken_the_sender_runs_its_turn(owner) -> None:
    asleep(owner)
    before = owner.wakes
    assert owner.channel.lend("beat")
    assert owner.seen == ["beat"]
    assert owner.by == [threading.current_thread().name]
    assert owner.wakes == before
    assert owner.channel._asleep


def test_an_owner_that_is_awake_finds_the_item_itself(owner) -> None:
    owner.leave.clear()
    owner.channel.post("first")
    owner.enter.wait(PATIENCE)
    assert owner.channel.lend("second")
    assert owner.seen == ["first"]
    owner.leave.set()
    eventually(lambda: owner.seen == ["first", "second"])
    assert owner.by == ["owner", "owner"]


def test_what_comes_during_a_lent_turn_rings_the_owner(owner) -> None:
    asleep(owner)
    owner.leave.clear()
    owner.enter.clear()
    lender = threading.Thread(target=owner.channel.lend, args=("lent",), name="lender")
    lender.start()
    owner.enter.wait(PATIENCE)
    owner.channel.post("later")
    owner.leave.set()
    lender.join(PATIENCE)
    eventually(lambda: owner.seen == ["lent", "later"])
    assert owner.by == ["lender", "owner"]


def test_a_deadline_that_passes_during_a_lent_turn_is_not_forgotten(owner) -> None:
    owner.channel.deadline = time.monotonic() + 0.05
    owner.channel.post("arm")
    eventually(lambda: owner.seen == ["arm"])
    asleep(owner)
    owner.leave.clear()
    owner.enter.clear()
    before = owner.wakes
    lender = threading.Thread(target=owner.channel.lend, args=("slow",))
    lender.start()
    owner.enter.wait(PATIENCE)
    eventually(lambda: owner.channel._overdue)
    owner.channel.deadline = float("inf")
    owner.leave.set()
    lender.join(PATIENCE)
    eventually(lambda: owner.wakes > before)


def test_an_earlier_deadline_set_in_a_lent_turn_rings_the_owner(owner) -> None:
    asleep(owner)
    turn, before = owner.channel.turn, owner.wakes

    def sooner() -> bool:
        owner.channel.deadline = time.monotonic() + 0.01
        return turn()

    owner.channel.turn = sooner
    owner.channel.lend("x")
    eventually(lambda: owner.wakes >= before + 2)  # rung to arm the new deadline, then by it


def test_a_deadline_that_lent_turns_have_moved_is_slept_through_without_a_turn(owner) -> None:
    owner.channel.deadline = time.monotonic() + 0.1
    owner.channel.post("arm")
    eventually(lambda: owner.seen == ["arm"])
    asleep(owner)
    turn, before, soon = owner.channel.turn, owner.wakes, owner.channel._armed

    def later() -> bool:
        owner.channel.deadline = soon + 60
        return turn()

    owner.channel.turn = later
    owner.channel.lend("x")
    eventually(lambda: owner.channel._armed > soon)
    assert (owner.wakes, owner.channel._asleep) == (before, True)


def test_what_lies_in_the_inbox_is_found_when_a_deadline_passes_that_was_moved(owner) -> None:
    owner.channel.deadline = time.monotonic() + 0.05
    owner.channel.post("arm")
    eventually(lambda: owner.seen == ["arm"])
    asleep(owner)
    owner.channel.deadline = float("inf")
    owner.channel.whisper("lies there", 1)
    eventually(lambda: owner.seen == ["arm", "lies there"])
    assert owner.by == ["owner", "owner"]


def test_an_owner_that_must_end_is_rung(owner) -> None:
    asleep(owner)
    owner.must_go_on, before = True, owner.wakes
    owner.channel.lend("last")
    eventually(lambda: owner.wakes > before)


def test_a_frozen_owner_is_not_run_by_others(owner) -> None:
    asleep(owner)
    owner.channel.pause()
    owner.channel.lend("beat")
    assert owner.seen == []
    owner.channel.resume()
    eventually(lambda: owner.seen == ["beat"])


def test_a_closed_channel_takes_nothing(owner) -> None:
    owner.channel.close()
    assert not owner.channel.lend("late")


class Careless(LendingChannel):
    """The planted bug: it lends the turn and leaves the owner looking asleep."""

    def lend(self, item) -> bool:
        with self._lock:
            self._items.append(item)
            lent = self._asleep
        if lent and self.turn is not None:
            self.turn()
        return True


@pytest.mark.parametrize(("kind", "overlaps"), [(LendingChannel, 0), (Careless, 1)])
def test_two_senders_never_run_the_turn_at_once_and_the_test_would_see_it(kind, overlaps, owner) -> None:
    asleep(owner)
    owner.channel.__class__ = kind
    owner.leave.clear()
    owner.enter.clear()
    first = threading.Thread(target=owner.channel.lend, args=("first",))
    first.start()
    owner.enter.wait(PATIENCE)
    owner.channel.lend("second")
    owner.leave.set()
    first.join(PATIENCE)
    assert owner.overlaps == overlaps


def test_every_item_is_handled_once_and_in_the_order_of_its_sender(owner) -> None:
    count = 400

    def send(kind: str) -> None:
        for number in range(count):
            call = owner.channel.lend if number % 3 else owner.channel.post
            call((kind, number))

    senders = [threading.Thread(target=send, args=(kind,), daemon=True) for kind in "abcd"]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join(PATIENCE)
    eventually(lambda: len(owner.seen) == 4 * count)
    assert owner.overlaps == 0
    assert max(Counter(owner.seen).values()) == 1
    for kind in "abcd":
        assert [number for one, number in owner.seen if one == kind] == list(range(count))


# -- who gets work by a turn -------------------------------------------------------------------------------------------


def test_what_is_left_wakes_nobody_until_the_owner_is_roused(owner) -> None:
    asleep(owner)
    owner.channel.leave(["job", "next"])
    assert owner.channel._asleep
    rouse(owner.channel)
    eventually(lambda: owner.seen == ["job", "next"])
    assert owner.by == ["owner", "owner"]


def test_an_owner_for_whom_nothing_was_left_sleeps_on(owner) -> None:
    asleep(owner)
    before = owner.wakes
    rouse(owner.channel)
    assert owner.channel._asleep
    assert owner.wakes == before


def test_an_owner_that_is_awake_finds_what_was_left(owner) -> None:
    owner.leave.clear()
    owner.channel.post("first")
    owner.enter.wait(PATIENCE)
    owner.channel.leave(["job"])
    owner.leave.set()
    eventually(lambda: owner.seen == ["first", "job"])


def test_nothing_is_left_at_a_closed_channel(owner) -> None:
    owner.channel.close()
    owner.channel.leave(["late"])
    assert owner.channel.take() == []


def test_a_lender_rouses_whom_a_turn_gave_work_only_when_it_has_sent_what_it_had(owner) -> None:
    peer = LendingChannel()
    peer._asleep, heard = True, []

    def turn() -> bool:
        owner.channel.leave(peer.take())
        rouse(owner.channel)
        return False

    def wire() -> None:
        become_lender()
        peer.post("job")
        lend_all()
        heard.append(owner.channel._asleep)
        rouse_all()
        heard.append(owner.channel._asleep)

    peer.turn = turn
    asleep(owner)
    owner.leave.clear()  # once awake, it stays so
    lender = threading.Thread(target=wire)
    lender.start()
    lender.join(PATIENCE)
    assert heard == [True, False]
    owner.leave.set()
    eventually(lambda: owner.seen == ["job"])
