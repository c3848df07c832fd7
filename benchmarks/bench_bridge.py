"""Hold rlhf_lab beside TRL 1.16.0's own trainers: `python3 course.py bench bridge`.

    the table           TRL's defaults, as the table of dialects has them
    the same batch      RLOOTrainer, GRPOTrainer and DPOTrainer make one rollout each on the world's
                        GPT-2; from the same tokens and weights we compute what they did
    the same training   RLOOTrainer and GRPOTrainer, and our GroupTrainer, with the same η, batch,
                        rate and number of updates; where they come out is exact: a sum over all
                        reviews, the mean over both prompts

It runs with the Python of an environment of its own, see `course.py`, and reads nothing from the
network. docs/bridge.md holds what it printed, and says what agrees and what does not.
"""

import argparse
import dataclasses
import platform
import re
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import NamedTuple

import report
import torch
import transformers
import trl
import trl_today
from torch import Tensor

from rlhf_lab import (
    GPT2,
    GroupConfig,
    GroupTrainer,
    dpo_loss,
    group_advantages,
    group_policy_loss,
    kl_in_loss,
    leave_one_out,
    load_world,
    masked_sum,
    shaped_scores,
)
from rlhf_lab.exact import (
    enumerate_responses,
    loss_kl_fixed_point,
    sequence_logprobs,
    unflatten,
)
from rlhf_lab.language import EOS_ID, PROMPTS, RESPONSE_LENGTH, WORDS, decode
from rlhf_lab.lessons.dialects import DIALECTS
from rlhf_lab.preferences import sampled_comparisons
from rlhf_lab.report import metrics, optimum_logprobs, policy_logprobs
from rlhf_lab.rollout import response_states

WORLD = load_world()
GROUP, BATCH, LR, ADAM_EPS = 8, 128, 1e-3, 1e-5
AGREES = 1e-5
"""The largest gap that float32 explains: its digits, over a few hundred tokens."""


def policy_of(weights: dict[str, Tensor]) -> GPT2:
    """Our GPT-2 with the weights of theirs; the names are the same."""
    policy = GPT2(WORLD.sft.config)
    policy.load_state_dict({name: weights[name] for name in policy.state_dict()})
    return policy


def token_logprobs(policy: GPT2, seen: trl_today.Seen) -> Tensor:
    """log π of the tokens of TRL's responses, (B, T)."""
    responses = seen.inputs["completion_ids"]
    tokens = torch.cat([seen.inputs["prompt_ids"], responses], dim=1)
    return policy.logprobs(response_states(policy, tokens, responses.shape[1]), responses)


def check_defaults() -> None:
    """Stop unless the defaults that the table of dialects names are those of TRL's configs."""
    checked = 0
    for kind, (_, config) in trl_today.KINDS.items():
        (dialect,) = (d for d in DIALECTS if d.name == f"TRL {kind}")
        theirs = {field.name: field.default for field in dataclasses.fields(config)}
        for name, value in re.findall(r"`(\w+)`(?: \(|: )([\w.]+)", " ".join(dialect)):
            default = theirs.get(name, "no such setting")
            if str(default) != value:
                sys.exit(f"{dialect.name}: the table says {name} = {value}, TRL says {default}")
            checked += 1
    print(f"{checked} defaults of TRL's configs are those of the table of dialects")


class Gap(NamedTuple):
    """How far our numbers are from TRL's."""

    advantages: float | None
    """Largest difference; None where there are none."""
    loss: float
    gradient: float
    """Norm of the difference, divided by the norm."""


def gap(policy: GPT2, ours: Tensor, advantages: float | None, seen: trl_today.Seen) -> Gap:
    ours.backward()
    mine = {name: p.grad for name, p in policy.named_parameters()}
    apart = sum((mine[name] - seen.gradient[name]).square().sum().item() for name in mine)
    size = sum(g.square().sum().item() for g in seen.gradient.values())
    return Gap(advantages, abs(ours.item() - seen.loss), (apart / size) ** 0.5)


def rloo_gap(seen: trl_today.Seen, first: trl_today.Seen, eta: float, clip: float) -> Gap:
    """RLOO: the leash in the reward, the product of the ratios."""
    policy, mask = policy_of(seen.weights), seen.inputs["completion_mask"]
    with torch.no_grad():
        old, ref = token_logprobs(policy_of(first.weights), seen), token_logprobs(WORLD.sft, seen)
    shaped = shaped_scores(seen.scores, old, ref, mask, eta)
    advantages = leave_one_out(shaped, GROUP)
    loss = group_policy_loss(
        token_logprobs(policy, seen), old, advantages, mask, clip=clip, level="product"
    )
    apart = (advantages - seen.inputs["advantages"]).abs().max().item()
    return gap(policy, loss, apart, seen)


