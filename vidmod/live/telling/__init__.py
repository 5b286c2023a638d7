"""What the outside sees of a live filter, and how it is steered."""
