"""Compare optimizers under equal budgets, with evidence."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from optstudy.study import Study as Study

__version__ = "0.1.0"
__all__ = ["Study", "__version__"]


def __getattr__(name: str) -> Any:
    # Study brings torch and mlflow, seconds of imports; `import optstudy` and `--help` stay light.
    if name == "Study":
        from optstudy.study import Study

        return Study
    raise AttributeError(f"module 'optstudy' has no attribute {name!r}")
