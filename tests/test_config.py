"""Settings are refused where they are written, in words, and hold plain numbers."""

import dataclasses

import numpy as np
import pytest

from rlhf_lab import PPOConfig


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"eta": -1}, "eta must be a finite number >= 0, got -1"),
        ({"beta": float("nan")}, "beta must be a finite"),
        ({"kl_mode": "k3"}, "kl_mode must be one of"),
        ({"gamma": 1.5}, r"gamma must lie in \[0, 1\]"),
        ({"batch_size": 1}, r"batch_size must be a whole number in 2\.\.1000000, got 1"),
        ({"epochs": 0}, "epochs must be a whole number >= 1, got 0"),
        ({"lam": 1.5}, r"lam must lie in \[0, 1\]"),
        ({"batch_size": 2.5}, "batch_size must be a whole number"),
        ({"minibatches": 200}, "leave some empty"),
        ({"dtype": "float16"}, "dtype must be one of"),
        ({"kl_target": 0.0}, "kl_target must be > 0"),
        ({"kl_target": -1.0}, "kl_target must be a finite number >= 0"),
        ({"eta": 0.0, "kl_target": 1.0}, "eta must be > 0 where kl_target is set"),
        ({"kl_target": 1.0, "horizon": 25}, "horizon 25 is too small for batch_size 128.* 25.6"),
        ({"kl_target": 1.0, "horizon": 0.2 * 128}, "horizon 25.6 is too small"),
        ({"seed": 1.5}, "seed must be a whole number >= 0"),
        ({"seed": 2**63}, "seed must be a whole number >= 0"),
        ({"lr": "fast"}, "lr must be a finite number, got 'fast'"),
        ({"eta": 10**400}, "eta must be a finite number, got 1000"),
        ({"eta": 10**5000}, "eta must be a finite number, got a number of more than 4,000 digits"),
        ({"eta": None}, "eta must be a finite number, got None"),
        ({"device": None}, "device must be a str, got None"),
        ({"kl_mode": ["kl"]}, "kl_mode must be one of .*, got list"),
        ({"batch_size": 10**11}, "batch_size must be a whole number in"),
        ({"betta": 1.0}, "unknown setting 'betta'; PPOConfig has eta, beta"),
    ],
)
def test_impossible_or_misspelt_settings_are_refused(setting, message):
    with pytest.raises(ValueError, match=message):
        PPOConfig.from_dict(setting)


def test_numbers_of_numpy_and_text_become_pythons():
    config = PPOConfig(beta=np.float32(0.5), eta=np.float64(0.1), lr="1e-3", kl_target=np.int64(6))
    assert type(PPOConfig(seed=np.int64(3)).seed) is int
    values = config.beta, config.eta, config.lr, config.kl_target
    assert [(type(value), value) for value in values] == [
        (float, value) for value in (0.5, 0.1, 0.001, 6.0)
    ]


def test_each_response_may_be_a_minibatch_of_its_own():
    assert PPOConfig(batch_size=4, minibatches=4).minibatches == 4


def test_settings_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        PPOConfig().eta = 1.0
