"""Every setting reaches what it is for: the trainer beside a second loop, written out by hand."""

import copy
import dataclasses
import inspect

import pytest
import torch

from rlhf_lab import GPT2, GPT2Config, PPOConfig, Trainer

CONFIG = PPOConfig(
    eta=0.31, beta=0.07, kl_mode="mse", kl_target=0.4, horizon=90.0, iterations=2, batch_size=10,
    epochs=3, minibatches=4, lr=2e-3, adam_eps=3e-5, gamma=0.9, lam=0.8, cliprange=0.02,
    cliprange_value=0.01, vf_coef=0.6, seed=5, dtype="float64",
)  # fmt: skip
PENALTIES = {
    "kl": lambda d, full: d,
    "abs": lambda d, full: d.abs(),
    "mse": lambda d, full: d**2 / 2,
    "full": lambda d, full: full,
}


class Task:
    eos_id, response_length = 0, 4

    def __init__(self):
        sizes = GPT2Config(vocab_size=6, n_positions=6, n_embd=8, n_layer=2, n_head=2)
        self.sft = GPT2(sizes, torch.Generator().manual_seed(1))
        self.prompts = torch.tensor([[1, 2], [3, 4], [5, 5]])

    def score(self, prompts, responses):
        fives, first = (responses == 5).sum(dim=1), (responses == prompts[:, :1]).sum(dim=1)
        return fives.double() - 0.3 * first.double()

    def to(self, device, dtype):
        self.sft = self.sft.to(device, dtype)
        return self


class SecondLoop:
    """PPO as the papers write it: loops over tokens, torch's Adam, nothing of the package's."""

    def __init__(self, trainer):
        self.task, self.config = trainer.task, trainer.config
        self.policy = copy.deepcopy(trainer.policy)
        self.head = copy.deepcopy(trainer.value_head)
        parameters = [*self.policy.parameters(), *self.head.parameters()]
        self.adam = torch.optim.Adam(parameters, lr=self.config.lr, eps=self.config.adam_eps)
        self.generator = torch.Generator().manual_seed(self.config.seed)
        self.eta, self.done = self.config.eta, 0

    def read(self, model, tokens):
        """log π of every token at the places of the response, and the hidden states there."""
        hidden = model.hidden(tokens)[:, 1:-1]  # prompts have two tokens
        return (hidden @ model.transformer.wte.weight.T).log_softmax(-1), hidden

    def sample(self, prompts):
        uniforms = torch.rand(4, len(prompts), generator=self.generator, dtype=torch.float64)
        tokens, ended = prompts, torch.zeros(len(prompts), dtype=torch.bool)
        for row in uniforms:
            logits = self.policy(tokens)[:, -1]
            above = logits.softmax(-1).cumsum(-1) > row.unsqueeze(1)
            token = above.int().argmax(-1).where(~ended, 0)
            ended = ended | (token == 0)
            tokens = torch.cat([tokens, token.unsqueeze(1)], 1)
        return tokens

    @torch.no_grad()
    def experience(self):
        c, n = self.config, self.config.batch_size
        prompts = self.task.prompts[torch.arange(self.done * n, (self.done + 1) * n) % 3]
        tokens = self.sample(prompts)
        answer = tokens[:, 2:]
        mask = torch.tensor([[0 not in row[:t] for t in range(4)] for row in answer.tolist()])
        (all_new, hidden), (all_ref, _) = (
            self.read(self.policy, tokens),
            self.read(self.task.sft, tokens),
        )
        new, ref = (x.gather(2, answer.unsqueeze(2)).squeeze(2) for x in (all_new, all_ref))
        values = self.head(hidden) * mask
        kl = PENALTIES[c.kl_mode](new - ref, (all_new.exp() * (all_new - all_ref)).sum(-1)) * mask
        rewards, advantages = -self.eta * kl, torch.zeros_like(kl)
        scores = self.task.score(prompts, answer)
        for row, length in enumerate(mask.sum(1).tolist()):
            rewards[row, length - 1] += scores[row]
            for t in reversed(range(length)):
                after = values[row, t + 1] if t + 1 < length else 0.0
                delta = rewards[row, t] + c.gamma * after - values[row, t]
                later = advantages[row, t + 1] if t + 1 < length else 0.0
                advantages[row, t] = delta + c.gamma * c.lam * later
        returns, chosen = advantages + values, advantages[mask]
        advantages = (advantages - chosen.mean()) / (chosen.var() + 1e-8).sqrt()
        batch = tokens, mask, new, values, advantages, returns
        return batch, scores, (kl.sum(1), ((new - ref) * mask).sum(1), rewards.sum(1))

    def loss(self, tokens, mask, old, old_values, advantages, returns):
        c = self.config
        logprobs, hidden = self.read(self.policy, tokens)
        new = logprobs.gather(2, tokens[:, 2:].unsqueeze(2)).squeeze(2)
        ratio, values = (new - old).exp(), self.head(hidden)
        gain = torch.minimum(
            ratio * advantages, ratio.clamp(1 - c.cliprange, 1 + c.cliprange) * advantages
        )
        near = old_values + (values - old_values).clamp(-c.cliprange_value, c.cliprange_value)
        errors = torch.maximum((values - returns) ** 2, (near - returns) ** 2) / 2
        entropy = -(logprobs.exp() * logprobs).sum(-1)
        return (-gain + c.vf_coef * errors - c.beta * entropy)[mask].mean()

    def step(self):
        c = self.config
        batch, scores, (kl, log_ratio, reward) = self.experience()
        for _ in range(c.epochs):
            order = torch.arange(c.batch_size)
            if c.minibatches > 1:
                order = torch.randperm(c.batch_size, generator=self.generator)
            for rows in order.tensor_split(c.minibatches):
                self.adam.zero_grad()
                self.loss(*(x[rows] for x in batch)).backward()
                self.adam.step()
        numbers = [self.eta, *(x.mean().item() for x in (scores, log_ratio, reward))]
        if c.kl_target is not None:
            error = min(max(kl.mean().item() / c.kl_target - 1, -0.2), 0.2)
            self.eta *= 1 + error * c.batch_size / c.horizon
        self.done += 1
        return numbers


