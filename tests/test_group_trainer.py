"""RLOO and GRPO in the loop: where they go, a second computation, interrupts, and bad settings."""

import copy
import dataclasses
import inspect
import math

import pytest
import torch
from test_trainer import BrokenRewardModel, Counting, same
from test_wiring import Task, push

from rlhf_lab import GroupConfig, GroupTrainer, exact, language, load_world
from rlhf_lab.config import PPOConfig
from rlhf_lab.stepper import NonFiniteError
from rlhf_lab.trainer import Trainer


@pytest.fixture(scope="module")
def world():
    return load_world()


# Every setting off its default, and no two numbers the same.
CONFIG = GroupConfig(
    eta=0.31, beta=0.07, leash="k3_ratio", group_size=4, advantage="group", level="token",
    how="tokens", clip=0.02, clip_high=0.03, iterations=2, batch_size=12, epochs=3, minibatches=5,
    lr=2e-3, adam_eps=3e-5, seed=6, dtype="float64",
)  # fmt: skip
OTHERS = [
    {}, {"advantage": "leave_one_out", "leash": "reward"}, {"advantage": "none", "leash": "k3"},
    {"advantage": "batch", "leash": "k2", "how": "constant"}, {"level": "sequence", "how": "sum"},
    {"level": "product", "how": "response", "beta": 0.0}, {"clip_high": None, "how": "batch"},
    {"clip": None, "clip_high": None, "minibatches": 1}, {"leash": "reward", "advantage": "group"},
]  # fmt: skip


