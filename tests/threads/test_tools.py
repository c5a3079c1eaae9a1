"""The look at what is left behind must see what is left behind."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pykka
import pytest

from raft_actors import names
from storage_adapters import LMDBAdapter
from tests.threads import tools
from tests.threads.tools import assert_nothing_left, wait_until


@contextmanager
def a_thread(_: Path) -> Iterator[None]:
    with _running("raft-writer-s1"):
        yield


@contextmanager
def a_thread_for_snapshots(_: Path) -> Iterator[None]:
    with _running("raft-snapshots-s1"):
        yield


@contextmanager
def _running(name: str) -> Iterator[None]:
    end = threading.Event()
    thread = threading.Thread(target=end.wait, name=name)
    thread.start()
    yield
    end.set()
    thread.join()


@contextmanager
def a_name(_: Path) -> Iterator[None]:
    names.register("forgotten", object())
    yield
    names.unregister("forgotten")


@contextmanager
def an_actor(_: Path) -> Iterator[None]:
    ref = pykka.ThreadingActor.start()
    yield
    ref.stop()


@contextmanager
def a_lock(tmp_path: Path) -> Iterator[None]:
    with LMDBAdapter(tmp_path / "store"):
        yield


@pytest.mark.parametrize("leftover", [a_thread, a_thread_for_snapshots, a_name, an_actor, a_lock])
def test_a_planted_leftover_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, leftover: Callable[[Path], ExitStack]
) -> None:
    monkeypatch.setattr(tools, "wait_until", lambda condition, timeout, what: wait_until(condition, 0.05, what))
    assert_nothing_left()
    with leftover(tmp_path), pytest.raises(AssertionError):
        assert_nothing_left()
    assert_nothing_left()