def push(model):
    """Away from π_SFT, so that the KL is not 0 from the start."""
    noise = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=noise, dtype=torch.float64)


OTHERS = [
    {}, {"kl_mode": "kl", "kl_target": None}, {"kl_mode": "abs"}, {"kl_mode": "full", "beta": 0.0},
    {"minibatches": 1, "gamma": 1.0}, {"cliprange": 5.0, "cliprange_value": 7.0, "lam": 1.0},
]  # fmt: skip


@pytest.mark.parametrize("other", OTHERS, ids=str)
def test_the_trainer_does_what_a_loop_written_by_hand_does(other):
    trainer = Trainer(Task(), dataclasses.replace(CONFIG, **other))
    push(trainer.policy)
    second = SecondLoop(trainer)
    for _ in range(2):
        stats, expected = trainer.step(), second.step()
        assert [stats.eta, stats.score, stats.kl, stats.reward] == pytest.approx(expected, abs=1e-9)
    assert trainer.eta == pytest.approx(second.eta, abs=1e-12)
    both = zip(trainer.parameters.values(), second.adam.param_groups[0]["params"], strict=True)
    for mine, theirs in both:
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-9)


def test_no_setting_is_left_out():
    """All are off their defaults, and no two numbers are the same, so none can stand for another.

    Without effect on one iteration are the goal, and the device, which has tests of its own.
    """
    values = dataclasses.asdict(CONFIG)
    for name, parameter in inspect.signature(PPOConfig).parameters.items():
        assert values[name] != parameter.default or name == "device", name
    numbers = [x for x in values.values() if isinstance(x, int | float)]
    assert len(set(numbers)) == len(numbers)
