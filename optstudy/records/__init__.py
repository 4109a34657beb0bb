"""Plans, runs, searches, spaces and curvature results as frozen records; imports numpy at most."""
