"""The tables of a comparison, and the formats in which they are written."""
