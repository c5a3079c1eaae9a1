"""Saving and loading a machine's state: what ``Replica`` does around the machine's own three functions.

    machine's actor   capture(state) -> image         between two commands; the machine waits
    worker            dump(image, file)               meanwhile commands go on
    worker            load(file) -> state             meanwhile reads go on with the old state
    machine's actor   Replica.adopt(state, index)     at once

What the user's code raises passes as it is: whoever calls decides what becomes of it.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

from raft_actors.breathing import REST
from raft_actors.errors import Incompatible
from raft_actors.state_files import StateInput, StateOutput
from raft_actors.state_images import using
from raft_actors.state_machine import StateMachine

if TYPE_CHECKING:
    from raft_actors.codec import Codec

__all__ = ["LONG", "MachineSnapshots", "require_whole"]

logger = logging.getLogger("raft_actors")

LONG = 0.1
"""A machine that is held up for longer, in seconds, says so in the log."""


class MachineSnapshots:
    """Takes and reads images of the states of one machine; any thread may call it.

    Args:
        machine: the instance.
        name: its peer.
        codec: the peer's codec.
    """

    def __init__(self, machine: StateMachine[Any, Any], name: str, codec: Codec) -> None:
        self._machine = machine
        self._name = name
        self._codec = codec

    def capture(self, state: Any) -> Any:
        """Return the machine's image of ``state``."""
        began = time.perf_counter()
        with using(self._codec):
            image = self._machine.snapshot(state)
        took = time.perf_counter() - began
        if took > LONG:
            logger.warning(
                "peer %s: no command could be applied for %.2f s while %s captured its state; "
                "raft_actors/docs/snapshots.md says how to make that short",
                self._name,
                took,
                type(self._machine).__name__,
            )
        return image

    def dump(self, image: Any, file: Any) -> None:
        """Let the machine write ``image`` to ``file``, which has ``write``."""
        with using(self._codec):
            self._machine.dump(image, StateOutput(file, self._codec, pause=REST))

    def load(self, file: Any) -> Any:
        """Return the state that the machine reads from ``file``.

        Args:
            file: has ``read``, ``readinto`` and ``readline``, and ``version``, that of the machine that wrote it.

        Raises:
            Incompatible: it was written by a newer machine, or is no state of this codec.
        """
        machine, version = self._machine, getattr(file, "version", 0)
        if version > machine.version:
            kind = type(machine).__name__
            raise Incompatible(
                f"peer {self._name!r} cannot load a state that version {version} of {kind} has written: "
                f"it has version {machine.version}",
                advice=f"start it with version {version} of {kind}, or a newer one",
            )
        with using(self._codec):
            return machine.load(StateInput(file, self._codec, version))


def require_whole(machine: StateMachine[Any, Any]) -> None:
    """Check that ``machine`` can load what it dumps.

    Raises:
        TypeError: it has one of the two only, or a version that is no version.
    """
    kind = type(machine)
    dumps, loads = kind.dump is not StateMachine.dump, kind.load is not StateMachine.load
    if dumps and not loads:
        raise TypeError(
            f"{kind.__name__} has dump but not load: add load(self, file), which returns the state that dump wrote"
        )
    if loads and not dumps:
        raise TypeError(
            f"{kind.__name__} has load but not dump: add dump(self, image, file), which writes what load reads"
        )
    version: object = machine.version
    if type(version) is not int or version < 0:
        raise TypeError(f"{kind.__name__}.version must be an int of 0 or more, not {version!r:.100}")
