"""From final runs to rows, pairs and ranks."""
