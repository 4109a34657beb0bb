"""Execution of tasks: the scheduler, the worker pools and the recorded environment."""
