"""Rerun runs from their records, and compare the results metric by metric."""
