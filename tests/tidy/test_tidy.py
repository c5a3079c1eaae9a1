from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator

import pytest

from tests.tidy import rules
from tests.tidy.source import ROOT, Finding, Source, sources

Rule = Callable[[Source], Iterator[Finding]]

HEAD = '"""Doc."""\n\nfrom __future__ import annotations\n\n'
LONG = "\n".join(f"    x{number} = {number}" for number in range(60))
OTHER_TEXTS = ("*.md", "*.cfg", "*.toml", ".ci/*", "raft_actors/docs/*.md", "benchmarks/*.md", "tests/**/*.txt")

# Path, source, and how often the rule finds something in it.
PLANTED: list[tuple[Rule, str, str, int]] = [
    (rules.imports_run_one_way, "raft_actors/protocol/log.py", "from raft_actors.behaviours import step", 1),
    (rules.imports_run_one_way, "raft_actors/protocol/log.py", "from raft_actors.errors import RaftError", 1),
    (rules.imports_run_one_way, "raft_actors/protocol/log.py", "from raft_actors.protocol.types import Term", 0),
    (rules.imports_run_one_way, "raft_actors/protocol/log.py", "from ..behaviours import step", 1),
    (rules.imports_run_one_way, "raft_actors/protocol/log.py", "from .types import Term", 0),
    (rules.imports_run_one_way, "raft_actors/behaviours/step.py", "import raft_actors.engine", 1),
    (rules.imports_run_one_way, "raft_actors/behaviours/step.py", "import raft_actors.protocol.log", 0),
    (rules.imports_run_one_way, "raft_actors/codec.py", "from raft_actors import mailbox", 1),
    (rules.imports_run_one_way, "raft_actors/codec.py", "def f():\n    from raft_actors.peer import Peer", 1),
    (rules.imports_run_one_way, "raft_actors/engine.py", "from raft_actors.peer import Peer", 1),
    (rules.imports_run_one_way, "raft_actors/engine.py", "from raft_actors.behaviours.step import step", 0),
    (rules.imports_run_one_way, "raft_actors/peer.py", "try: pass\nfinally:\n    import raft_actors.supervisor", 1),
    (rules.imports_run_one_way, "raft_actors/supervisor.py", "import raft_actors.api", 1),
    (rules.imports_run_one_way, "raft_actors/api.py", "import raft_actors.client", 1),
    (rules.imports_run_one_way, "raft_actors/client.py", "import raft_actors.cli.run", 1),
    (rules.imports_run_one_way, "raft_actors/client.py", "import raft_actors", 1),
    (rules.imports_run_one_way, "raft_actors/__init__.py", "from raft_actors.testing import Cluster", 1),
    (rules.imports_run_one_way, "raft_actors/__init__.py", "from raft_actors.api import write", 0),
    (rules.imports_run_one_way, "raft_actors/cli/run.py", "import raft_actors.client, raft_actors.testing", 0),
    (rules.imports_run_one_way, "raft_actors/api.py", "import tests.helpers", 1),
    (rules.imports_run_one_way, "storage_adapters/lmdb.py", "if 1:\n    from raft_actors.errors import Timeout", 1),
    (rules.imports_run_one_way, "raft_actors/log_store.py", "import storage_adapters", 0),
    (rules.imports_run_one_way, "tests/test_x.py", "from benchmarks import workloads", 1),
    (rules.the_core_is_pure, "raft_actors/protocol/log.py", "import os.path", 1),
    (rules.the_core_is_pure, "raft_actors/behaviours/step.py", "def f():\n    from time import monotonic", 1),
    (rules.the_core_is_pure, "raft_actors/behaviours/step.py", "import pykka, random, msgspec", 2),
    (rules.the_core_is_pure, "raft_actors/engine.py", "import time", 0),
    (rules.files_are_short, "raft_actors/x.py", "\n" * 401, 1),
    (rules.files_are_short, "tests/test_x.py", "\n" * 400, 0),
    (rules.functions_are_short, "tests/test_x.py", f"def f():\n{LONG}", 1),
    (rules.functions_are_short, "raft_actors/x.py", f"if 1:\n  async def f():\n{LONG}", 1),
    (rules.functions_are_short, "raft_actors/x.py", f"def f():\n{LONG}".rpartition("\n")[0], 0),
    (rules.own_state_is_checked_by_raises, "raft_actors/x.py", "def f(x):\n    assert x", 1),
    (rules.own_state_is_checked_by_raises, "tests/test_x.py", "assert 1", 0),
    (rules.only_the_command_line_prints, "storage_adapters/x.py", "print(1)", 1),
    (rules.only_the_command_line_prints, "raft_actors/cli/x.py", "print(1)", 0),
    (rules.tests_do_not_sleep, "tests/test_x.py", "import time\ntime.sleep(1)", 1),
    (rules.tests_do_not_sleep, "tests/test_x.py", "from time import sleep", 1),
    (rules.tests_do_not_sleep, "tests/test_x.py", "import asyncio\nasyncio.sleep(1)", 0),
    (rules.annotations_are_postponed, "raft_actors/x.py", '"""Doc."""\nimport os', 1),
    (rules.annotations_are_postponed, "raft_actors/x.py", f"{HEAD}import os", 0),
    (rules.annotations_are_postponed, "raft_actors/x.py", '"""Doc."""', 0),
    (rules.public_things_have_docstrings, "raft_actors/x.py", "X = 1", 1),
    (rules.public_things_have_docstrings, "raft_actors/x.py", f"{HEAD}def f(): 1\nclass C:\n    def m(self): 1", 3),
    (rules.public_things_have_docstrings, "raft_actors/x.py", f"{HEAD}def _f(): 1\nclass _C:\n    def m(self): 1", 0),
    (rules.public_things_have_docstrings, "tests/test_x.py", "def f(): pass", 0),
    (rules.test_names_are_sentences, "tests/test_x.py", "def test_write(): 1\nclass T:\n    def test_it(self): 1", 2),
    (rules.test_names_are_sentences, "tests/test_x.py", "def test_a_write_is_durable(): pass", 0),
    (rules.words_are_clean, "raft_actors/x.py", "# TO" + "DO: later", 1),
    (rules.words_are_clean, "tests/test_x.py", "PATH = '/wor" + "k/main'\nY = 'anthropi" + "c'", 2),
    (rules.words_are_clean, "raft_actors/x.py", "# a todo list, https://workers.example, etcd#14370, a session", 0),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "path", "text", "count"), PLANTED, ids=lambda value: getattr(value, "__name__", None))
