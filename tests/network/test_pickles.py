"""Without keys nobody is trusted: no pickle is loaded, whether a client submits it or a leader has it in its log."""

from __future__ import annotations

import contextlib
import pickle

from raft_actors.protocol.entry import Entry, EntryKind
from raft_actors.protocol.messages import AppendEntries
from raft_actors.protocol.types import LogPosition
from raft_actors.transport.frames import Answer, Failed, Letter, Post, Submit
from tests.network.guarded import PLAIN, Guarded, Stranger, Touch
from tests.processes.tools import eventually


def test_without_keys_no_pickle_that_is_submitted_is_loaded(tmp_path) -> None:
    mark = tmp_path / "loaded"
    data = pickle.dumps(("set", "a", Touch(mark)))
    node = Guarded(tmp_path, keyed=False)
    with contextlib.closing(node), Stranger(node) as guest:
        for codec in ("cloudpickle", "plain"):
            assert isinstance(guest.asks(Submit(data, codec)), Failed)
        assert isinstance(guest.writes("after", 1), Answer)
    assert not mark.exists()


def as_its_leader(node: Guarded, *commands: bytes) -> Post:
    """What s1 is told by somebody who says that it leads: to append these, and that they are committed."""
    seen = node.seen()
    last, term = LogPosition(*seen["last"]), seen["term"] + 1
    entries = [Entry(index, term, EntryKind.COMMAND, 4e9, data) for index, data in enumerate(commands, last.index + 1)]
    header = {"cluster": seen["cluster"], "sender": "s9", "incarnation": "x", "receiver": "", "term": term}
    end = entries[-1].index
    return Post("", (Letter("s1", AppendEntries(**header, previous=last, entries=tuple(entries), commit_index=end)),))


def test_without_keys_no_pickle_is_loaded_that_came_as_an_entry_of_the_log(tmp_path) -> None:
    mark = tmp_path / "loaded"
    node = Guarded(tmp_path, keyed=False)
    with contextlib.closing(node), Stranger(node) as guest:

        def reads_after(command: bytes) -> Answer | Failed | None:
            guest.send(as_its_leader(node, command))  # it may lead again by then, and not hear this one
            return guest.reads("smuggled", "stale")

        sound = PLAIN.encode(("set", "smuggled", 1))
        eventually(lambda: getattr(reads_after(sound), "value", None) == PLAIN.encode(1))
        pickled = pickle.dumps(("set", "a", Touch(mark)))
        eventually(lambda: "cannot apply entry" in getattr(reads_after(pickled), "text", ""))
    assert not mark.exists()