class SecondLoop:
    """RLOO and GRPO from their papers: loops over responses, torch's Adam, no function of ours."""

    def __init__(self, trainer):
        self.task, self.config = trainer.task, trainer.config
        self.policy = copy.deepcopy(trainer.policy)
        self.adam = torch.optim.Adam(
            self.policy.parameters(), lr=self.config.lr, eps=self.config.adam_eps
        )
        self.generator = torch.Generator().manual_seed(self.config.seed)
        self.done = 0

    def read(self, model, tokens):
        hidden = model.hidden(tokens)[:, 1:-1]  # prompts have two tokens
        return (hidden @ model.transformer.wte.weight.T).log_softmax(-1)

    def sample(self, prompts):
        uniforms = torch.rand(4, len(prompts), generator=self.generator, dtype=torch.float64)
        tokens, ended = prompts, torch.zeros(len(prompts), dtype=torch.bool)
        for row in uniforms:
            above = self.policy(tokens)[:, -1].softmax(-1).cumsum(-1) > row.unsqueeze(1)
            token = above.int().argmax(-1).where(~ended, 0)
            ended = ended | (token == 0)
            tokens = torch.cat([tokens, token.unsqueeze(1)], 1)
        return tokens

    def advantages(self, rewards):
        G, rule, out = self.config.group_size, self.config.advantage, []
        spread = torch.tensor(rewards, dtype=torch.float64).std().item()
        for start in range(0, len(rewards), G):
            group = rewards[start : start + G]
            for i, r in enumerate(group):
                others = group[:i] + group[i + 1 :]
                if rule == "leave_one_out":
                    out.append(r - sum(others) / (G - 1))
                    continue
                mean = sum(group) / G
                own = math.sqrt(sum((x - mean) ** 2 for x in group) / (G - 1))
                out.append(
                    (r - mean) / {"none": 1, "group": own + 1e-4, "batch": spread + 1e-4}[rule]
                )
        return torch.tensor(out, dtype=torch.float64)

    @torch.no_grad()
    def experience(self):
        c = self.config
        groups = c.batch_size // c.group_size
        rows = [i % 3 for i in range(self.done * groups, (self.done + 1) * groups)]
        prompts = self.task.prompts[[row for row in rows for _ in range(c.group_size)]]
        tokens = self.sample(prompts)
        answer = tokens[:, 2:]
        mask = torch.tensor([[0 not in row[:t] for t in range(4)] for row in answer.tolist()])
        new, ref = (
            self.read(m, tokens).gather(2, answer.unsqueeze(2)).squeeze(2)
            for m in (self.policy, self.task.sft)
        )
        scores = self.task.score(prompts, answer)
        kl = ((new - ref) * mask).sum(1)
        rewards = scores - c.eta * kl if c.leash == "reward" else scores
        gain = self.advantages(rewards.tolist())
        numbers = [scores.mean().item(), kl.mean().item(), -(new * mask).sum(1).mean().item()]
        return (tokens, mask, new, ref, gain), numbers

    def loss(self, total, tokens, mask, old, ref, gain):
        c, n = self.config, len(tokens)
        every = self.read(self.policy, tokens)
        new = every.gather(2, tokens[:, 2:].unsqueeze(2)).squeeze(2)
        policy = kl = left = moved = 0.0
        for i in range(n):
            places = [t for t in range(4) if mask[i, t]]
            logs = torch.stack([new[i, t] - old[i, t] for t in places])
            level = {"token": logs, "sequence": logs.mean(), "product": logs.sum()}[c.level]
            ratio = level.exp().expand(len(places))
            high = c.clip if c.clip_high is None else c.clip_high
            band = ratio if c.clip is None else ratio.clamp(1 - c.clip, 1 + high)
            terms = -torch.minimum(ratio * gain[i], band * gain[i])
            if c.clip is not None:
                up, down = ratio > 1 + high, ratio < 1 - c.clip
                left = left + (up if gain[i] > 0 else down if gain[i] < 0 else up & down).sum()
            moved = moved + (logs**2 / 2).sum()
            d = torch.stack([new[i, t] - ref[i, t] for t in places])
            k3 = (-d).exp() - 1 + d
            pull = {"k3": k3, "k3_ratio": k3 * ratio, "k2": d**2 / 2, "reward": 0 * d}[c.leash]
            by = {
                "response": n * len(places), "batch": mask.sum(), "tokens": total,
                "constant": 4 * n, "sum": n,
            }[c.how]  # fmt: skip
            policy, kl = policy + terms.sum() / by, kl + pull.sum() / by
        tokens_here = mask.sum()
        parts = policy, kl, left / tokens_here, moved / tokens_here
        self.parts.append([float(torch.as_tensor(part).detach()) for part in parts])
        entropy = -(every.exp() * every).sum(-1)[mask].mean()
        return policy + c.eta * kl - c.beta * entropy

    def step(self):
        c = self.config
        batch, numbers = self.experience()
        self.parts = []
        total = batch[1].sum().item() / c.minibatches
        for _ in range(c.epochs):
            order = torch.arange(c.batch_size)
            if c.minibatches > 1:
                order = torch.randperm(c.batch_size, generator=self.generator)
            for rows in order.tensor_split(c.minibatches):
                self.adam.zero_grad()
                self.loss(total, *(x[rows] for x in batch)).backward()
                self.adam.step()
        self.done += 1
        return [*numbers, *torch.tensor(self.parts).double().mean(0).tolist()]


@pytest.mark.parametrize("other", OTHERS, ids=str)
def test_the_trainer_does_what_a_loop_written_by_hand_does(other):
    trainer = GroupTrainer(Task(), dataclasses.replace(CONFIG, **other))
    push(trainer.policy)
    second = SecondLoop(trainer)
    for _ in range(2):
        stats, expected = trainer.step(), second.step()
        assert [stats.score, stats.kl, stats.entropy] == pytest.approx(expected[:3], abs=1e-9)
        assert list(stats[-4:]) == pytest.approx(expected[3:], abs=1e-6)  # float32 above
        assert stats.clip_fraction > 0 or trainer.config.clip is None
    both = zip(trainer.parameters.values(), second.adam.param_groups[0]["params"], strict=True)
    for mine, theirs in both:
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-9)


def test_no_setting_is_left_out():
    values = dataclasses.asdict(CONFIG)
    for name, parameter in inspect.signature(GroupConfig).parameters.items():
        assert values[name] != parameter.default or name == "device", name
    numbers = [x for x in values.values() if isinstance(x, int | float)]
    assert len(set(numbers)) == len(numbers)


