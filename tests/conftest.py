"""Settings shared by all tests."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

# A shared, noisy machine must not turn a slow example into a failure; CI repeats the same examples every time.
settings.register_profile("default", deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", parent=settings.get_profile("default"), derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--rewrite``: write the expected transcripts of tests/scenarios anew."""
    parser.addoption("--rewrite", action="store_true", help="rewrite the expected transcripts of tests/scenarios")
