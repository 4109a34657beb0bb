"""What is trained on what: data sets, splits, batches, models, losses, and the user's own code."""