def test_groups_answer_one_prompt_and_prompts_come_in_turn():
    trainer = GroupTrainer(
        Counting([[1], [2], [3], [4], [6]]), GroupConfig(batch_size=9, group_size=3)
    )
    visited = []
    for _ in range(2):
        trainer.step()
        visited += trainer.rollout.tokens[:, 0].tolist()
    assert visited == [p for p in (1, 2, 3, 4, 6, 1) for _ in range(3)]


@pytest.mark.parametrize("settings", [{}, {"minibatches": 3, "beta": 0.1, "clip": 0.2}])
def test_prompts_padded_on_the_left_are_read_without_their_padding(settings):
    config = GroupConfig.grpo(eta=0.3, batch_size=12, group_size=4, dtype="float64", **settings)
    alone = GroupTrainer(Counting([[3]]), config)
    padded = GroupTrainer(Counting([[7, 7, 3]], torch.tensor([[0, 0, 1]])), config)
    for _ in range(2):
        assert padded.step() == pytest.approx(alone.step(), abs=1e-9)


def test_same_seed_same_run_other_seed_another(world):
    def run(seed):
        trainer = GroupTrainer(world, GroupConfig(batch_size=16, seed=seed))
        return [trainer.step() for _ in range(2)], trainer.state()

    (a, x), (b, y), (c, z) = run(3), run(3), run(4)
    assert a == b
    assert same(x, y)
    assert a != c
    assert not same(x, z)


def test_a_run_goes_on_from_its_state_bit_for_bit(world):
    config = GroupConfig.grpo(eta=0.2, batch_size=16, epochs=2, clip=0.2)
    whole, other = (GroupTrainer(world, config) for _ in range(2))
    for _ in range(2):
        whole.step()
    kept, history = whole.state(), list(whole.history)
    last = whole.step()
    other.history = history
    other.load_state(kept)
    assert other.step() == last
    assert same(other.state(), whole.state())
    with pytest.raises(ValueError, match=r"is no part of the state|is missing in"):
        other.load_state(Trainer(world, PPOConfig(batch_size=16)).state())


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("out of memory")])
def test_an_interrupted_iteration_leaves_no_trace(world, error):
    config = GroupConfig(batch_size=16)
    trainer = GroupTrainer(BrokenRewardModel(world, error, calls=2), config)
    trainer.step()
    before = trainer.state()
    with pytest.raises(type(error)):
        trainer.step()
    assert same(before, trainer.state())
    undisturbed = GroupTrainer(world, config)
    undisturbed.step()
    assert trainer.step() == undisturbed.step()


def test_an_update_that_is_broken_off_leaves_no_trace(world, monkeypatch):
    trainer = GroupTrainer(world, GroupConfig(batch_size=16))
    before, own_step = trainer.state(), trainer.optimizer.step

    def interrupted():
        own_step()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(trainer.optimizer, "step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            trainer.step()
    assert same(before, trainer.state())


class Flat(Counting):
    """A reward that says nothing: every score is the same, or there is none."""

    value = 2.0

    def score(self, prompts, responses):
        return torch.full((len(responses),), self.value)


def test_equal_scores_teach_nothing_and_only_the_kl_moves():
    config = {"batch_size": 8, "group_size": 4, "eta": 0.5}
    still = GroupTrainer(Flat([[1]]), GroupConfig(**config | {"eta": 0.0}))
    before = still.state()
    stats = still.step()
    assert (stats.dead, stats.policy_loss) == (1.0, 0.0)
    assert all(
        torch.equal(before[k], x) for k, x in still.state().items() if k.startswith("policy")
    )
    pulled = GroupTrainer(Flat([[1]]), GroupConfig.grpo(**config))
    push_float(pulled.policy)
    kls = [pulled.step() for _ in range(40)]
    assert kls[-1].kl < 0.5 * kls[0].kl
    assert kls[0].kl_loss > 0
    assert kls[0].dead == 1


def push_float(model):
    noise = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=noise)


class Partly(Counting):
    """Nobody can score a response that starts with 3."""

    def score(self, prompts, responses):
        scores = super().score(prompts, responses).float()
        return scores.masked_fill(responses[:, 0] == 3, math.nan)


