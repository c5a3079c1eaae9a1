"""A deterministic simulator of whole clusters: ``simulate`` and its ``Report``.

::

    world       virtual time, one heap, one dice         node        one peer: real engine, writer, replica, mailbox
    plan        what a seed switches on (swarm)          cluster     a run: safety phase, liveness phase
    network     loses, delays, repeats, cuts             clients     callers, and the check of every answer
    disk        what a good adapter leaves behind        watched     the user's machine, watched
    faults      what strikes when                        invariants  what must hold after every step
    trace       a run as text, every step                read_rules  the same of reads, rounds and leases
    timeline    a run as text to read                    chronicle   what happened, as values to draw
    picture     a run as SVG: the whole of it            lanes, ink  its window of lanes; its strings
    shrinking   a smaller run that fails alike
"""

from __future__ import annotations

from raft_actors.testing.simulation.ledger import Ledger
from raft_actors.testing.simulation.plan import FAULTS
from raft_actors.testing.simulation.shrinking import shrink
from raft_actors.testing.simulation.simulate import Report, SimulationFailed, simulate

__all__ = ["FAULTS", "Ledger", "Report", "SimulationFailed", "shrink", "simulate"]
