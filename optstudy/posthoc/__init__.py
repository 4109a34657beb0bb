"""Analysis of finished runs: find them, measure their curvature, reproduce them."""