def test_unscored_responses_are_left_out():
    trainer = GroupTrainer(Partly([[1], [2]]), GroupConfig(batch_size=32, eta=0.05, lr=3e-3))
    first = trainer.step()
    rollout = trainer.rollout
    unscored = rollout.scores.isnan()
    assert unscored.any()
    assert not rollout.advantages[unscored].any()
    assert math.isfinite(first.score)
    assert [trainer.step() for _ in range(25)][-1].score > first.score + 1


def test_scores_that_are_none_or_infinite_are_named():
    trainer = GroupTrainer(Flat([[1]]), GroupConfig(batch_size=8))
    before = trainer.state()
    for value, message in (
        (math.nan, "gave NaN for every response"),
        (math.inf, "scores is inf at"),
    ):
        trainer.task.value = value
        with pytest.raises(ValueError, match=message) as error:
            trainer.step()
        assert not isinstance(error.value, NonFiniteError)
        assert same(before, trainer.state())


def test_a_step_that_ruins_the_weights_is_undone(world):
    trainer = GroupTrainer(world, GroupConfig(batch_size=16, lr=1e39))
    before = trainer.state()
    with pytest.raises(NonFiniteError, match=r"iteration 1: .* is not finite .*Lower lr"):
        trainer.step()
    assert same(before, trainer.state())


def test_eta_acts_from_the_next_iteration_on(world):
    trainer = GroupTrainer(world, GroupConfig(eta=0.5, batch_size=16))
    trainer.step()
    trainer.eta = 0.0
    stats = trainer.step()
    assert [s.eta for s in trainer.history] == [0.5, 0.0]
    torch.testing.assert_close(trainer.rollout.rewards, trainer.rollout.scores)
    assert stats.kl != 0


@pytest.mark.slow
def test_rloo_comes_to_rest_near_pi_star(world):
    """η = 0.3: regret J* − J(π) on both prompts, from about 1 at π_SFT."""
    config = GroupConfig(eta=0.3, batch_size=256, iterations=200)
    trainer = GroupTrainer(world, config)
    for _ in range(config.iterations):
        trainer.step()
    for prompt in language.PROMPTS:
        _, ref, scores, _ = world.tables(prompt)
        with torch.no_grad():
            logprobs = world.logprobs(trainer.policy, prompt)
        left = exact.regret(logprobs, ref, scores, 0.3).item()
        start = exact.regret(ref, ref, scores, 0.3).item()
        print(f"\nRLOO at η = 0.3, {prompt}: regret {left:.3f} of {start:.3f}")
        assert left < 0.15 * start


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"clip": 0.2}, "clip = 0.2 cannot act: with one gradient step per rollout"),
        ({"clip_high": 0.2, "epochs": 2}, "clip_high = 0.2 needs clip"),
        ({"leash": "both"}, "the KL is charged once, in the reward or in the loss; in both, it wo"),
        ({"leash": ("reward", "k3")}, "leash must be one of .*, got tuple: the KL is charged once"),
        ({"group_size": 5}, "group_size 5 does not divide batch_size 128: .*; use 125"),
        ({"group_size": 200}, "group_size 200 does not divide batch_size 128: .*; use 200"),
        ({"group_size": 1}, "group_size must be a whole number in 2.*, got 1"),
        ({"minibatches": 129}, "129 minibatches of 128 responses leave some empty"),
        ({"advantage": "gae"}, "advantage must be one of .*, got 'gae'"),
        ({"eta": -1}, "eta must be a finite number >= 0"),
        ({"gamma": 1.0}, "unexpected keyword argument 'gamma'"),
    ],
)
def test_bad_settings_are_refused_in_words(settings, message):
    with pytest.raises((ValueError, TypeError), match=message):
        GroupConfig(**settings)


def test_a_clip_may_act_in_the_second_step():
    config = GroupConfig.grpo(clip=0.01, epochs=4, batch_size=32, lr=1e-2, eta=0.1)
    trainer = GroupTrainer(Counting([[1], [2]]), config)
    assert trainer.step().clip_fraction > 0.1
    assert GroupConfig.grpo().advantage == "group"
