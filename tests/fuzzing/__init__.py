"""Damage that is made by rule and by chance, and what a scan may make of it.

Every mutation follows from a seed and a number, so that each can be made again:

    python -m tests.fuzzing --count 100000 --seed 1 --keep offending
    python -m tests.fuzzing --seed 1 --first 1234 --count 1
"""
