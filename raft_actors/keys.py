"""Who may do what: a folder with a key pair and the list of those who are let in.

::

    DIR/secret.key   ours, 40 characters (Z85), readable by its owner only
    DIR/public.key   to be shown to others
    DIR/allowed      ROLE PUBLIC-KEY NAME, a line each: whom we let in, as what
    DIR/cluster.key  in a guest's folder: the public keys of the cluster, a line each

The list is read again when it changes, so who is taken out of it is refused from then on, on connections that are open
too: roles are looked up for every frame. A list that cannot be read lets nobody in; nor does a line of a peer without
its NAME: it may be one that is just being written.

Roles: ``peer`` is a member of clusters and may do everything, as the peers that ``NAME`` matches (``s1``, ``s*``,
``s1,s2``; ``*``: all). ``admin`` reads, writes and changes the members; ``trusted`` reads and writes with any codec,
pickle included; ``writer`` reads and writes, ``reader`` reads, both in ``plain`` only. Of those, NAME is a remark.
"""

from __future__ import annotations

import fnmatch
import functools
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from raft_actors.errors import InvalidConfig, MissingExtra, Refused

__all__ = ["PEERS", "ROLES", "Guest", "Keyring", "keygen", "stamp_of"]

logger = logging.getLogger("raft_actors")

ROLES = ("peer", "admin", "trusted", "writer", "reader")
PEERS = ("peer", "insecure")
"""Those of nodes and of whoever holds their key, or comes without keys to a node that has none: they may do all."""
EVERYBODY = "*"
KEY_LENGTH = 40
LOOK_AGAIN = 0.25
"""Seconds for which ``cluster.key`` is believed without a look at it."""
FRESH = 2.0
"""Seconds for which a file that was just written is read at every look: the next change may have the same time."""


class Guest(NamedTuple):
    """Somebody on the list."""

    role: str
    name: str

    @functools.lru_cache(4096)  # noqa: B019 - of a value, not of an object
    def may_speak_as(self, peer: str) -> bool:
        """Whether its messages may come from the peer of this short name."""
        return self.role in PEERS and any(fnmatch.fnmatchcase(peer, one) for one in self.name.split(","))

    @property
    def trusted(self) -> bool:
        """Whether bytes of it may be unpickled."""
        return self.role in ("peer", "trusted")


class Keyring:
    """The keys of one folder.

    Args:
        folder: as ``keygen`` made it.

    Attributes:
        version: of what we know of others, as it was read last.

    Raises:
        InvalidConfig: there are no keys, or they are damaged.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self.secret = _key_in(self.folder / "secret.key")
        self.public = _key_in(self.folder / "public.key")
        _check_pair(self)
        self.version = 0
        self._guests: dict[str, Guest] = {}
        self._cluster: list[str] | None = None
        self._paths = (os.path.join(folder, "cluster.key"), os.path.join(folder, "allowed"))
        self._stamp: object = None
        self._seen: object = None
        self._told: set[str] = set()
        self._fresh_until = 0.0
        self._due = float("-inf")

    def guest(self, key: str) -> Guest | None:
        """Who has this public key, by the list as it is now: looked at each time (3 µs), read if it changed."""
        if _stamp(self._paths[1]) != self._seen or time.time() < self._fresh_until:
            self._refresh()
        found = self._guests.get(key)
        if found is None:  # it may just have been written down
            self._refresh()
            found = self._guests.get(key)
        return found

    def warn(self) -> None:
        """Tell of what is allowed and hardly meant."""
        secret = self.folder / "secret.key"
        if os.name == "posix" and secret.stat().st_mode & 0o077:
            logger.warning("%s can be read by others: chmod 600 it", secret)
        if self.guest(self.public) is None:
            logger.warning("%s does not let our own key in: it is hardly meant for a node", self._paths[1])

    def servers(self, peer: str) -> list[str]:
        """Public keys that the node of ``peer`` may have, the likeliest first."""
        self.current()
        fixed = [key for key, guest in self._guests.items() if guest.may_speak_as(peer)]
        fixed.sort(key=lambda key: self._guests[key].name == EVERYBODY)
        found = [*fixed, self.public] if self._cluster is None else [*self._cluster, *fixed]
        return list(dict.fromkeys(found))

    def _refresh(self) -> None:
        """Look at the files, and read them if they are others than before or may be."""
        self._due = time.monotonic() + LOOK_AGAIN
        stamp = (_stamp(self._paths[0]), _stamp(self._paths[1]))
        if stamp == self._stamp and time.time() >= self._fresh_until:
            return
        self._stamp, self._seen = stamp, stamp[1]
        self._fresh_until = FRESH + max((one[1] for one in stamp if one is not None), default=0) / 1e9
        cluster = _lines_of(self._paths[0])
        if cluster != self._cluster:
            self._cluster = cluster
            self.version += 1
        try:
            text = Path(self._paths[1]).read_text(encoding="utf-8")
            self._adopt(dict(_guests(text)))
            self._tell_of_lines(text)
        except (OSError, UnicodeDecodeError):
            self._adopt({})
            self._stamp = None  # it may be readable at the next look

    def _tell_of_lines(self, text: str) -> None:
        lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
        for line in lines:
            if line not in self._told and not dict(_guests(line)):
                self._told.add(line)
                logger.warning("%s: this line lets nobody in: %.60s", self._paths[1], line)

    @property
    def knows_cluster(self) -> bool:
        """Whether there is a ``cluster.key``, or a list with peers."""
        return self._cluster is not None or any(guest.role == "peer" for guest in self._guests.values())

    def _adopt(self, guests: dict[str, Guest]) -> None:
        if guests != self._guests:
            self._guests = guests
            self.version += 1

    def current(self) -> int:
        """The version of the list as it is now."""
        if time.monotonic() >= self._due:
            self._refresh()
        return self.version


def _check_pair(ring: Keyring) -> None:
    import zmq

    try:
        fits = zmq.curve_public(ring.secret.encode("ascii")).decode("ascii") == ring.public
    except (zmq.ZMQError, ValueError):
        fits = False
    if not fits:
        raise _invalid(f"the keys in {ring.folder} do not belong together", "make keys anew with: raft-actors keygen")


def _guests(text: str) -> Iterator[tuple[str, Guest]]:
    """Those on the list; a line that is none lets nobody in."""
    for line in text.splitlines():
        words = line.split()
        if len(words) >= (3 if words[:1] == ["peer"] else 2) and words[0] in ROLES and len(words[1]) == KEY_LENGTH:
            yield words[1], Guest(words[0], words[2] if len(words) > 2 else EVERYBODY)


def _stamp(path: str) -> tuple[int, int, int, int] | None:
    """What tells a file from what it was before; ``None``: it is not there."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino


