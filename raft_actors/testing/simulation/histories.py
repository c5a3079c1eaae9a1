"""What callers saw, as a history: in the words of a model that can be checked, if the machine has one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from raft_actors.errors import CommandFailed
from raft_actors.machines import KV
from raft_actors.testing.history import Operation
from raft_actors.testing.simulation.clients import Request
from raft_actors.testing.simulation.ledger import Ledger

__all__ = ["history_of", "model_of"]

Translation = Callable[[str, Any, Any], tuple[str, Any, Any, Any] | None]
"""From kind, command and reply to op, key, value and output; ``None`` for what the model does not know."""


def model_of(machine: object) -> str | None:
    """The model of ``check_linearizable`` that fits a machine, if there is one."""
    return next((model for kind, model, _ in _MODELS if type(machine) is kind), None)


def history_of(requests: Sequence[Request], machine: object) -> list[Operation]:
    """The history of a run.

    Args:
        requests: all of them.
        machine: an instance of the machine, which decides about the words.
    """
    translate = next((one for kind, _, one in _MODELS if type(machine) is kind), _as_it_is)
    history = []
    for request in requests:
        failed = isinstance(request.output, CommandFailed)
        output = None if request.status != "ok" or failed else request.output
        words = None if failed else translate(request.kind, request.value, output)
        if words is not None:
            op, key, value, output = words
            status = request.status or "unknown"
            history.append(Operation(request.client, op, key, value, output, request.call, request.ret, status))
    return history


def _as_it_is(kind: str, command: Any, reply: Any) -> tuple[str, Any, Any, Any]:
    return kind, None, command, reply


def _ledger(kind: str, command: Any, reply: Any) -> tuple[str, Any, Any, Any]:
    if kind == "read":
        return "read", command[1], None, reply
    return "append", command[1], command[2], None


def _kv(kind: str, command: Any, reply: Any) -> tuple[str, Any, Any, Any] | None:
    match command:
        case ("set", key, value):
            return "write", key, value, None
        case ("delete", key):
            return "write", key, None, None
        case ("cas", key, old, new):
            return "cas", key, (old, new), reply
        case ("get", key):
            return "read", key, None, reply
    return None


_MODELS: tuple[tuple[type, str, Translation], ...] = ((Ledger, "append", _ledger), (KV, "kv", _kv))
