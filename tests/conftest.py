"""Settings shared by all tests."""

from __future__ import annotations

import os
import signal

import pytest
from hypothesis import HealthCheck, settings

# A shared, noisy machine must not turn a slow example into a failure; CI repeats the same examples every time.
settings.register_profile("default", deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", parent=settings.get_profile("default"), derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")

# A job in the background of a script ignores Ctrl-C, and so would all processes that the tests start and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--rewrite``: write the expected transcripts of tests/scenarios anew."""
    parser.addoption("--rewrite", action="store_true", help="rewrite the expected transcripts of tests/scenarios")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """The table of planted bugs, if any were searched: bug, seed, and time to find."""
    ended = [report for reports in terminalreporter.stats.values() for report in reports if _is_call(report)]
    rows = [str(value) for report in ended for name, value in report.user_properties if name == "planted bug"]
    if not rows:
        return
    terminalreporter.section(f"{len(rows)} planted bugs")
    terminalreporter.write_line("\n".join(rows))
    cache = getattr(config, "cache", None)  # not there with -p no:cacheprovider
    if cache is not None:
        kept = cache.mkdir("planted_bugs") / "table.txt"
        kept.write_text("\n".join(rows) + "\n")
        terminalreporter.write_line(f"kept in {kept}")


def _is_call(report: object) -> bool:
    return isinstance(report, pytest.TestReport) and report.when == "call"
