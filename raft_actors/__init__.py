"""Raft consensus on Pykka actors: durable, replicated state machines."""

from __future__ import annotations

import logging

from raft_actors.administration import add_peer, configuration, remove_peer, set_configuration
from raft_actors.api import leader, read, start_peer, status, stop, stop_peer, subscribe, write
from raft_actors.client import Client
from raft_actors.codec import Codec, register
from raft_actors.config import Config, Restart
from raft_actors.errors import (
    AlreadyStarted,
    CommandFailed,
    ConfigurationChanged,
    ConfigurationInProgress,
    CorruptLog,
    ElectionInProgress,
    Incompatible,
    InvalidCommand,
    InvalidConfig,
    InvalidConfiguration,
    InvalidName,
    InvariantViolated,
    MissingExtra,
    NotApplied,
    NotConfigured,
    NotInConfiguration,
    NotLeader,
    OutcomeUnknown,
    Overloaded,
    PeerFailed,
    RaftError,
    Refused,
    RemoteError,
    Restarting,
    SessionExpired,
    StorageFailed,
    StoreInUse,
    Timeout,
    Unauthorized,
    UnknownPeer,
)
from raft_actors.leadership import transfer_leadership
from raft_actors.node import Node, start_node
from raft_actors.requests import GetStatus, Read, Write
from raft_actors.saving import backup, restore, snapshot
from raft_actors.state_machine import StateMachine
from raft_actors.subscriptions import ConfigurationCommitted, LeaderChanged, PeerStopped, RoleChanged, SnapshotTaken
from raft_actors.values import Configuration, Progress, Status

__version__ = "0.1.0"

__all__ = [
    # functions
    "start_peer",
    "stop_peer",
    "stop",
    "set_configuration",
    "configuration",
    "add_peer",
    "remove_peer",
    "leader",
    "transfer_leadership",
    "status",
    "write",
    "read",
    "snapshot",
    "backup",
    "restore",
    "subscribe",
    "start_node",
    "Node",
    "Client",
    # messages
    "Write",
    "Read",
    "GetStatus",
    # events
    "LeaderChanged",
    "RoleChanged",
    "ConfigurationCommitted",
    "SnapshotTaken",
    "PeerStopped",
    # values
    "Configuration",
    "Status",
    "Progress",
    "Config",
    "Restart",
    "Codec",
    "register",
    "StateMachine",
    # errors
    "RaftError",
    "NotApplied",
    "NotLeader",
    "ElectionInProgress",
    "Overloaded",
    "UnknownPeer",
    "NotConfigured",
    "NotInConfiguration",
    "Restarting",
    "OutcomeUnknown",
    "Timeout",
    "Refused",
    "InvalidConfig",
    "InvalidName",
    "InvalidCommand",
    "InvalidConfiguration",
    "ConfigurationChanged",
    "ConfigurationInProgress",
    "AlreadyStarted",
    "SessionExpired",
    "Unauthorized",
    "Incompatible",
    "StoreInUse",
    "MissingExtra",
    "CommandFailed",
    "RemoteError",
    "PeerFailed",
    "StorageFailed",
    "CorruptLog",
    "InvariantViolated",
]

logging.getLogger("raft_actors").addHandler(logging.NullHandler())
