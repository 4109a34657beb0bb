"""Where pure functions run: workers of this machine, or of a Ray cluster."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from optstudy.execution.local import LocalWorkers, environments
from optstudy.execution.ray import RayWorkers
from optstudy.training import check_device


@dataclass(frozen=True)
class WorkerPool:
    """Where workers are to be had, and how many."""

    jobs: int | None = None  # workers; by default one a core or a visible GPU
    data_dir: str | Path | None = None  # of data sets that do not ship with the package
    ray: str | None = None  # a cluster, "auto" or HOST:PORT, in place of this machine

    def workers(
        self, device: str, threads: int, *, deterministic: bool = False, references: Sequence[str] = ()
    ) -> LocalWorkers | RayWorkers:
        """Start workers.

        Args:
            device: Where tensors live.
            threads: CPU threads of a worker.
            deterministic: Whether runs are.
            references: What may be the user's own code, which a cluster's nodes must have too.
        """
        if self.ray is None:
            return LocalWorkers(
                environments(device, threads, self.jobs, self.data_dir, deterministic=deterministic)
            )
        return RayWorkers(
            self.ray,
            device,
            threads,
            self.jobs,
            self.data_dir,
            deterministic=deterministic,
            references=references,
        )

    def check(self, device: str) -> None:
        """Raise UsageError unless workers here can use a device; a cluster's say so themselves."""
        if self.ray is None:
            check_device(device)
