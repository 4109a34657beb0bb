"""Workers on several machines: actors of an existing Ray cluster."""

from optstudy.execution.ray.workers import RayWorkers

__all__ = ["RayWorkers"]