def _lines_of(path: str) -> list[str] | None:
    """The keys in a file, a line each; none if it cannot be read, ``None`` if it is not there."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError):
        return []
    return [line.strip() for line in text.splitlines() if len(line.strip()) == KEY_LENGTH]


def _key_in(path: Path) -> str:
    try:
        key = path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        raise _invalid(f"there is no {path}", f"make keys with: raft-actors keygen {path.parent}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise _invalid(f"{path} cannot be read: {error}", "give the folder that keygen made") from error
    if len(key) != KEY_LENGTH:
        raise _invalid(f"{path} holds no key", "make keys anew with: raft-actors keygen")
    return key


def stamp_of(folder: str | os.PathLike[str]) -> tuple[str, int, int]:
    """What tells the keys of a folder from others that were there before.

    Raises:
        InvalidConfig: there are no keys.
    """
    path = os.path.join(folder, "secret.key")
    try:
        found = os.stat(path)
    except OSError:
        raise _invalid(f"there is no {path}", f"make keys with: raft-actors keygen {folder}") from None
    return path, found.st_mtime_ns, found.st_ino


def keygen(folder: str | os.PathLike[str], role: str = "peer") -> str:
    """Make a key pair; for a peer also the list of those it lets in, with its own key on it.

    Args:
        folder: where to; made if it is not there.
        role: one of ``ROLES``.

    Returns:
        The line that lets this key in elsewhere.

    Raises:
        Refused: there are keys already, no such role, or no name of a folder.
        MissingExtra: pyzmq is not installed.
        OSError: the folder cannot be written.
    """
    if role not in ROLES:
        raise Refused(f"there is no role {role!r}", advice=f"use one of {', '.join(ROLES)}")
    if not os.fspath(folder):  # it would be the folder of now
        raise Refused("the name of the folder is empty", advice="say where the keys are to be written")
    try:
        import zmq
    except ImportError as error:
        raise MissingExtra("net") from error
    where = Path(folder)
    for name in ("secret.key", "public.key"):
        if (where / name).exists():
            raise Refused(f"{where / name} exists already", advice="take another folder, or remove the old keys first")
    where.mkdir(parents=True, exist_ok=True)
    public, secret = (key.decode("ascii") for key in zmq.curve_keypair())
    _write(where / "secret.key", f"{secret}\n", 0o600)
    _write(where / "public.key", f"{public}\n", 0o644)
    line = f"{role} {public} {EVERYBODY if role == 'peer' else where.absolute().name}"
    if role == "peer" and not (where / "allowed").exists():
        _write(where / "allowed", f"{line}\n", 0o644)
    return line


def _write(path: Path, text: str, mode: int) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w", encoding="ascii") as file:
        file.write(text)


def _invalid(message: str, advice: str) -> InvalidConfig:
    return InvalidConfig(message, fields=("keys",), advice=advice)
