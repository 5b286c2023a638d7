"""The live filter: a stream comes in, a safe stream goes out."""
