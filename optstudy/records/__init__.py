"""Plans, runs, searches and curvature results: frozen, one file form each; needs numpy at most."""
