"""Harmless sample videos with known truth, and how they are made."""