def grpo_gap(
    seen: trl_today.Seen, first: trl_today.Seen, eta: float, clip: float, scale: str, how: str,
    estimator: str,
) -> Gap:  # fmt: skip
    """GRPO: the leash in the loss, divided as `how` says."""
    policy, mask = policy_of(seen.weights), seen.inputs["completion_mask"]
    with torch.no_grad():
        old, ref = token_logprobs(policy_of(first.weights), seen), token_logprobs(WORLD.sft, seen)
    advantages = group_advantages(seen.scores, GROUP, scale=scale)
    logprobs = token_logprobs(policy, seen)
    divided = {"how": how, "total": mask.sum().item(), "length": RESPONSE_LENGTH}
    loss = group_policy_loss(logprobs, old, advantages, mask, clip=clip, **divided)
    kl = kl_in_loss(logprobs, ref, mask, old_logprobs=old, estimator=estimator, **divided)
    apart = (advantages - seen.inputs["advantages"]).abs().max().item()
    return gap(policy, loss + eta * kl, apart, seen)


def dpo_gap(seen: trl_today.Seen, beta: float) -> Gap:
    """DPO: sums over the responses' tokens, `<eos>` included."""
    ids, mask = seen.inputs["input_ids"], seen.inputs["completion_mask"][:, 1:]
    policy = policy_of(seen.weights)

    def sums(model: GPT2) -> tuple[Tensor, ...]:
        logprobs = model.logprobs(response_states(model, ids, ids.shape[1] - 1), ids[:, 1:])
        return masked_sum(logprobs, mask, dim=1).chunk(2)

    with torch.no_grad():
        ref = sums(WORLD.sft)
    return gap(policy, dpo_loss(*sums(policy), *ref, beta), None, seen)


GRPO_CASES = {
    "GRPO, TRL's defaults": ({}, ("group", "tokens", "k3_ratio")),
    "GRPO, dr_grpo, not scaled":
        ({"loss_type": "dr_grpo", "scale_rewards": "none"}, ("none", "constant", "k3_ratio")),
    "GRPO, grpo, batch deviation":
        ({"loss_type": "grpo", "scale_rewards": "batch"}, ("batch", "response", "k3_ratio")),
    "GRPO, bnpo, plain k3":
        ({"loss_type": "bnpo", "use_bias_correction_kl": False}, ("group", "batch", "k3")),
}  # fmt: skip
"""TRL's settings, and scale, denominator and estimator in our words."""


def pairs(n: int) -> trl_today.Dataset:
    """n pairs of π_SFT with labels by the reward model, of responses that end: TRL adds `<eos>`."""
    tables = WORLD.tables("food")
    responses = enumerate_responses(len(WORDS), RESPONSE_LENGTH)
    ended = (responses == EOS_ID).any(dim=1) & (responses[:, 0] != EOS_ID)
    ref = tables.ref_logprobs.masked_fill(~ended, -torch.inf).log_softmax(dim=0)
    found = sampled_comparisons(ref, tables.scores, n, torch.Generator().manual_seed(0))

    def texts(ids: Tensor) -> list[str]:
        return [" " + decode(row).removesuffix(" .") for row in responses[ids]]

    columns = {"chosen": texts(found.chosen), "rejected": texts(found.rejected)}
    return trl_today.Dataset.from_dict({"prompt": ["food"] * n, **columns})


def same_batch(folder: Path, eta: float = 0.1, clip: float = 0.2) -> None:
    """Print how far our numbers are from TRL's, at a first step and at one where clips act."""
    print("\nThe same batch: TRL's numbers and ours, from the same tokens and weights, float32")
    print(f"{'':38}{'advantages':>12}{'loss':>12}{'gradient':>12}")

    def show(name: str, gaps: list[Gap]) -> None:
        for step, found in enumerate(gaps, 1):
            cells = ["–" if x is None else f"{x:.1e}" for x in found]
            print(f"{f'{name}, step {step}':38}" + "".join(f"{x:>12}" for x in cells), flush=True)
            if not all(x <= AGREES for x in found if x is not None):
                sys.exit(f"{name} does not agree: a gap is above {AGREES:g}")

    sizes = {
        "per_device_train_batch_size": BATCH, "num_generations": GROUP, "beta": eta,
        "max_completion_length": RESPONSE_LENGTH, "learning_rate": 0.02, "epsilon": clip,
        "num_iterations": 2, "max_steps": 2, "seed": 1,
    }  # fmt: skip
    reward, data = trl_today.Reward(WORLD), trl_today.prompts(BATCH)
    seen = trl_today.one_rollout("RLOO", folder, data, reward, **sizes)
    show("RLOO", [rloo_gap(one, seen[0], eta, clip) for one in seen])
    for name, (settings, ours) in GRPO_CASES.items():
        seen = trl_today.one_rollout("GRPO", folder, data, reward, **sizes, **settings)
        show(name, [grpo_gap(one, seen[0], eta, clip, *ours) for one in seen])
    for name in ("num_generations", "max_completion_length", "epsilon", "num_iterations"):
        del sizes[name]
    seen = trl_today.one_rollout("DPO", folder, pairs(BATCH), None, **sizes)
    show("DPO", [dpo_gap(one, eta) for one in seen])


class Run(NamedTuple):
    """Where a training has come to, exactly, and how long it has taken."""

    rows: dict[int, tuple[float, float, float]]
    """By the number of updates: E[score], E[gold], KL in nats; means over both prompts."""
    seconds: float


