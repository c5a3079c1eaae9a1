"""Does an adapter keep every promise of ``StorageAdapter``? A suite that needs no test framework.

    from storage_adapters import conformance

    for result in conformance.run(MyAdapter):
        print("ok  " if result.ok else "FAIL", result.name, result.detail)

Each check opens stores of its own in a temporary folder; its name is the sentence it checks. An adapter whose
``stats()["durable"]`` is False is spared the checks of durability, locking and backup.

What it cannot see: whether ``write`` reaches the disk or only the kernel. A killed process loses nothing that the
kernel has; only a power cut would.
"""

from __future__ import annotations

from storage_adapters.conformance.harness import Result, run

__all__ = ["Result", "run"]
