"""Start workers on this machine or on a Ray cluster."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from optstudy.optimizers import packaged_optimizers
from optstudy.workloads.user_code import is_user_code

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
        self,
        device: str,
        threads: int,
        *,
        deterministic: bool = False,
        references: Sequence[str] = (),
        listed: Mapping[str, str] | None = None,
    ) -> "LocalWorkers | RayWorkers":
        """Start workers; ``references`` may point to the user's code, which each node of a cluster must have.

        If they point to none, workers of this machine import nothing from the current folder. With ``listed``, SHA-256
        by file, workers import no other file that is not installed.
        """
        from optstudy.execution.local import SAFE_PATH, LocalWorkers, environments, listed_variables
        from optstudy.execution.ray import RayWorkers

        if self.ray is None:
            variables = environments(device, threads, self.jobs, self.data_dir, deterministic=deterministic)
            safe = {SAFE_PATH: "1"} if references and not any(map(_is_code, references)) else {}
            return LocalWorkers([{**each, **safe, **listed_variables(listed)} for each in variables])
        return RayWorkers(
            self.ray,
            device,
            threads,
            self.jobs,
            self.data_dir,
            deterministic=deterministic,
            references=references,
            listed=listed,
        )

    def check(self, device: str) -> None:
        """Raise UsageError unless local workers can use a device; Ray workers check it themselves."""
        from optstudy.training import check_device

        if self.ray is None:
            check_device(device)


def _is_code(reference: str) -> bool:
    """Whether a reference points to code that optstudy does not bring itself."""
    return is_user_code(reference) and reference not in packaged_optimizers()
