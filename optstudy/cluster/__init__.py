"""Where pure functions run on several machines: actors of a Ray cluster that is there already."""

from optstudy.cluster.workers import RayWorkers

__all__ = ["RayWorkers"]
