"""Exercises of one notebook."""

from rlhf_lab.exercises.exercise import Choice, Exercise

EXERCISES: tuple[Exercise | Choice, ...] = ()
