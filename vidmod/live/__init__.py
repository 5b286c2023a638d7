"""A stream comes in, a safe stream goes out."""
