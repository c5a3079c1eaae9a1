"""Names of peers: the rule for them, and who of this process answers to which.

A name is a folder, a key and part of an address at once, hence the narrow rule. The registry is Erlang's: register,
whereis, unregister. It knows nothing about what is registered.
"""

from __future__ import annotations

import threading

from raft_actors.errors import AlreadyStarted, InvalidName
from raft_actors.protocol.types import NAME_RULE

__all__ = ["check_name", "forget_all", "names", "register", "replace", "unregister", "whereis"]

_lock = threading.Lock()
_registry: dict[str, object] = {}


def check_name(name: object) -> str:
    """Return ``name`` if it can be the name of a peer.

    Raises:
        InvalidName: it is not a string of 1-64 ASCII letters, digits, ``_ - .``, or starts with a dot.
    """
    if isinstance(name, str) and NAME_RULE.fullmatch(name):
        return name
    raise InvalidName(f"{name!r:.100} is not a name of a peer")


def register(name: str, value: object) -> None:
    """Give ``name`` to ``value``.

    Raises:
        InvalidName: nobody can have this name.
        AlreadyStarted: the name is in use.
    """
    check_name(name)
    with _lock:
        if name in _registry:
            raise AlreadyStarted(name)
        _registry[name] = value


def whereis(name: str) -> object | None:
    """Return what is registered under ``name``, or ``None``."""
    return _registry.get(name)  # one atomic read: needs no lock


def replace(name: str, old: object, new: object) -> bool:
    """Let ``new`` take over ``name`` if ``old`` has it (the name is never free in between).

    Returns:
        Whether it was taken over.
    """
    with _lock:
        if _registry.get(name) is not old:
            return False
        _registry[name] = new
        return True


def unregister(name: str, value: object | None = None) -> bool:
    """Free ``name``; with ``value``, only if it still belongs to that value.

    Returns:
        Whether the name was in use and is free now.
    """
    with _lock:
        if name not in _registry or (value is not None and _registry[name] is not value):
            return False
        del _registry[name]
        return True


def forget_all() -> None:
    """In a forked child: nobody of the parent is here, and its lock may be held by a thread that is not."""
    global _lock, _registry
    _lock, _registry = threading.Lock(), {}


def names() -> tuple[str, ...]:
    """Return the names in use, in the order of their registration."""
    with _lock:
        return tuple(_registry)
