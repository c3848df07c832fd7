"""What each exhibit's dashboard shows beside a clean run's, and which invariant it breaks."""

import functools
from typing import NamedTuple

import torch

from rlhf_lab.lessons.museum.exhibits import EXHIBITS, Exhibit
from rlhf_lab.lessons.museum.invariants import caught_by
from rlhf_lab.lessons.museum.steps import CLEAN
from rlhf_lab.lessons.museum.trainer import Record, Settings, run

LAST = 10
"""Iterations that the end of a run is averaged over."""
THRESHOLDS = {"score": 0.12, "kl": 0.45, "entropy": 0.45, "length": 0.3, "value_loss": 0.1}
"""Changes that a clean run with another seed does not show; a test holds them to that."""
GAP, EXCESS = 0.2, 0.05
"""Nats by which a logged KL may miss the true one; regret beyond that of the clean run."""


class Symptoms(NamedTuple):
    """Of one exhibit."""

    signs: dict[str, int]
    """What its log shows beside the clean run's: +1 higher, −1 lower, 0 no difference."""
    kl_is_wrong: bool
    """The logged KL is not KL(π ‖ π_SFT)."""
    regret: float
    """Beyond that of the clean run: what nobody can log."""
    caught_by: list[str]
    """The invariants that it breaks."""

    @property
    def silent(self) -> bool:
        """Nothing in the log differs."""
        return not any(self.signs.values())


def end(records: list[Record]) -> Record:
    """The mean of the last iterations."""
    return Record(*torch.tensor(records[-LAST:], dtype=torch.float64).mean(dim=0).tolist())


@functools.cache
def clean_run(settings: Settings) -> list[Record]:
    """The clean trainer with the settings of an exhibit."""
    return run(CLEAN, settings)


@functools.cache
def exhibit_run(letter: str) -> list[Record]:
    """An exhibit's run; about a quarter of a second, then kept."""
    return run(EXHIBITS[letter].steps, EXHIBITS[letter].settings)


def signs(records: list[Record], clean: list[Record]) -> dict[str, int]:
    """Where the ends of two runs differ by more than `THRESHOLDS`."""
    a, b = end(records)._asdict(), end(clean)._asdict()
    return {
        name: 0 if abs(a[name] - b[name]) <= width else 1 if a[name] > b[name] else -1
        for name, width in THRESHOLDS.items()
    }


def symptoms(exhibit: Exhibit) -> Symptoms:
    """Train it, compare it with the clean trainer, and hold it against every invariant."""
    records, clean = exhibit_run(exhibit.letter), clean_run(exhibit.settings)
    last = end(records)
    return Symptoms(
        signs(records, clean),
        abs(last.kl - last.exact_kl) > GAP,
        last.regret - end(clean).regret,
        caught_by(exhibit.steps),
    )


@functools.cache
def all_symptoms() -> dict[str, Symptoms]:
    """Of every exhibit, by letter."""
    return {letter: symptoms(exhibit) for letter, exhibit in EXHIBITS.items()}
