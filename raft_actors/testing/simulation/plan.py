"""What a seed stands for: which faults are on, how strong they are, and how the cluster is set up.

Swarm testing: a run with every fault at full strength explores less than many runs with a few faults each, since some
faults hide others. So every seed switches each fault on or off and draws its strength.

Source: Groce et al., "Swarm Testing", ISSTA 2012.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from random import Random

from raft_actors.protocol.types import Settings

__all__ = ["FAULTS", "Plan", "draw_plan"]

FAULTS = {
    "loss": "messages are lost, up to 30 %",
    "duplicate": "messages arrive twice",
    "reorder": "messages overtake each other, some by far",
    "replay": "old messages come again much later",
    "partition": "links are cut: halves, one peer, rings, bridges, one way, around the leader, flapping",
    "crash": "peers die at any boundary between two effects, one or many, and come back",
    "ambush": "one peer wants to stand, the leader is cut off, and all others restart at once",
    "faint": "the leader stands still and is cut off meanwhile, with old answers in its inbox",
    "limbo": "a leader is cut off with a few others, whose disks hang until after that",
    "stop": "peers are stopped gracefully, leaders hand over, and come back",
    "pause": "whole processes stand still for a while",
    "clock": "clocks run at rates from 0.5 to 1.5, and jump",
    "slow_disk": "syncs take long, or hang",
    "disk_error": "a write or a read fails; what it did is unknown until the next start",
    "damage": "a record or another value on the disk of a minority is damaged",
    "wipe": "the disk of a minority is lost",
    "rot": "the newest snapshot of a minority is damaged or gone, and its peer has to do without",
    "exile": "a follower is away for so long that the others may have dropped what it needs",
    "snapshot": "callers ask for snapshots",
    "slow_machine": "the state machine is slow",
    "busy": "peers are slow to look into their inbox, so that much arrives together",
    "suspend": "whole machines stand still, and their clocks with them",
    "transfer": "callers want other leaders, and in every second run peers have priorities",
    "member": "callers want other members, of which only some are there at the beginning; lost disks come back empty",
    "bootstrap": "peers form a cluster by themselves, and nobody asks them to; they are started one after the other",
    "repeat": "clients with sessions send each write several times",
}
"""Every fault and what it does; ``simulate(faults=...)`` takes these names."""

ADDED_LATER = ("suspend", "transfer", "repeat", "member", "bootstrap")
"""These are drawn with dice of their own: all the rest of what a seed stands for stays what it was."""
NEEDED_FOR_LEASES = ("partition", "ambush", "faint")
"""Where leases are used, leaders have to be cut off: else nothing depends on them."""
LEASE_CLOCK_SPREAD = 0.05
"""Leases are promised for clocks whose rates differ by at most 10 %; beyond that they promise nothing."""


@dataclass(kw_only=True)
class Plan:
    """One seed's choices; seconds and probabilities.

    Attributes:
        faults: which are on, in the order of ``FAULTS``.
        settings: of every peer.
        cached_entries: how many entries a log keeps in memory; small in some seeds, so that stores are read.
        chunk_bytes: the largest piece of a snapshot in a message.
        loss: of a message.
        duplicate: of a message.
        replay: that an old message comes again with a new one.
        delay: a message's usual way.
        tail: probability of a much longer way.
        ordered: messages of a link stay in order.
        monitors: the death of a peer is told to the others.
        fault_every: mean number of steps between two faults.
        considerate: a fault waits until the cluster has committed something since the last one: where everything is
            broken at once, nothing is left that could go wrong.
        outage: mean time until a fault is over.
        disk: a usual sync.
        slow_disk: mean of a slow one.
        machine: how long the machine takes for what it was handed.
        busy: longest time between two looks into an inbox.
        attentive: every piece of news wakes a peer at once, not only what it waits for.
        one_job: the disk takes one batch at a time instead of all that is queued.
        clock_spread: how far a clock's rate may be from 1.
        max_pending: requests that a peer accepts before they are answered; few in some seeds, so that one that is
            counted for ever would be missed soon.
        clients: how many.
        think: mean pause of a client between two requests.
        burst: most requests that a client has under way.
        read_share: of the requests.
        leader_share: of requests that go where the client believes the leader to be.
        at_home: of reads that a client asks of the peer nearest to it, whoever leads.
        patience: timeout of a request; ``inf`` in some seeds, so that one that is forgotten is missed.
        lulls: for two seconds out of four nobody writes, so that nobody falls behind.
        distrust: a new leader is written to at once, and whoever else believes to lead is asked to read.
        members: callers want other members.
        bootstrap: those form it by themselves.
        founders: share of the peers that form the cluster.
        member_seed: of the dice for that.
        sessions: how many clients with sessions there are, beside the others.
        session_seed: of their dice.
        session_timeout: seconds of replicated time after which their sessions end.
        priorities: each peer has a higher priority than those before it; the last one leads in the end.
        rests: where nothing happens, peers rest, and the network says that they live.
    """

    faults: tuple[str, ...] = ()
    settings: Settings = field(default_factory=Settings)
    cached_entries: int = 1024
    chunk_bytes: int = 1 << 18
    loss: float = 0.0
    duplicate: float = 0.0
    replay: float = 0.0
    delay: float = 0.001
    tail: float = 0.0
    ordered: bool = True
    monitors: bool = True
    fault_every: float = 100.0
    considerate: bool = True
    outage: float = 0.5
    disk: float = 0.001
    slow_disk: float = 0.0
    machine: float = 0.0
    busy: float = 0.0
    attentive: bool = False
    one_job: bool = False
    clock_spread: float = 0.0
    max_pending: int = 20_000
    clients: int = 3
    think: float = 0.05
    burst: int = 1
    read_share: float = 0.4
    leader_share: float = 0.8
    at_home: float = 0.0
    patience: float = 3.0
    lulls: bool = False
    distrust: bool = False
    priorities: bool = False
    members: bool = False
    founders: float = 1.0
    bootstrap: bool = False
    member_seed: int = 0
    sessions: int = 0
    session_seed: int = 0
    session_timeout: float = 3600.0
    rests: bool = False

    @property
    def renews(self) -> bool:
        """Whether a peer whose disk is lost comes back with an empty one."""
        return self.members or self.bootstrap


def draw_plan(rng: Random, allowed: Collection[str]) -> Plan:
    """Draw what this seed does.

    Args:
        rng: the dice.
        allowed: names of ``FAULTS`` that may be switched on.
    """
    later, sessions, members, bootstrap, resting = (_other_dice(rng, number) for number in (1, 2, 3, 4, 5))
    share = rng.choice((0.2, 0.5, 0.8, 1.0))
    settings = _draw_settings(rng)
    needed = NEEDED_FOR_LEASES if settings.lease_reads else ()
    usual = [name for name in FAULTS if name not in ADDED_LATER]
    faults = [name for name in usual if (rng.random() < share or name in needed) and name in allowed]
    faults += [name for name in ("suspend", "transfer") if later.random() < share and name in allowed]
    plan = Plan(faults=tuple(faults), settings=settings)
    plan.priorities = "transfer" in faults and later.random() < 0.5
    plan.monitors = rng.random() < 0.6
    plan.outage = rng.choice((0.05, 0.3, 1.0))
    plan.fault_every = rng.choice((20, 60, 200))
    plan.disk = rng.choice((0.0002, 0.002, 0.01))
    plan.considerate = rng.random() < 0.7
    plan.attentive = rng.random() < 0.3
    plan.one_job = rng.random() < 0.2
    plan.cached_entries = rng.choice((1024, 1024, 16, 2))
    plan.chunk_bytes = rng.choice((100, 1000, 1 << 18))
    _draw_network(rng, plan)
    _draw_slowness(rng, plan)
    _draw_clients(rng, plan)
    _draw_sessions(sessions, plan, share, allowed)
    _draw_members(members, plan, share, allowed)
    if bootstrap.random() < share and "bootstrap" in allowed:
        plan.faults += ("bootstrap",)
        plan.bootstrap = True
    plan.rests = resting.random() < 0.6
    return plan


def _other_dice(rng: Random, number: int) -> Random:
    """Dice that depend on ``rng`` and take nothing from it; each number has its own."""
    copy = Random()
    copy.setstate(rng.getstate())
    return Random([copy.getrandbits(64) for _ in range(number)][-1])


def _draw_sessions(rng: Random, plan: Plan, share: float, allowed: Collection[str]) -> None:
    on = rng.random() < share
    plan.session_seed = rng.getrandbits(64)
    plan.session_timeout = rng.choice((3600.0, 3600.0, 1.0, 0.2))
    number = rng.randrange(1, 4)
    if on and "repeat" in allowed:
        plan.faults += ("repeat",)
        plan.sessions = number


def _draw_members(rng: Random, plan: Plan, share: float, allowed: Collection[str]) -> None:
    on = rng.random() < share
    plan.member_seed = rng.getrandbits(64)
    founders = rng.choice((0.2, 0.4, 0.6, 1.0, 1.0))
    if on and "member" in allowed:
        plan.faults += ("member",)
        plan.members, plan.founders = True, founders


def _draw_settings(rng: Random) -> Settings:
    lease_reads = rng.random() < 0.25
    return Settings(
        pre_vote=rng.random() < 0.8,
        check_quorum=lease_reads or rng.random() < 0.7,
        lease_reads=lease_reads,
        max_inflight=rng.choice((64, 64, 4, 1)),
        max_batch_bytes=rng.choice((1 << 20, 1 << 20, 400, 1)),
        snapshot_threshold=rng.choice((100_000, 100_000, 100, 20, 5)),
        snapshot_threshold_bytes=rng.choice((64 << 20, 64 << 20, 1000)),
        trailing_entries=rng.choice((10_000, 100, 10, 0, 0)),
    )


def _draw_network(rng: Random, plan: Plan) -> None:
    plan.delay = rng.choice((0.0003, 0.001, 0.01))
    if "loss" in plan.faults:
        plan.loss = rng.choice((0.01, 0.1, 0.3)) * rng.random()
    if "duplicate" in plan.faults:
        plan.duplicate = rng.choice((0.01, 0.2)) * rng.random()
    if "replay" in plan.faults:
        plan.replay = 0.05 * rng.random()
    if "reorder" in plan.faults:
        plan.ordered = False
        plan.tail = rng.choice((0.01, 0.1)) * rng.random()


def _draw_slowness(rng: Random, plan: Plan) -> None:
    if "slow_disk" in plan.faults:
        plan.slow_disk = rng.choice((0.03, 0.2, 1.0))
    if "slow_machine" in plan.faults:
        plan.machine = rng.choice((0.01, 0.2))
    if "busy" in plan.faults:
        plan.busy = rng.choice((0.002, 0.02))
    if "clock" in plan.faults:
        plan.clock_spread = LEASE_CLOCK_SPREAD if plan.settings.lease_reads else rng.choice((0.05, 0.5))


def _draw_clients(rng: Random, plan: Plan) -> None:
    plan.max_pending = rng.choice((20_000, 20_000, 20_000, 4))
    plan.clients = rng.randrange(1, 7)
    plan.think = rng.choice((0.02, 0.06, 0.2))
    plan.burst = rng.choice((1, 1, 3, 8))
    plan.read_share = rng.choice((0.2, 0.5, 0.8))
    plan.leader_share = rng.choice((0.3, 0.8, 1.0))
    plan.at_home = rng.choice((0.0, 0.5, 1.0))
    plan.patience = rng.choice((0.5, 3.0, float("inf")))
    plan.lulls = rng.random() < (0.6 if plan.settings.lease_reads else 0.2)
    plan.distrust = plan.settings.lease_reads or rng.random() < 0.5
    if plan.settings.lease_reads:
        plan.clients, plan.think, plan.at_home = max(plan.clients, 3), 0.02, 0.0
        plan.leader_share = max(plan.leader_share, 0.8)
