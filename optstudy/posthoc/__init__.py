"""Work on finished runs: find them, measure their curvature, reproduce them."""
