"""For every check of writes in sessions a scene that breaks it and nothing else."""

from __future__ import annotations

from random import Random
from typing import Any

from raft_actors.errors import NotLeader
from raft_actors.protocol.entry import Entry, EntryKind
from raft_actors.protocol.sessions import SessionWrite
from raft_actors.testing.simulation.clients import TAG_BYTES
from raft_actors.testing.simulation.cluster import Cluster
from raft_actors.testing.simulation.sessions import _Caller, _Try, _Write
from tests.simulation.observing import violates
from tests.simulation.scenes_runs import cluster_of


class Caller:
    """A caller with session 1, and its writes."""

    def __init__(self) -> None:
        self.cluster: Cluster = cluster_of()
        self.caller = _Caller(self.cluster.sessions, "session-1", Random(1))
        self.caller.session = 1

    def write(self) -> _Write:
        """One more write."""
        self.caller._begin()
        return list(self.caller.open.values())[-1]

    def applied(self, write: _Write, index: int, reply: Any = "done") -> None:
        """It is committed and applied at ``index``."""
        data = SessionWrite(1, 0, write.sequence, 0, 0, write.number.to_bytes(TAG_BYTES, "big")).encode()
        self.cluster._committed(Entry(index, 1, EntryKind.SESSION, 0.0, data))
        self.cluster.judge.replies[index] = reply

    def answer(self, write: _Write) -> _Try:
        """A try that is under way."""
        write.under_way += 1
        return _Try(self.caller, write, "s1")


@violates("applied once", "was applied at [3, 4]")
def a_write_in_a_session_is_applied_twice() -> None:
    scene = Caller()
    write = scene.write()
    scene.applied(write, 3)
    scene.applied(write, 4)
    scene.cluster.sessions.check_all()


@violates("right answer", "'mine' instead of ['theirs']")
def a_write_in_a_session_gets_another_reply() -> None:
    scene = Caller()
    write = scene.write()
    scene.applied(write, 3, "theirs")
    scene.answer(write).try_set("mine", 5)


@violates("right answer", "but was applied at [3]")
def a_write_in_a_session_is_called_not_applied() -> None:
    scene = Caller()
    write = scene.write()
    scene.answer(write).try_fail(NotLeader("s2"))
    scene.caller._end(write, "fail", NotLeader("s2"))
    scene.applied(write, 3)
    scene.cluster.sessions.check_all()


@violates("right answer", "has a reply, but was not applied")
def a_write_in_a_session_has_a_reply_and_is_nowhere() -> None:
    scene = Caller()
    scene.caller._end(scene.write(), "ok", "done", 3)


@violates("right answer", "ZeroDivisionError")
def a_caller_with_a_session_gets_an_error_that_says_nothing() -> None:
    scene = Caller()
    scene.answer(scene.write()).try_fail(ZeroDivisionError())


@violates("order of a client", "at [4] overtook")
def a_write_overtakes_the_one_before_it() -> None:
    scene = Caller()
    first, second = scene.write(), scene.write()
    second.previous = first
    scene.applied(second, 4, "second")
    scene.applied(first, 5, "first")
    for write in (first, second):
        scene.caller._end(write, "ok", "done", 5)
    scene.cluster.sessions.check_all()
