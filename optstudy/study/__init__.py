"""A study: its specification, workspace, run cache and progress, and the flows that tune and train."""
