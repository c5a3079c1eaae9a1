"""What all errors of the library share: a text with advice, copies, pickles, and how foreign ones are described."""

from __future__ import annotations

import pickle
import traceback as _traceback
from typing import ClassVar, Self, TypeVar

__all__ = ["RaftError", "RemoteError", "text_of"]

_Error = TypeVar("_Error", bound="RaftError")


class RaftError(Exception):
    """The root of all errors of this library.

    Args:
        message: what happened, naming the peer or the field; the class's own summary if empty.
        advice: what to do about it; the class's own advice if empty.
    """

    summary: ClassVar[str] = "something went wrong in raft_actors"
    advice: ClassVar[str] = "see the log of the logger 'raft_actors'"

    def __init__(self, message: str = "", *, advice: str = "") -> None:
        super().__init__(f"{message or self.summary}: {advice or self.advice}")

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else self.summary

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions are rebuilt from their attributes, not by their constructors: the text is composed only once.
        portable = {name: value for name, value in self.__dict__.items() if not name.startswith("_")}
        return _rebuild, (type(self), self.args, portable, _portable(self.__cause__))

    def __copy__(self) -> Self:
        """Return an equal error with the same cause and traceback, to be raised in another place."""
        copied = _rebuild(type(self), self.args, self.__dict__, self.__cause__)
        copied.__suppress_context__ = self.__suppress_context__
        return copied.with_traceback(self.__traceback__)


def _rebuild(
    kind: type[_Error], args: tuple[object, ...], attributes: dict[str, object], cause: BaseException | None
) -> _Error:
    """Make an error of ``kind`` without running its constructor."""
    error = kind.__new__(kind)
    error.args = args
    error.__dict__.update(attributes)
    if cause is not None:
        error.__cause__ = cause
    return error


def _portable(cause: BaseException | None) -> BaseException | None:
    """Return ``cause`` if it survives a pickle, else a description of it that does."""
    if cause is None:
        return None
    try:
        pickle.loads(pickle.dumps(cause))
    except Exception:  # noqa: BLE001 - a user's exception may fail in any way
        return RemoteError.of(cause)
    return cause


class RemoteError(RaftError):
    """An exception of another process, described: it is only ever the ``__cause__`` of another error.

    Attributes:
        type_name: the name of its class.
        message: its text.
        traceback: its formatted traceback, possibly empty.
    """

    def __init__(self, type_name: str, message: str, traceback: str = "") -> None:
        super().__init__()
        self.args = (f"{type_name}: {message}",)
        self.type_name = type_name
        self.message = message
        self.traceback = traceback

    @classmethod
    def of(cls, exception: BaseException) -> RemoteError:
        """Return the description of ``exception``."""
        if isinstance(exception, RemoteError):
            return exception
        lines = _traceback.format_exception(type(exception), exception, exception.__traceback__)
        return cls(type(exception).__name__, text_of(exception), "".join(lines))


def text_of(exception: BaseException) -> str:
    """Return ``str(exception)``, also of one whose own ``__str__`` fails."""
    try:
        return str(exception)
    except Exception:  # noqa: BLE001 - a user's exception may fail in any way
        return "<its text cannot be shown>"
