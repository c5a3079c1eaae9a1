"""Users' own scripts: the one of the README, and what scripts do wrong."""

from __future__ import annotations

import re
import sys
import time
from pathlib import Path

import pytest

from tests.processes.tools import PYTHON, ROOT, finish, raft_actors, start

STAMP = "\nimport time\nprint('ended at', time.monotonic(), flush=True)\n"
"""Appended to a script: the clock is that of the whole system."""


def readme_program() -> str:
    blocks = re.findall(r"^```python\n(.*?)^```$", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE)
    return next(block for block in blocks if "class KVStore(raft.StateMachine)" in block)


def run_script(folder: Path, text: str, *words: object):
    (folder / "program.py").write_text(text)
    return finish([PYTHON, "program.py", *words], folder)


def seconds_to_exit(folder: Path, text: str) -> float:
    """How long the interpreter takes to exit after the last line of a script."""
    (folder / "program.py").write_text(text + STAMP)
    with start([PYTHON, "program.py"], folder) as program:
        output = program.stdout.read().decode()
        program.wait(30)
        ended = time.monotonic()
        assert program.returncode == 0, program.stderr.read().decode()
    return ended - float(output.split("ended at")[1])


def test_the_program_of_the_readme_is_that_of_the_documentation():
    program = readme_program()
    assert 'raft.start_peer(KVStore, name=name, config=raft.Config(data_dir="data"))' in program
    assert 'raft.set_configuration("s1", ["s1", "s2", "s3"])' in program
    assert program.rstrip().splitlines()[-1].startswith("raft.stop(leader)")


def test_the_readme_program_runs_and_again_on_its_own_data_and_exits_at_once(tmp_path):
    for _ in range(2):
        done = run_script(tmp_path, readme_program())
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert seconds_to_exit(tmp_path, readme_program()) < 1.0
    log = raft_actors("log", "data/s2", "--decode", folder=tmp_path).stdout
    assert log.count(b"('set', 'foo', 'bar')") >= 2
    for name in ("s1", "s2", "s3"):
        assert raft_actors("verify", f"data/{name}", folder=tmp_path).returncode == 0


def test_the_readme_program_answers_what_its_comments_say(tmp_path):
    program = readme_program().replace("raft.write(", "reply = raft.write(").replace("raft.read(", "value = raft.read(")
    checks = """
assert reply == ("ok", "foo", "bar"), reply
assert value == "bar", value
other = raft.leader(next(name for name in ("s1", "s2", "s3") if name != leader))
assert other not in (leader, None), other
assert raft.read(other, ("get", "foo")) == "bar"
"""
    for _ in range(2):
        assert run_script(tmp_path, program + checks).returncode == 0


DATACLASS = """
import dataclasses, sys
import raft_actors as raft

@dataclasses.dataclass
class Deposit:
    account: str
    amount: int

class Bank(raft.StateMachine):
    def init(self, name):
        return {}

    def handle_write(self, command, state):
        if type(command) is not Deposit:
            raise TypeError(f"{type(command)} is no {Deposit}")
        state[command.account] = state.get(command.account, 0) + command.amount
        return Deposit(command.account, state[command.account]), state

    def handle_read(self, query, state):
        return state.get(query), state

names = ["s1", "s2", "s3"]
for name in names:
    raft.start_peer(Bank, name=name, config=raft.Config(storage=sys.argv[1]))
raft.set_configuration("s1", names)
with raft.Client(names) as client:
    reply = client.write(Deposit("mine", 10))
    assert type(reply) is Deposit, reply
    print(reply.amount, client.read("mine"))
"""


@pytest.mark.parametrize("storage", ["lmdb", "rocksdb"])
def test_a_dataclass_of_the_script_itself_survives_the_restart(tmp_path, storage):
    for total in (10, 20, 30):
        done = run_script(tmp_path, DATACLASS, storage)
        assert (done.returncode, done.stdout.split()) == (0, [b"%d" % total] * 2), done.stderr


FORGETFUL = """
import raft_actors as raft, time
from raft_actors.machines import KV

class Slow(KV):
    def handle_write(self, command, state):
        if command == "hang":
            time.sleep(1000)
        return super().handle_write(command, state)

names = ["s1", "s2", "s3"]
for name in names:
    raft.start_peer(Slow, name=name, config=raft.Config(data_dir="data", storage=STORAGE))
raft.set_configuration("s1", names)
client = raft.Client(names)
client.write(("set", "a", 1))
futures = [client.write(("set", "a", n), block=False) for n in range(5000)]
"""


@pytest.mark.parametrize("storage", ["lmdb", "rocksdb"])
def test_a_forgotten_stop_neither_hangs_the_interpreter_nor_leaves_a_store_locked(tmp_path, storage):
    program = FORGETFUL.replace("STORAGE", repr(storage))
    for _ in range(3):
        assert seconds_to_exit(tmp_path, program) < 1.5
    for name in ("s1", "s2", "s3"):
        assert raft_actors("verify", f"data/{name}", folder=tmp_path).returncode == 0


def test_user_code_that_hangs_does_not_keep_the_interpreter_for_long(tmp_path):
    program = FORGETFUL.replace("STORAGE", "'lmdb'") + "client.write('hang', block=False)\n"
    assert seconds_to_exit(tmp_path, program) < 3.0


def test_a_script_that_raises_ends_with_its_own_error_and_leaves_no_lock(tmp_path):
    (tmp_path / "program.py").write_text(FORGETFUL.replace("STORAGE", "'lmdb'") + "raise SystemExit('enough')\n")
    done = finish([PYTHON, "program.py"], tmp_path)
    assert (done.returncode, done.stderr) == (1, b"enough\n")
    assert seconds_to_exit(tmp_path, FORGETFUL.replace("STORAGE", "'lmdb'")) < 1.5


HOLDER = """
import sys, raft_actors as raft
from raft_actors.machines import KV
raft.start_peer(KV, name="s1", config=raft.Config(data_dir="data", storage=sys.argv[1]))
print("ready", flush=True)
sys.stdin.read()
"""

INTRUDER = """
import sys, raft_actors as raft
from raft_actors.machines import KV
try:
    raft.start_peer(KV, name="s1", config=raft.Config(data_dir="data", storage=sys.argv[1]))
except raft.StoreInUse as error:
    print(error.pid, error)
"""


@pytest.mark.parametrize("storage", ["lmdb", "rocksdb"])
def test_of_two_processes_on_one_folder_the_second_is_told_the_pid_of_the_first(tmp_path, storage):
    (tmp_path / "holder.py").write_text(HOLDER)
    with start([PYTHON, "holder.py", storage], tmp_path) as holder:
        assert holder.stdout.readline() == b"ready\n"
        told = run_script(tmp_path, INTRUDER, storage).stdout.decode()
        assert told.startswith(f"{holder.pid} ")
        assert f"process {holder.pid}" in told
        holder.stdin.close()
    assert run_script(tmp_path, INTRUDER, storage).stdout == b"", "the lock outlived its process"


def test_the_console_script_is_the_module(tmp_path):
    script = Path(sys.executable).with_name("raft-actors")
    if not script.exists():
        pytest.skip("the package is not installed in this environment, only on the path")
    assert finish([script, "--version"], tmp_path).stdout == raft_actors("--version", folder=tmp_path).stdout
