"""Experiments and figures of single notebooks, built from the package."""
