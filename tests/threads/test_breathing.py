"""Long work on a state lets other threads run: measured by one that wants to run every millisecond."""

from __future__ import annotations

import gc
import io
import pickle
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from raft_actors import codec
from raft_actors.breathing import STRETCH, Breath
from raft_actors.machine_actor import Replica
from raft_actors.machines import KV

SWITCH = 0.05
"""So long, in seconds, a thread must ask for the interpreter here before it is let in: ten times longer than usual."""
SHORT = SWITCH / 4
"""Far above the millisecond that is meant, and far below what nobody who asks can miss."""
FREE = STRETCH / 2
"""In so short a time nobody was waited for who worked."""


@pytest.fixture(autouse=True)
def reluctant_switches() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH)
    yield
    sys.setswitchinterval(before)


@pytest.fixture
def no_breath(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Breath, "take", lambda _: None)


def typical_wait(work: Callable[[], Any]) -> float:
    """How long another thread waits for the interpreter while this one works for half a second, if it waits at all.

    Where the system gives this one no processor, the other finds the interpreter free, again and again.
    """
    waits: list[float] = []
    ready, stop, never = threading.Event(), threading.Event(), threading.Event()

    def want() -> None:
        ready.set()
        while not stop.is_set():
            began = time.perf_counter()
            never.wait(0.001)
            waits.append(time.perf_counter() - began - 0.001)

    other = threading.Thread(target=want)
    other.start()
    ready.wait()
    waits.clear()  # where it takes us long to wake, the other one has run alone all the while
    end = time.perf_counter() + 0.5
    while time.perf_counter() < end:
        work()
    stop.set()
    other.join()
    return statistics.median([wait for wait in waits if wait > FREE] or waits)


ATOMS: dict[str, Any] = {f"key {number}": b"x" * 100 for number in range(300_000)}
LISTS: dict[str, Any] = {f"key {number}": [b"x" * 20, number] for number in range(100_000)}
SHARED: dict[str, Any] = {**LISTS, "shared": LISTS["key 0"]}
NESTED: dict[str, Any] = {"users": LISTS, "index": {"by name": ATOMS}}


class Written(KV):
    """Writes its state itself, and breathes only by the file it is given."""

    def dump(self, image: Any, file: Any) -> None:
        for item in image.items():
            pickle.dump(item, file)
        pickle.dump(None, file)

    def load(self, file: Any) -> Any:
        return dict(iter(lambda: pickle.load(file), None))


class AsItIs(KV):
    """Its state is its image: nobody changes it here."""

    def snapshot(self, state: Any) -> Any:
        return state


class Nowhere:
    """A file that keeps nothing."""

    def write(self, data: bytes) -> None:
        pass


def replica(state: Any, name: str = "cloudpickle", machine: type[KV] = KV) -> Replica:
    made = Replica(machine(), "s1", codec.resolve(name))
    made.adopt(state, 1)
    return made


def capturing(one: Replica) -> Callable[[], Any]:
    return one.capture


def dumping(one: Replica) -> Callable[[], Any]:
    image = one.capture()
    return lambda: one.dump(image, Nowhere())


def loading(one: Replica) -> Callable[[], Any]:
    file = io.BytesIO()
    one.dump(one.capture(), file)

    def load() -> None:
        file.seek(0)
        one.load(file)

    return load


WORK: dict[str, Callable[[], Callable[[], Any]]] = {
    "capturing atoms": lambda: capturing(replica(ATOMS)),
    "capturing lists": lambda: capturing(replica(LISTS)),
    "capturing shared lists": lambda: capturing(replica(SHARED)),
    "capturing nested lists": lambda: capturing(replica(NESTED)),
    "capturing lists in plain": lambda: capturing(replica(LISTS, "plain")),
    "dumping atoms": lambda: dumping(replica(ATOMS)),
    "dumping atoms in plain": lambda: dumping(replica(ATOMS, "plain")),
    "dumping lists": lambda: dumping(replica(LISTS, machine=AsItIs)),
    "dumping a format of its own": lambda: dumping(replica(ATOMS, machine=Written)),
    "loading atoms": lambda: loading(replica(ATOMS)),
    "loading atoms in plain": lambda: loading(replica(ATOMS, "plain")),
    "loading shared lists": lambda: loading(replica(SHARED)),
    "loading a format of its own": lambda: loading(replica(ATOMS, machine=Written)),
}


@pytest.mark.parametrize("work", WORK.values(), ids=WORK.keys())
def test_other_threads_run_while_a_state_is_worked_on(work) -> None:
    assert typical_wait(work()) < SHORT


@pytest.mark.usefixtures("no_breath")
@pytest.mark.parametrize(
    "name", ["capturing atoms", "capturing lists", "dumping atoms", "dumping lists", "loading atoms"]
)
def test_without_breathing_they_wait_until_the_interpreter_is_taken_away(name) -> None:
    assert typical_wait(WORK[name]()) > SHORT


def test_a_whole_state_in_one_call_keeps_everybody_waiting() -> None:
    assert typical_wait(lambda: pickle.dumps(ATOMS, 5)) > SHORT


def full_collections(work: Callable[[], Any]) -> int:
    """How often the garbage collector goes through all there is while ``work`` is done."""
    seen: list[int] = []

    def note(phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            seen.append(info["generation"])

    gc.collect()  # what was made before is not its doing
    gc.callbacks.append(note)
    try:
        kept = work()
    finally:
        gc.callbacks.remove(note)
    del kept
    return seen.count(2)


def test_the_garbage_collector_does_not_go_through_all_that_is_being_loaded() -> None:
    one = replica({number: [number] for number in range(300_000)})
    file = io.BytesIO()
    one.dump(one.capture(), file)

    def load() -> Any:
        file.seek(0)
        return one.load(file)

    assert full_collections(load) == 0
    gc.freeze()
    try:
        assert full_collections(load) > 0
        assert gc.get_freeze_count() > 0  # it is the user's
    finally:
        gc.unfreeze()


def test_a_breath_is_taken_only_after_a_stretch_of_work(monkeypatch: pytest.MonkeyPatch) -> None:
    now, pauses = [0.0], []
    monkeypatch.setattr("raft_actors.breathing.time.perf_counter", lambda: now[0])
    monkeypatch.setattr("raft_actors.breathing.time.sleep", pauses.append)
    monkeypatch.setattr("raft_actors.breathing.threading.active_count", lambda: 2)  # somebody waits
    breath = Breath()
    for now[0] in (0.0, STRETCH / 2, STRETCH * 0.99):
        breath.take()
    assert not pauses
    for now[0] in (STRETCH, STRETCH * 1.5, STRETCH * 2.5):
        breath.take()
    assert len(pauses) == 2
    assert all(pause > 0 for pause in pauses)  # a sleep of nothing often lets nobody in
