"""Differences between each exhibit's dashboard and a clean one, and the invariants it breaks."""

import functools
from typing import NamedTuple

import torch

from rlhf_lab.lessons.museum.exhibits import EXHIBITS, Exhibit
from rlhf_lab.lessons.museum.invariants import caught_by
from rlhf_lab.lessons.museum.steps import CLEAN
from rlhf_lab.lessons.museum.trainer import Record, Settings, run
from rlhf_lab.progress import doing

LAST = 10
"""Number of iterations in the mean over the end of a run."""
THRESHOLDS = {"score": 0.12, "kl": 0.45, "entropy": 0.45, "length": 0.3, "value_loss": 0.1}
"""Changes that a clean run with another seed does not show, as a test checks."""
GAP = 0.2
"""Nats by which a logged KL may differ from the true one."""
EXCESS = 0.05
"""Regret by which an exhibit may exceed the clean run."""


class Symptoms(NamedTuple):
    """What one exhibit shows."""

    signs: dict[str, int]
    """Its log compared with the clean run's: +1 higher, −1 lower, 0 no difference."""
    kl_is_wrong: bool
    """The logged KL is not KL(π ‖ π_SFT)."""
    regret: float
    """Regret minus that of the clean run; no real trainer could log it."""
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
    """The run of an exhibit; takes about a quarter of a second once."""
    doing("exhibit {letter}", letter=letter)
    return run(EXHIBITS[letter].steps, EXHIBITS[letter].settings)


def signs(records: list[Record], clean: list[Record]) -> dict[str, int]:
    """Where the ends of two runs differ by more than `THRESHOLDS`."""
    a, b = end(records)._asdict(), end(clean)._asdict()
    return {
        name: 0 if abs(a[name] - b[name]) <= width else 1 if a[name] > b[name] else -1
        for name, width in THRESHOLDS.items()
    }


def symptoms(exhibit: Exhibit) -> Symptoms:
    """Train an exhibit, compare it with the clean trainer, and check every invariant."""
    doing("exhibit {letter}", letter=exhibit.letter)
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
    """The symptoms of every exhibit, by letter."""
    return {letter: symptoms(exhibit) for letter, exhibit in EXHIBITS.items()}
