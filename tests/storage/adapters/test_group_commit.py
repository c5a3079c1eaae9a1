"""Changes that come together are performed together, and nobody returns before his own is done."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from storage_adapters import StorageError
from storage_adapters.group_commit import GroupCommit, Ticket
from tests.storage.adapters.support import run_python

PATIENCE = 30.0


class Disk:
    """Performs groups of names, each when it is let."""

    def __init__(self) -> None:
        self.groups: list[list[str]] = []
        self.begun = threading.Semaphore(0)
        self.go_on = threading.Semaphore(0)
        self.fail: Callable[[Sequence[Ticket[str]]], None] = lambda tickets: None

    def perform(self, tickets: Sequence[Ticket[str]]) -> None:
        self.begun.release()
        assert self.go_on.acquire(timeout=PATIENCE)
        self.groups.append([ticket.change for ticket in tickets])
        self.fail(tickets)


class Caller(threading.Thread):
    """Runs one change in a thread."""

    def __init__(self, group: GroupCommit[str], change: str) -> None:
        super().__init__(daemon=True)
        self.group, self.change = group, change
        self.error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self.group.run(self.change)
        except BaseException as error:
            self.error = error

    def ended(self) -> bool:
        self.join(PATIENCE)
        return not self.is_alive()


def queued(group: GroupCommit[str], count: int) -> None:
    """Wait until so many changes wait for their turn."""
    pause = threading.Event()
    while len(group._queue) < count:
        pause.wait(0.001)


def callers_behind_a_first_one(group: GroupCommit[str], disk: Disk, names: str) -> list[Caller]:
    """The first caller, whose change the disk has begun with, and others whose changes wait, in this order."""
    callers = [Caller(group, "first")]
    assert disk.begun.acquire(timeout=PATIENCE)
    for number, name in enumerate(names, 1):
        callers.append(Caller(group, name))
        queued(group, number)
    return callers


def returned_too_early(kind: type[GroupCommit[Any]]) -> list[str]:
    """Let four changes come while the disk works on a first one; say who returned before the disk had his."""
    disk = Disk()
    group: GroupCommit[str] = kind(disk.perform)
    callers = callers_behind_a_first_one(group, disk, "abcd")
    early = [one.change for one in callers if one.join(0.05) or not one.is_alive()]
    disk.go_on.release()
    assert callers[0].ended()
    assert disk.begun.acquire(timeout=PATIENCE)
    early += [one.change for one in callers[1:] if one.join(0.05) or not one.is_alive()]
    disk.go_on.release()
    assert all(one.ended() for one in callers)
    assert disk.groups == [["first"], ["a", "b", "c", "d"]]
    return early


def test_nobody_returns_before_the_disk_has_his_change_and_all_that_waited_are_one_group() -> None:
    assert returned_too_early(GroupCommit) == []


class AcknowledgesBeforeItCommits(GroupCommit[Any]):
    """The planted bug: those who wait are told at once that all is done."""

    def _lead(self, ticket: Ticket[Any]) -> None:
        with self._mutex:
            ticket.group, self._queue = self._queue, []
        for one in ticket.group:
            one.done = True
            one.wake()
        try:
            self._perform(ticket.group)
        finally:
            self._end(ticket)


def test_the_test_above_sees_a_write_that_returns_before_the_commit() -> None:
    assert returned_too_early(AcknowledgesBeforeItCommits) == ["b", "c", "d"]


def test_an_error_is_raised_to_him_whose_change_it_is_and_to_nobody_else() -> None:
    disk = Disk()
    group: GroupCommit[str] = GroupCommit(disk.perform)

    def fail(tickets: Sequence[Ticket[str]]) -> None:
        for ticket in tickets:
            if ticket.change == "b":
                ticket.error = ValueError("not b")

    disk.fail = fail
    callers = callers_behind_a_first_one(group, disk, "abc")
    disk.go_on.release(2)
    assert all(one.ended() for one in callers)
    assert [repr(one.error) for one in callers] == ["None", "None", "ValueError('not b')", "None"]


def test_what_interrupts_the_one_that_leads_is_an_error_of_all_of_them_and_the_next_group_goes_on() -> None:
    disk = Disk()
    group: GroupCommit[str] = GroupCommit(disk.perform)

    def interrupt(tickets: Sequence[Ticket[str]]) -> None:
        if len(tickets) == 2:
            raise KeyboardInterrupt

    disk.fail = interrupt
    callers = callers_behind_a_first_one(group, disk, "ab")
    disk.go_on.release(3)
    assert all(one.ended() for one in callers)
    assert [type(one.error) for one in callers] == [type(None), KeyboardInterrupt, StorageError]
    assert callers[2].error is not None
    assert callers[2].error.__cause__ is callers[1].error
    group.run("later")
    assert disk.groups == [["first"], ["a", "b"], ["later"]]


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("step", ["_join", "_lead", "_perform", "_end", "_pass_on"])
def test_an_interrupt_between_any_two_steps_leaves_nobody_waiting(step: str, moment: str) -> None:
    disk = Disk()
    group: GroupCommit[str] = GroupCommit(disk.perform)
    whole, left = getattr(group, step), ["once"]

    def interrupted(*arguments: Any) -> None:
        hit = getattr(threading.current_thread(), "change", "") == "hit" and left and left.pop()
        if hit and moment == "before":
            raise KeyboardInterrupt
        whole(*arguments)
        if hit:
            raise KeyboardInterrupt

    callers = [Caller(group, "first")]
    assert disk.begun.acquire(timeout=PATIENCE)
    setattr(group, step, interrupted)
    callers.append(Caller(group, "hit"))
    if step == "_join":
        assert callers[1].ended()
    else:
        queued(group, 1)
    callers.append(Caller(group, "other"))
    queued(group, 1 if step == "_join" else 2)
    disk.go_on.release(9)
    assert all(one.ended() for one in callers)
    assert Caller(group, "later").ended()
    assert [type(one.error) for one in callers[:2]] == [type(None), KeyboardInterrupt]
    done = {name for names in disk.groups for name in names}
    assert callers[2].error is not None or "other" in done
    assert "later" in done


@pytest.mark.parametrize("turn_has_come", [False, True])
def test_a_caller_that_is_interrupted_while_it_waits_leaves_no_gap(turn_has_come: bool) -> None:
    """With a real Ctrl-C, which reaches the main thread while it waits in a lock, or just when its turn has come."""
    program = """
import signal, sys, threading
from storage_adapters.group_commit import GroupCommit

begun, go_on, groups = threading.Event(), threading.Event(), []
main = threading.main_thread().ident

def perform(tickets):
    begun.set()
    go_on.wait(30)
    groups.append([ticket.change for ticket in tickets])

class Watched(GroupCommit):
    def _join(self, ticket):
        super()._join(ticket)
        if ticket.change == "main":
            lock = ticket.turn
            class Turn:
                locked, release = lock.locked, lock.release
                def acquire(self):
                    if sys.argv[1] == "True":
                        go_on.set()
                        lock.acquire()
                    else:
                        threading.Thread(target=signal.pthread_kill, args=(main, signal.SIGINT)).start()
                        lock.acquire()
                    raise KeyboardInterrupt
            ticket.turn = Turn()

group = Watched(perform)
first = threading.Thread(target=group.run, args=("first",))
first.start()
begun.wait(30)
try:
    group.run("main")
except KeyboardInterrupt:
    print("interrupted")
go_on.set()
first.join()
group.run("later")
print(groups[0], groups[-1])
"""
    done = run_python(program, turn_has_come)
    assert done.stdout.splitlines() == ["interrupted", "['first'] ['later']"], done.stderr
