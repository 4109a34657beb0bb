"""Rerun runs from their records, and compare them metric by metric."""
