"""What clients saw: the operations of a history, the verdict on it, and its picture.

Rule: an operation is what one client knows, no more. ``"ok"`` is an answer, ``"fail"`` certainly had no effect, and
``"unknown"`` may take effect at any time after its call, or never. One operation precedes another only if it returned
*strictly* before the other was called; equal times are concurrent, so a coarse clock never raises a false alarm.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Operation", "Verdict", "timeline"]

WORDS = {
    "append": ("append", "read"),
    "register": ("write", "read", "cas"),
    "kv": ("write", "read", "cas"),
}
"""The operations that each model understands."""

STATUSES = ("ok", "fail", "unknown")
DRAWN_AT_MOST = 40


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of one client.

    Attributes:
        client: who called; a lane of the timeline. One client may have several operations under way.
        op: ``"append"`` or ``"read"`` (model append); ``"write"``, ``"read"`` or ``"cas"`` (models register and kv).
        key: the object that was used; ``None`` for the only one there is.
        value: what was appended or written; ``(old, new)`` of a cas.
        output: what a read returned (model append: a list), whether a cas was done (bool).
        call: when it was called, on any one clock that never goes back.
        ret: when it returned, on the same clock; ``None`` if it never did.
        status: ``"ok"``, ``"fail"`` (certainly without effect) or ``"unknown"`` (perhaps, and at any time after call).
    """

    client: Any
    op: str
    key: Any
    value: Any
    output: Any
    call: float
    ret: float | None
    status: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a history is linearizable; true or false where a condition is expected.

    Attributes:
        ok: True if some order of the operations explains everything that was seen.
        detail: one line if ok, else why not with a timeline of the smallest failing sub-history that was found.
        counterexample: the operations of that sub-history. Lists that were read are cut to the values that matter.
    """

    ok: bool
    detail: str
    counterexample: tuple[Operation, ...] = ()

    def __bool__(self) -> bool:
        return self.ok


@dataclass(frozen=True, slots=True)
class Finding:
    """Operations of one key that no order explains, and how to show them."""

    reason: str
    operations: Sequence[Operation]
    labels: Sequence[str] = field(default=())


def describe(op: Operation) -> str:
    """Say in a few characters what the operation did."""
    text = f"{op.op} {short(op.value)}"
    if op.op == "cas":
        text = f"cas {short(op.value[0])}->{short(op.value[1])}" + (f": {op.output}" if op.status == "ok" else "")
    elif op.op == "read":
        text = f"read -> {short(op.output)}" if op.status == "ok" else "read"
    return text if op.status == "ok" else f"{text} ({op.status})"


def short(value: object) -> str:
    """Return the ``repr`` of a value, cut in the middle if it is long."""
    text = repr(value)
    return text if len(text) <= 32 else text[:15] + ".." + text[-15:]


def freeze(value: Any) -> Any:
    """Return a hashable stand-in that is equal exactly when the values are (by ``repr`` where nothing better is)."""
    if isinstance(value, list | tuple):
        return ("list" if isinstance(value, list) else "tuple", *map(freeze, value))
    if isinstance(value, dict):
        return ("dict", frozenset((freeze(k), freeze(v)) for k, v in value.items()))
    if isinstance(value, set | frozenset):
        return ("set", frozenset(map(freeze, value)))
    try:
        hash(value)
    except TypeError:
        return ("repr", type(value).__qualname__, repr(value))
    return value


def by_key(history: Iterable[Operation], model: str) -> dict[Any, list[Operation]]:
    """Check every operation and sort them by key, in order of first appearance.

    Raises:
        ValueError: an unknown model, or an operation with a field that is missing or makes no sense; names the field.
    """
    if model not in WORDS:
        raise ValueError(f"model: {model!r} is none of {', '.join(WORDS)}")
    keys: dict[Any, list[Operation]] = {}
    for number, op in enumerate(history):
        problem = _problem(op, model)
        if problem:
            raise ValueError(f"operation {number}: {problem}")
        keys.setdefault(freeze(op.key), []).append(op)
    if None in keys and len(keys) > 1:
        raise ValueError("key: some operations have one and some have none")
    return keys


def _problem(op: Any, model: str) -> str | None:
    if not isinstance(op, Operation):
        return f"{op!r} is not an Operation"
    if op.op not in WORDS[model]:
        return f"op: {op.op!r} is none of {', '.join(WORDS[model])} (model {model})"
    if op.status not in STATUSES:
        return f"status: {op.status!r} is none of {', '.join(STATUSES)}"
    if op.key is None and model == "kv":
        return "key: missing"
    return _time_problem(op) or _value_problem(op, model)


def _time_problem(op: Operation) -> str | None:
    times: tuple[tuple[str, Any], ...] = (("call", op.call), ("ret", op.ret))
    for name, time in times:
        if time is None and (name == "call" or op.status == "ok"):
            return f"{name}: missing"
        if time is not None and (not isinstance(time, int | float) or math.isnan(time)):
            return f"{name}: {time!r} is not a time"
    if op.ret is not None and op.ret < op.call:
        return f"ret: {op.ret} is before call {op.call}"
    return None


def _value_problem(op: Operation, model: str) -> str | None:
    if op.op == "append" and op.value is None:
        return "value: missing"
    if op.op == "cas" and not (isinstance(op.value, list | tuple) and len(op.value) == 2):
        return f"value: {op.value!r} of a cas is not a pair (old, new)"
    if op.op == "cas" and op.status == "ok" and not isinstance(op.output, bool):
        return f"output: {op.output!r} of a cas is not a bool"
    if op.op == "read" and model == "append" and op.status == "ok" and not isinstance(op.output, list | tuple):
        return f"output: {op.output!r} of a read is not a list"
    return None


def refuse(key: Any, finding: Finding, count: int) -> Verdict:
    """Make the verdict on a history of ``count`` operations out of what was found under ``key``."""
    where = "" if key is None else f" at key {key!r}"
    shown = len(finding.operations)
    headline = f"not linearizable{where}: {finding.reason} (shown: {shown} of {count} operations)"
    return Verdict(False, f"{headline}\n{timeline(finding.operations, finding.labels)}", tuple(finding.operations))


def timeline(operations: Sequence[Operation], labels: Sequence[str] = ()) -> str:
    """Draw operations as lanes, one or more per client, with time going right (in order, not to scale).

    ``|-write 1-|`` was called at its left bar and returned at its right one; ``?`` at the right end never gave an
    answer. Below the lanes every operation is listed with its times. Only the last 40 are drawn.

    Args:
        operations: what to draw, in any order.
        labels: what to write on each instead of its own words.
    """
    named = sorted(zip(operations, labels or [describe(op) for op in operations], strict=True), key=_last_seen)
    left_out = len(named) - DRAWN_AT_MOST
    named = sorted(named[-DRAWN_AT_MOST:], key=lambda pair: pair[0].call)
    lines = [f"({left_out} earlier operations are not drawn)"] if left_out > 0 else []
    return "\n".join(lines + _lanes(named) + _listing(named))


def _last_seen(pair: tuple[Operation, str]) -> float:
    op = pair[0]
    return op.call if op.ret is None or op.status == "unknown" else op.ret


def _lanes(named: Sequence[tuple[Operation, str]]) -> list[str]:
    # A call sorts before a return of the same time: equal times are concurrent, and must look so.
    moments = {(op.call, 0) for op, _ in named} | {_end(op) for op, _ in named}
    column = {moment: number for number, moment in enumerate(sorted(moments))}
    spans = [(column[op.call, 0], column[_end(op)], f"|-{label}-") for op, label in named]
    at = _positions(len(column), spans)
    width = max((len(str(op.client)) for op, _ in named), default=0)
    rows: list[tuple[str, str]] = []
    for (op, _), (start, end, text) in zip(named, spans, strict=True):
        bar = text.ljust(at[end] - at[start], "-") + ("?" if _end(op)[0] == math.inf else "|")
        _put(rows, str(op.client), at[start], bar)
    order = list(dict.fromkeys(client for client, _ in rows))
    rows.sort(key=lambda row: order.index(row[0]))
    return [f"{client.rjust(width)}  {row}" for client, row in rows]


def _end(op: Operation) -> tuple[float, int]:
    return (math.inf if op.ret is None or op.status == "unknown" else op.ret, 1)


def _positions(columns: int, spans: Sequence[tuple[int, int, str]]) -> list[int]:
    """Give every moment a character position so that each label fits between its call and its return."""
    at = [0] * columns
    for number in range(1, columns):
        needed = [at[start] + len(text) for start, end, text in spans if end == number]
        at[number] = max([at[number - 1] + 2, *needed])
    return at


def _put(rows: list[tuple[str, str]], client: str, position: int, bar: str) -> None:
    """Draw a bar in the client's first lane that is free there, or in a new one."""
    for number, (owner, row) in enumerate(rows):
        if owner == client and len(row) < position:
            rows[number] = (client, row.ljust(position) + bar)
            return
    rows.append((client, " " * position + bar))


def _listing(named: Sequence[tuple[Operation, str]]) -> list[str]:
    return [f"  {op.call} .. {'never' if op.ret is None else op.ret}  {op.client}: {label}" for op, label in named]
