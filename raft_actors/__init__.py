"""Raft consensus on Pykka actors: durable, replicated state machines."""

from __future__ import annotations

__version__ = "0.1.0"
__all__ = ["__version__"]
