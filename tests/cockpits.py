"""What the tests of the cockpit share: a small cockpit, and functions that wait for its thread."""

import threading
import time

import pytest
import torch

from rlhf_lab import PPOConfig, load_world
from rlhf_lab.ui.cockpit import Cockpit

SMALL = PPOConfig(eta=0.1, batch_size=32, epochs=1)
PATIENCE = 60.0


@pytest.fixture(scope="module")
def world():
    return load_world()


@pytest.fixture
def cockpit(world):
    cockpit = Cockpit(world, SMALL)
    yield cockpit
    cockpit.pause()


def order(cockpit, **what):
    """What the page sends when somebody presses a button or moves a slider."""
    cockpit._handle_custom_msg(what, [])


def said(cockpit):
    """The words that the page shows: what the cockpit does, a note, a mistake."""
    return " ".join([cockpit.news["status"], cockpit.news["note"], cockpit.news["error"] or ""])


def workers():
    return [t for t in threading.enumerate() if t.name == "rlhf_lab"]


def until(condition):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def weights(trainer):
    return torch.cat([p.detach().flatten() for p in trainer.policy.parameters()])
