"""Where tasks run: the scheduler, local processes, and the environment they ran in."""
