"""What needs a process of its own: forks, the very end of the interpreter, and a disk that is really full."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import raft_actors as raft
from raft_actors.machines import KV
from tests.processes.tools import PYTHON, finish, one_line, raft_actors
from tests.storage.adapters.conftest import small_disk  # noqa: F401 - a fixture

FORK = """
import contextlib, os, signal, sys, threading
import pykka
import raft_actors as raft
from raft_actors import names
from raft_actors.callbacks import CALLBACKS
from raft_actors.machines import KV
from raft_actors.timekeeper import TIMEKEEPER
from raft_actors.transport.local import LOCAL

def start(name, folder):
    raft.start_peer(KV, name=name, config=raft.Config(data_dir=folder))
    raft.set_configuration(name, [name])
    assert raft.leader(name) == name

def child():
    signal.alarm(20)
    assert names.names() == () and LOCAL._posts == {}
    assert pykka.ActorRegistry.get_all() == []
    pykka.ActorRegistry.stop_all()
    try:
        raft.write("s1", ("set", "k", "of the child"))
    except raft.UnknownPeer:
        pass
    start("s1", "child")
    called = threading.Event()
    late = raft.read("s1", "len", consistency="stale", min_index=10**9, timeout=0.1, block=False)
    late.add_done_callback(lambda _: called.set())
    assert called.wait(10), "nobody watches, or nobody calls back"
    assert raft.write("s1", ("set", "k", 2)) == ("ok", "k", 2)
    raft.stop("s1")

# The worst moment: every lock is held by a thread that the child will not have, a callback is due, a future is watched.
start("s1", "parent")
hanging, held, over = threading.Event(), threading.Event(), threading.Event()
def hang(future):
    hanging.set()
    over.wait()

def tell(future):
    print("called in", os.getpid() == parent, flush=True)

for callback in (hang, tell):
    future = raft.read("s1", "len", consistency="stale", min_index=10**9, block=False)
    future.add_done_callback(callback)
    future.try_fail(raft.Timeout())
assert hanging.wait(10)
watched = raft.read("s1", "len", consistency="stale", min_index=10**9, block=False, timeout=60)
parent = os.getpid()

def hold():
    mailbox = names.whereis("s1").mailbox
    ours = names._lock, LOCAL._lock, TIMEKEEPER._lock, CALLBACKS._starting, mailbox._lock
    with contextlib.ExitStack() as stack:
        for lock in (*ours, pykka.ActorRegistry._actor_refs_lock):
            stack.enter_context(lock)
        held.set()
        over.wait()

holder = threading.Thread(target=hold)
holder.start()
assert held.wait(10)
pid = os.fork()
if pid == 0:
    child()
    print("child done", flush=True)
    os._exit(0)
_, status = os.waitpid(pid, 0)
over.set()
holder.join()
assert raft.write("s1", ("set", "k", 1)) == ("ok", "k", 1)
assert not watched.done()
raft.stop("s1")
start("s1", "parent")
assert raft.read("s1", ("get", "k")) == 1
print("parent done, child ended with", status, flush=True)
"""


def run(folder: Path, program: str) -> list[str]:
    """The lines that a program prints; it says nothing else and ends well."""
    (folder / "program.py").write_text(program)
    done = finish([PYTHON, "program.py"], folder)
    assert (done.returncode, done.stderr) == (0, b""), done.stderr.decode()
    return done.stdout.decode().splitlines()


def test_a_forked_child_has_nothing_of_its_parent_and_disturbs_it_in_nothing(tmp_path: Path) -> None:
    lines = run(tmp_path, FORK)
    assert lines.pop(0) == "child done"
    assert sorted(lines) == ["called in True", "parent done, child ended with 0"]


EXIT = """
import atexit, threading

def look():  # registered first, so it runs last
    from raft_actors import names
    from storage_adapters import lock
    print("left", names.names(), len(lock._held), flush=True)

atexit.register(look)
import raft_actors as raft
from raft_actors.machines import KV

def refuse(thread):
    raise RuntimeError("can't create new thread at interpreter shutdown")

atexit.register(setattr, threading.Thread, "start", refuse)  # runs first: as if this were Python 3.12 or later
for name in ("s1", "s2", "s3"):
    raft.start_peer(KV, name=name, config=raft.Config(data_dir="data"))
raft.set_configuration("s1", ["s1", "s2", "s3"])
raft.leader("s1")
"""


def test_the_end_of_a_program_closes_its_stores_without_starting_a_thread(tmp_path: Path) -> None:
    assert run(tmp_path, EXIT) == ["left () 0"]
    assert run(tmp_path, EXIT) == ["left () 0"]
    for name in ("s1", "s2", "s3"):
        assert raft_actors("verify", f"data/{name}", folder=tmp_path).stdout.startswith(b"ok: peer")


def fill(folder: Path) -> Path:
    """Write a file until there is no room for another byte."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
        while True:
            file.write(bytes(1 << 16))
    return ballast


@pytest.mark.parametrize("storage", ["lmdb", "rocksdb"])
def test_a_healthy_store_on_a_full_disk_is_not_called_damaged(
    small_disk: Callable[..., Path],  # noqa: F811
    tmp_path: Path,
    storage: str,
) -> None:
    disk = small_disk(64)
    raft.start_peer(KV, name="s1", config=raft.Config(data_dir=disk, storage=storage))
    raft.set_configuration("s1", ["s1"])
    for number in range(100):
        raft.write(raft.leader("s1"), ("set", number, "x" * 10_000))
    raft.stop("s1")
    ballast = fill(disk)
    for words in (["verify"], ["verify", "--json"], ["log"]):
        done = raft_actors(*words, disk / "s1", folder=tmp_path)
        if storage == "lmdb":  # it is looked into where it is
            assert (done.returncode, done.stderr) == (0, b"")
            continue
        assert (done.returncode, done.stdout) == (1, b"")
        assert "there is no room for a copy of the store" in one_line(done.stderr)
        assert "damaged" not in done.stderr.decode()
    assert sorted(path.name for path in disk.iterdir()) == ["ballast", "s1"]
    ballast.unlink()
    assert raft_actors("verify", disk / "s1", folder=tmp_path).returncode == 0
