"""For every check of changes of membership a scene that breaks it and nothing else."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from raft_actors.protocol.changes import AddMember
from raft_actors.protocol.configuration import Configuration, encode
from raft_actors.protocol.effects import ChangeAnswer
from raft_actors.protocol.entry import Entry, EntryKind
from raft_actors.testing.simulation.membership import Wanted, require_step
from tests.behaviours.bench import THREE, configuration
from tests.simulation.observing import entries_of, violates
from tests.simulation.scenes_runs import well

TWO = Configuration(configuration("s1", "s2").voters, THREE.voters)
"""A step from s1, s2 and s3 to s1 and s2."""


def appends(new: Configuration, *, term: int = 2, commit: int = 3) -> None:
    """A leader with entries of the terms 1, 1 and 2 appends a configuration."""
    node: Any = SimpleNamespace(name="s1", engine=SimpleNamespace(state=SimpleNamespace(commit_index=commit)))
    entry = Entry(4, term, EntryKind.CONFIGURATION, 0.0, encode(new))
    require_step(node, entry, entries_of((1, 1, 2)))


def test_what_is_in_order_is_let_pass() -> None:
    appends(TWO)


@violates("one step", "majorities of both need not meet")
def the_members_change_at_once() -> None:
    appends(configuration("s1", "s2"))


@violates("one change at a time", "the one before it, 1, is not committed")
def a_configuration_follows_one_that_is_not_committed() -> None:
    appends(TWO, commit=0)


@violates("one change at a time", "has committed nothing of its term 2")
def a_new_leader_changes_the_members_at_once() -> None:
    appends(TWO, commit=2)


@violates("exactly one answer", "s2 answers ChangeAnswer(token=1")
def who_wants_other_members_is_answered_twice() -> None:
    well().nodes["s2"].changed(ChangeAnswer(1))


@violates("right answer", "says that AddMember(name='s9', learner=False) is done")
def who_wants_another_member_is_told_that_it_is_one() -> None:
    node = well().nodes["s2"]
    node.wanted = {1: Wanted(AddMember("s9"), None)}
    node.changed(ChangeAnswer(1))
