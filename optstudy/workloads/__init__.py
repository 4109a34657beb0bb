"""Data sets, splits, batches, models, losses, and the user's own code."""
