"""Start workers on this machine or on a Ray cluster."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from optstudy.execution.local import LocalWorkers
    from optstudy.execution.ray import RayWorkers


@dataclass(frozen=True)
class WorkerPool:
    """The number and location of workers."""

    jobs: int | None = None  # number of workers; by default one per core or visible GPU
    data_dir: str | Path | None = None  # folder of data sets that do not ship with the package
    ray: str | None = None  # cluster to use instead of this machine: "auto" or HOST:PORT

    def workers(
        self, device: str, threads: int, *, deterministic: bool = False, references: Sequence[str] = ()
    ) -> "LocalWorkers | RayWorkers":
        """Start workers; ``references`` may point to the user's code, which each node of a cluster must have."""
        from optstudy.execution.local import LocalWorkers, environments
        from optstudy.execution.ray import RayWorkers

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
        """Raise UsageError unless local workers can use a device; Ray workers check it themselves."""
        from optstudy.training import check_device

        if self.ray is None:
            check_device(device)
