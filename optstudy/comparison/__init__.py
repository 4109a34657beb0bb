"""Compare final runs: rows, pairs and ranks."""
