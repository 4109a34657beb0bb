"""Where pure functions run on several machines: actors of a Ray cluster that is there already."""

from optstudy.execution.ray.workers import RayWorkers

__all__ = ["RayWorkers"]
