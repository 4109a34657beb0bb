"""Tables of a comparison, as text for people and programs."""