def measured(policy: GPT2) -> tuple[float, float, float]:
    found = metrics(WORLD, policy_logprobs(WORLD, policy))
    return found.score, found.gold, found.kl


TRAININGS = {
    "RLOO": ("RLOO", {}, GroupConfig),
    "GRPO": ("GRPO", {}, GroupConfig.grpo),
    "GRPO, not scaled": (
        "GRPO",
        {"loss_type": "dr_grpo", "scale_rewards": "none"},
        partial(GroupConfig.grpo, advantage="none", how="constant"),
    ),
}
"""TRL's trainer with its settings, and our config; the rest is the same."""


def train_theirs(name: str, folder: Path, eta: float, stops: list[int], seed: int) -> Run:
    """TRL's own trainer, with its defaults but for sizes, rate, η and the settings above."""
    kind, settings, _ = TRAININGS[name]
    rows: dict[int, tuple[float, float, float]] = {}

    def after(step: int, model: torch.nn.Module) -> None:
        if step in stops:
            rows[step] = measured(policy_of(model.state_dict()))

    trainer, _ = trl_today.make(
        kind, folder, trl_today.prompts(BATCH), trl_today.Reward(WORLD), after,
        per_device_train_batch_size=BATCH, num_generations=GROUP, beta=eta,
        max_completion_length=RESPONSE_LENGTH, learning_rate=LR, adam_epsilon=ADAM_EPS,
        max_steps=max(stops), seed=seed, shuffle_dataset=False, **settings,
    )  # fmt: skip
    start = time.perf_counter()
    trainer.train()
    return Run(rows, time.perf_counter() - start)


def train_ours(name: str, eta: float, stops: list[int], seed: int) -> Run:
    config = TRAININGS[name][2](
        eta=eta, seed=seed, group_size=GROUP, batch_size=BATCH, lr=LR, adam_eps=ADAM_EPS
    )
    trainer, rows = GroupTrainer(WORLD, config), {}
    start = time.perf_counter()
    for step in range(1, max(stops) + 1):
        trainer.step()
        if step in stops:
            rows[step] = measured(trainer.policy)
    return Run(rows, time.perf_counter() - start)


def rest_in_the_loss(eta: float) -> tuple[float, float, float]:
    """Where the mean update of "GRPO, not scaled" rests: its baseline makes η an η·G/(G − 1)."""
    found = {}
    for prompt in PROMPTS:
        tables = WORLD.tables(prompt)
        scores = unflatten(tables.scores, len(WORDS), RESPONSE_LENGTH)
        tree = loss_kl_fixed_point(tables.tree, scores, eta * GROUP / (GROUP - 1)).logprobs
        found[prompt] = sequence_logprobs(tree)
    at = metrics(WORLD, found)
    return at.score, at.gold, at.kl


def same_training(folder: Path, eta: float, stops: list[int], seeds: range) -> None:
    """Print where TRL's trainers and ours come out, beside the rest points."""
    print(f"\nThe same training: η = {eta:g}, {BATCH} responses in groups of {GROUP}, one step of "
          f"Adam at {LR:g} each; exact, mean of food and staff")  # fmt: skip
    print(f"{'':32}{'updates':>8}{'E[score]':>10}{'E[gold]':>10}{'KL, nats':>10}{'seconds':>9}")

    def line(name: str, step: str, row: tuple[float, ...], seconds: str = "") -> None:
        cells = "".join(f"{x:10.2f}" for x in row)
        print(f"{name:32}{step:>8}{cells}{seconds:>9}", flush=True)

    for name in TRAININGS:
        for seed in seeds:
            runs = {
                "TRL": train_theirs(name, folder, eta, stops, seed),
                "ours": train_ours(name, eta, stops, seed),
            }
            for whose, run in runs.items():
                for step, row in run.rows.items():
                    last = f"{run.seconds:.0f}" if step == max(stops) else ""
                    line(f"{name}, seed {seed}, {whose}", str(step), row, last)
    best = metrics(WORLD, optimum_logprobs(WORLD, eta, 0.0))
    line("π*: where RLOO rests", "∞", (best.score, best.gold, best.kl))
    line("where GRPO, not scaled, rests", "∞", rest_in_the_loss(eta))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--eta", type=float, default=0.3)
    parser.add_argument("--updates", type=int, default=300, help="0: compare the batches only")
    parser.add_argument("--seeds", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(1)
    versions = {"TRL": trl, "transformers": transformers, "torch": torch}
    said = ", ".join(f"{name} {module.__version__}" for name, module in versions.items())
    print(f"{said}, Python {platform.python_version()}; {report.load()}")
    with tempfile.TemporaryDirectory() as folder:
        check_defaults()
        trl_today.write_folder(WORLD, Path(folder))
        same_batch(Path(folder))
        if args.updates:
            stops = sorted({max(args.updates // 3, 1), args.updates})
            same_training(Path(folder), args.eta, stops, range(args.seeds))


if __name__ == "__main__":
    main()
