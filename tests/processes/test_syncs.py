"""Every write and every vote is synced before it is promised: shown by the system calls of real clusters."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.processes.promises import Promises
from tests.processes.strace import CALLS, judge
from tests.processes.tools import PYTHON, environment

PROGRAM = Path(__file__).with_name("sync_program.py")
ENGINES = ("lmdb", "rocksdb")


@pytest.fixture(scope="module")
def strace() -> str:
    found = shutil.which("strace")
    if found is None:
        pytest.skip("strace is not installed (Debian: apt-get install strace)")
    tried = subprocess.run([found, "-f", "-o", "/dev/null", "true"], check=False, capture_output=True, text=True)
    if tried.returncode:
        pytest.skip(f"strace may not trace here: {tried.stderr.strip()}")
    return found


def promises_of(strace: str, folder: Path, engine: str, peers: int, honesty: str) -> Promises:
    trace = folder / "trace"
    options = ["-f", "-y", "-s", "100", "-o", trace, "-e", f"trace={CALLS}"]
    program = [PYTHON, PROGRAM, folder, engine, peers, honesty]
    words = [*map(str, [strace, *options, *program])]
    subprocess.run(words, check=True, env=environment(), timeout=100)
    return judge(trace.read_text(), [f"s{n}" for n in range(1, peers + 1)])


@pytest.mark.parametrize("engine", ENGINES)
def test_three_peers_sync_before_every_acknowledgement_vote_and_reply(strace, tmp_path, engine):
    promises = promises_of(strace, tmp_path, engine, 3, "honest")
    assert promises.broken == []
    assert promises.kept["ACK"] >= 330, promises.kept
    assert promises.kept["VOTE"] >= 2, promises.kept
    assert promises.kept["LEAD"] >= 2, promises.kept
    assert promises.kept["MATCH"] >= 40, promises.kept


@pytest.mark.parametrize("engine", ENGINES)
def test_a_single_peer_syncs_before_every_reply_and_before_it_leads(strace, tmp_path, engine):
    promises = promises_of(strace, tmp_path, engine, 1, "honest")
    assert promises.broken == []
    assert promises.kept["ACK"] >= 320, promises.kept
    assert promises.kept["LEAD"] == 1, promises.kept


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("peers", [1, 3])
def test_a_build_whose_writer_skips_the_sync_is_caught_at_every_kind_of_promise(strace, tmp_path, engine, peers):
    promises = promises_of(strace, tmp_path, engine, peers, "lying")
    caught = {mark.split()[0] for mark in promises.broken}
    assert caught == ({"ACK", "LEAD", "VOTE", "MATCH"} if peers == 3 else {"ACK", "LEAD"})


def trace_of(*lines: str) -> str:
    return "\n".join(lines)


HEAD = (
    '7 openat(AT_FDCWD, "d/data.mdb", O_RDWR) = 3</d/data.mdb>',
    r'7 write(9</marks>, "BEGIN s1 1 1 0 -1 None\n", 23) = 23',
)
TAIL = (r'7 write(9</marks>, "END s1\n", 7) = 7', r'7 write(9</marks>, "ACK 1\n", 6) = 6')


@pytest.mark.parametrize(
    ("between", "kept"),
    [
        (["7 pwrite64(3</d/data.mdb>, ...) = 9", "7 fdatasync(3</d/data.mdb>) = 0"], True),
        (["7 pwrite64(3</d/data.mdb>, ...) = 9"], False),
        (["7 fdatasync(3</d/data.mdb>) = 0", "7 pwrite64(3</d/data.mdb>, ...) = 9"], False),
        (["7 pwrite64(3</d/data.mdb>, ...) = 9", "7 fdatasync(3</d/data.mdb>) = -1 EIO (Input/output error)"], False),
        (["7 pwrite64(3</d/data.mdb>, ...) = 9", "7 fdatasync(4</d/other>) = 0"], False),
        (["7 pwrite64(3</d/data.mdb>, ...) = 9", "8 fdatasync(3</d/data.mdb>) = 0"], False),
        (["7 fdatasync(3</d/data.mdb>) = 0"], False),
        (
            [
                "7 pwrite64(3</d/data.mdb>, ... <unfinished ...>",
                "8 fdatasync(3</d/data.mdb>) = 0",
                "7 <... pwrite64 resumed>) = 9",
                "7 fdatasync(3</d/data.mdb> <unfinished ...>",
                "7 <... fdatasync resumed>) = 0",
            ],
            True,
        ),
        (
            [
                '7 openat(AT_FDCWD, "d/data.mdb", O_RDWR|O_DSYNC) = 5</d/data.mdb>',
                "7 pwrite64(5</d/data.mdb>, ...) = 9",
            ],
            True,
        ),
    ],
)
def test_the_checker_wants_a_completed_sync_of_the_same_file_after_the_write(between, kept):
    promises = judge(trace_of(*HEAD, *between, *TAIL), ["s1"])
    assert bool(promises.broken) is not kept
    assert promises.kept.get("ACK", 0) == kept


def test_a_majority_must_have_the_entry_before_its_caller_is_answered():
    synced = ["7 pwrite64(3</d/data.mdb>, ...) = 9", "7 fdatasync(3</d/data.mdb>) = 0"]
    assert judge(trace_of(*HEAD, *synced, *TAIL), ["s1", "s2", "s3"]).broken
