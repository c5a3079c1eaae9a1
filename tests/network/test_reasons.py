"""Whoever is not answered is told what to look at."""

from __future__ import annotations

import pytest

from raft_actors.transport.zeromq import reasons


@pytest.mark.parametrize("why", [reasons.silent("s1", "db-1:7001"), reasons.too_late("s1", "db-1:7001", sent=False)])
def test_of_a_name_that_may_have_no_address_it_is_said(why) -> None:
    assert str(why) == (
        "no node answers at db-1:7001: check whether 'db-1' has an address here, whether the port is right, "
        "and whether the node runs"
    )


@pytest.mark.parametrize("address", ["10.0.0.1:7001", "[::1]:7001"])
def test_of_a_number_it_is_not(address) -> None:
    why = reasons.silent("s1", address)
    assert str(why) == f"no node answers at {address}: check the address, and whether the node runs"
