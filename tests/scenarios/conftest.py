"""The fixture behind ``--rewrite``."""

from __future__ import annotations

import pytest


@pytest.fixture
def rewrite(request: pytest.FixtureRequest) -> bool:
    """Whether expected transcripts are to be written anew instead of compared."""
    return bool(request.config.getoption("--rewrite"))
