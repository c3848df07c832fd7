"""The bug museum: one small trainer, and exhibits of it that are wrong in one line each."""
