"""The bug museum: one small trainer, and exhibits, each a copy of it with one wrong line.

It is a PPO loop of its own, because every line of it must be replaceable; `rlhf_lab.trainer` would
need a hook in every line.
"""
