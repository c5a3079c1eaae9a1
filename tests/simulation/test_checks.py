"""Every check of the simulator is proven: what it must not let pass is shown to it, and it turns red.

A check that is taken out, or that looks at the wrong thing, makes its scene pass; a check without a scene is named.
"""

from __future__ import annotations

import ast
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest

from raft_actors.testing import simulation
from raft_actors.testing.simulation.world import Violated
from tests.simulation import (
    scenes_invariants,
    scenes_logs,
    scenes_members,
    scenes_reads,
    scenes_runs,
    scenes_sessions,
    scenes_snapshots,
)
from tests.simulation.observing import SCENES, Scene

__all__ = [
    "scenes_invariants",
    "scenes_logs",
    "scenes_members",
    "scenes_reads",
    "scenes_runs",
    "scenes_sessions",
    "scenes_snapshots",
]

FOLDER = Path(simulation.__file__).parent


def violation(scene: Scene) -> Violated:
    with pytest.raises(Violated) as caught:
        scene.happen()
    return caught.value


@pytest.mark.parametrize("name", SCENES)
def test_what_must_never_happen_is_noticed(name: str) -> None:
    scene = SCENES[name]
    found = violation(scene)
    assert found.invariant == scene.invariant, found
    assert scene.words in found.detail


def test_every_check_has_a_scene_that_it_stops() -> None:
    shown = {place_of(violation(scene)) for scene in SCENES.values()}
    assert sorted(set(checks()) - shown) == []


def place_of(found: Violated) -> tuple[str, int]:
    """File and line that raised it."""
    frame = traceback.extract_tb(found.__traceback__)[-1]
    return Path(frame.filename).name, frame.lineno or 0


def checks() -> Iterator[tuple[str, int]]:
    """File and line of every ``raise Violated`` of the simulator."""
    for path in sorted(FOLDER.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
                name = node.exc.func
                if isinstance(name, ast.Name) and name.id == "Violated":
                    yield path.name, node.lineno


def test_the_document_has_a_sentence_for_every_invariant() -> None:
    text = (FOLDER.parents[1] / "docs" / "invariants.md").read_text()
    named = {scene.invariant for scene in SCENES.values()}
    assert [one for one in sorted(named) if f"| {one} |" not in text] == []
