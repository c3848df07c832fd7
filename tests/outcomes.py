"""Runs for a sweep that need no training; several test files use them."""

from rlhf_lab.grids.results import Outcome


def fake(config):
    """Numbers that need no training, but every digit of a float."""
    return Outcome(config, 1 / 3, config.eta / 7, -0.0, 1e-300, 2.5, config.seed, 0.1)


def all_well(configs):
    return [fake(config) for config in configs]