def test_a_planted_violation_is_found_and_good_code_is_left_alone(rule, path, text, count) -> None:
    assert len(list(rule(Source(path, text)))) == count


def test_every_rule_has_a_planted_violation() -> None:
    assert {rule for rule, _, _, count in PLANTED if count} == set(rules.RULES)


def test_a_planted_import_cycle_is_found() -> None:
    ring = [
        Source("a/x.py", "import a.y"),
        Source("a/y.py", "from a import z\nimport a.z"),
        Source("a/z.py", "import a.x"),
    ]
    (found,) = rules.no_import_cycles(ring)
    assert found.what == "import cycle a.x -> a.y -> a.z -> a.x"
    lazy = "import typing\nif typing.TYPE_CHECKING:\n    import a.x\ndef f():\n    import a.x"
    assert not list(rules.no_import_cycles([*ring[:2], Source("a/z.py", lazy)]))


def test_the_ratchet_turns_one_way_only() -> None:
    findings = [Finding("a.py", 1, "x"), Finding("a.py", 2, "x"), Finding("b.py", 3, "y")]
    assert complaints(findings, {"a.py": 2, "b.py": 1}) == []
    assert complaints(findings, {"a.py": 2}) == ["b.py:3: y"]
    assert complaints(findings, {"a.py": 1, "b.py": 1}) == ["a.py:1: x", "a.py:2: x"]
    assert complaints(findings[2:], {"a.py": 2, "b.py": 1}) == [
        "a.py: 0 instead of 2, well done: lower its number in ratchet.json"
    ]


def complaints(findings: Iterable[Finding], allowed: dict[str, int]) -> list[str]:
    """Return what is new, and what is better than recorded and therefore to be recorded."""
    findings = list(findings)
    counts = Counter(finding.path for finding in findings)
    worse = [str(finding) for finding in findings if counts[finding.path] > allowed.get(finding.path, 0)]
    better = [
        f"{path}: {counts[path]} instead of {number}, well done: lower its number in ratchet.json"
        for path, number in allowed.items()
        if counts[path] < number
    ]
    return worse + better


def ratchet(rule: str) -> dict[str, int]:
    """Return how many findings of a rule are still allowed, by file."""
    return json.loads((ROOT / "tests/tidy/ratchet.json").read_text()).get(rule, {})


def report(lines: list[str]) -> str:
    return "\n" + "\n".join(lines)


@pytest.mark.parametrize("rule", rules.RULES, ids=lambda rule: rule.__name__)
def test_the_repository_keeps_the_rules_of_the_house(rule) -> None:
    findings = [finding for source in sources() for finding in rule(source)]
    found = complaints(findings, ratchet(rule.__name__))
    assert not found, report(found)


def test_the_repository_has_no_import_cycles() -> None:
    found = [str(finding) for finding in rules.no_import_cycles(sources())]
    assert not found, report(found)


def test_the_words_of_all_other_texts_are_clean() -> None:
    texts = [path for pattern in OTHER_TEXTS for path in ROOT.glob(pattern) if path.is_file()]
    assert len(texts) >= 5
    sources_ = [Source(path.relative_to(ROOT).as_posix(), path.read_text("utf-8")) for path in texts]
    found = [str(finding) for source in sources_ for finding in rules.words_are_clean(source)]
    assert not found, report(found)


def test_every_name_in_the_ratchet_is_a_rule() -> None:
    recorded = json.loads((ROOT / "tests/tidy/ratchet.json").read_text())
    assert set(recorded) <= {rule.__name__ for rule in rules.RULES}
