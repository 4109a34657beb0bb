"""Compare optimizers under equal budgets, with evidence."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from optstudy.study.driver import Study as Study
    from optstudy.workloads.dataset import Dataset as Dataset

__version__ = "0.1.0"
__all__ = ["Dataset", "Study", "__version__"]


def __getattr__(name: str) -> Any:
    # Imported on demand: torch and mlflow take seconds, which `import optstudy` and `--help` do not need.
    if name == "Study":
        from optstudy.study.driver import Study

        return Study
    if name == "Dataset":
        from optstudy.workloads.dataset import Dataset

        return Dataset
    raise AttributeError(f"module 'optstudy' has no attribute {name!r}")
