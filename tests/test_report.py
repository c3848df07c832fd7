"""A policy in plain text: the columns, the sentences and the counts are those they are called."""

import pytest

from rlhf_lab import PPOConfig, Trainer, load_world
from rlhf_lab.language import PROMPTS, decode
from rlhf_lab.report import Metrics, average, compare, said


@pytest.fixture(scope="module")
def trainer():
    trainer = Trainer(load_world(), PPOConfig(eta=0.0, batch_size=32))
    for _ in range(4):
        trainer.step()
    return trainer


def test_the_table_compares_and_quotes_the_policy(trainer):
    world, lines = load_world(), compare(load_world(), trainer.policy, 0.3, 0.1).splitlines()
    assert lines[0].split()[-3:] == ["π_SFT", "policy", "optimum"]
    parts = [world.evaluate(trainer.policy, prompt) for prompt in PROMPTS]
    for line, quantity in zip(lines[1:5], ("score", "gold", "kl", "entropy"), strict=True):
        mean = sum(getattr(part, quantity).item() for part in parts) / 2
        assert float(line.split()[-2]) == pytest.approx(mean, abs=0.0051)
    assert [float(x) for x in lines[7].split()[-1:]] == [0.0]  # the optimum's regret
    assert all(float(x) > 0 for x in lines[7].split()[-3:-1])
    for line, prompt in zip(lines[8:], PROMPTS, strict=True):
        best = world.top(world.logprobs(trainer.policy, prompt).detach(), 3)
        assert line == f"{prompt}: " + ", ".join(f"{text} {p:.0%}" for text, p, _ in best)


def test_the_most_frequent_responses_come_first(trainer):
    rollout = trainer.rollout
    texts = [decode(response) for response in rollout.responses]
    quoted = [part.split(" × ") for part in said(rollout).split(" | ")]
    assert [int(n) for n, _ in quoted] == sorted(map(texts.count, set(texts)), reverse=True)[:3]
    assert all(texts.count(text) == int(n) for n, text in quoted)


def test_average_is_the_mean_of_each_number():
    assert average([Metrics(1, 2, 3, 4), Metrics(3, 4, 5, 8)]) == (2, 3, 4, 6)


def test_the_objective_subtracts_the_kl_and_adds_the_entropy():
    assert Metrics(1, 99, 3, 4).objective(eta=0.5, beta=0.25) == 0.5
