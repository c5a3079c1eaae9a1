"""The conformance suite sees every planted defect, by the checks that are meant to see it."""

from __future__ import annotations

from pathlib import Path

import pytest

from storage_adapters import MemoryAdapter, conformance
from storage_adapters.conformance.harness import CHECKS
from tests.storage.adapters import planted_durable  # noqa: F401 - registers its defects
from tests.storage.adapters.planted import DEFECTS


@pytest.mark.parametrize("adapter", DEFECTS, ids=lambda adapter: adapter.__name__)
def test_the_suite_catches(adapter: type, tmp_path: Path) -> None:
    results = conformance.run(adapter, directory=tmp_path, names=DEFECTS[adapter])
    assert {result.name: result.ok for result in results} == dict.fromkeys(DEFECTS[adapter], False)
    assert all(result.detail for result in results)


def test_every_check_has_a_defect_that_makes_it_red() -> None:
    conformance.run(MemoryAdapter, names=())
    assert {check.name for check in CHECKS} == {name for names in DEFECTS.values() for name in names}
