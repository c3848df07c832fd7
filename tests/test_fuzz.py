"""Bad input: every public callable, every argument, a catalogue of what people pass by mistake.

Each call ends in one of four classes: *ours*, an error that we raised and that names the argument;
*right*, an answer that was checked; *raw*, an error from torch or Python; *wrong*, a NaN, a number
that differs from the right one, an answer where there is none, or no end. The last two must be
empty. `RLHF_LAB_FUZZ_SEED=7 pytest tests/test_fuzz.py` tries other numbers.
"""

import collections
import contextlib
import copy
import importlib
import inspect
import linecache
import math
import os
import random
import signal
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

import rlhf_lab
from rlhf_lab import (
    aggregation,
    best_of_n,
    binary_groups,
    collapse,
    dpo,
    entropies,
    exact,
    flow,
    gradients,
    group_loss,
    group_updates,
    groups,
    kl,
    language,
    masking,
    population_dpo,
    ppo,
    preferences,
    pretrain,
    ratios,
    report,
    rewards,
    sampling,
    tree,
    unembed,
    world,
)
from rlhf_lab import config as settings
from rlhf_lab.adam import Adam
from rlhf_lab.gpt2 import GPT2, GPT2Config, KVCache, ScalarHead
from rlhf_lab.grids import ensemble, stacked
from rlhf_lab.rollout import Rollout

SEED = int(os.environ.get("RLHF_LAB_FUZZ_SEED", "0"))
SECONDS = 20
"""A call that takes longer has no end."""
PACKAGE = Path(rlhf_lab.__file__).parent
ELSEWHERE = {
    "command_line": "words of a command line: test_cli",
    "doctor": "takes no data; test_doctor",
    "files": "paths: test_files",
    "grids.results": "files: test_grids_results",
    "grids.sweep": "files: test_grids_sweep",
    "grids.workers": "work and items of any kind: test_grids_sweep",
    "interrupts": "takes no data: test_interrupts",
    "labels": "draws: test_labels",
    "loop_drawing": "draws: test_loop_drawing",
    "memory": "takes no data: test_memory",
    "translation": "takes sentences of the code: test_translation",
    "plots": "draws what the lessons compute",
    "progress": "sentences of the code: test_progress",
    "rollout": "parts of Trainer.step",
    "run_files": "files: test_runs",
    "table_cache": "files: test_table_cache",
    "runs": "files: test_runs",
    "group_trainer": "settings and tasks: test_group_trainer",
    "stepper": "parts of Trainer.step",
    "svg": "takes a figure: test_ui_image",
    "theme": "draws: test_theme",
    "trainer": "settings and tasks: test_trainer",
}
"""Modules that are tried in tests of their own."""
EXEMPT = {
    "best_of_n.best_of_each_n": "best_of_n for several n, by the same lines",
    "gpt2.Attention": "a layer of GPT2, which checks what it gets",
    "gpt2.Block": "a layer of GPT2",
    "gpt2.Conv1D": "a layer of GPT2",
    "gpt2.MLP": "a layer of GPT2",
    "gpt2.Transformer": "the layers of GPT2",
    "gpt2.KVCache": "filled by the layers of GPT2; GPT2.hidden checks it",
    "grids.stacked.StackedGPT2.hidden": "unchecked by contract: a check makes the CPU wait",
    "grids.stacked.StackedGPT2.logits": "unchecked by contract",
    "grids.ensemble.Ensemble.step": "takes no data",
    "collapse.distinct_rows": "unchecked by contract: the loop's own tokens",
    "adam.Adam.step": "takes no data; torch checks a gradient when it is assigned",
    "adam.Adam.zero_grad": "takes no data",
    "flow.curl": "takes a function: test_flow",
    "preferences.compared": "unchecked by contract: the places of checked pairs",
    "preferences.connected": "unchecked by contract: sets of checked pairs",
    "preferences.reachable": "unchecked by contract: paths along checked pairs",
    "preferences.require_few": "a check itself",
    "preferences.require_pairs": "a check itself: test_preferences",
    "dpo.dpo_terms": "unchecked by contract: what dpo_loss averages",
    "ppo.policy_terms": "unchecked by contract: what policy_loss averages",
    "ppo.value_terms": "unchecked by contract: what value_loss averages",
    "world.keep_tables": "takes no data",
    "rewards.FixedKLController.update": "does nothing",
    "sampling.decode": "unchecked by contract: what sample does",
    "world.load_world": "takes no data",
}
B, T, V, D = 3, 4, 5, 8
NAN, INF = math.nan, math.inf


class Row(NamedTuple):
    """How to call a function rightly, and what is allowed besides."""

    call: Callable[..., Any]
    given: dict[str, Any]
    none: tuple[str, ...] = ()
    """Arguments that may be None."""
    infinite: bool = False
    """Its answer may hold ±inf."""
    any_sign: tuple[str, ...] = ()
    """Whole numbers that may be negative."""
    wild: tuple[str, ...] = ()
    """Tensors that are only laid out anew, so that any numbers in them are right."""
    gaps: tuple[str, ...] = ()
    """Tensors in which NaN says that there is no number."""
    slow: bool = False
    """Only what must be refused is tried."""


class Source:
    """Valid arguments from one seed; the same every time it is asked."""

    def __init__(self, seed: int, single: bool) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        self.dtype = torch.float32 if single else torch.float64

    def floats(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.generator, dtype=torch.float64).to(self.dtype)

    def logprobs(self, *shape: int) -> Tensor:
        return self.floats(*shape).log_softmax(-1)

    def ids(self, *shape: int, high: int = V) -> Tensor:
        return torch.randint(0, high, shape, generator=self.generator)

    def mask(self) -> Tensor:
        """A hole, padding on the left and padding on the right."""
        return torch.tensor([[1, 0, 1, 1], [0, 0, 1, 1], [1, 1, 0, 0]]).bool()

    def tables(self, depth: int = 3, size: int = 3, ends: bool = False) -> list[Tensor]:
        full = [self.logprobs((size - 1) ** t, size) for t in range(depth)]
        return [*(t[:, :1] for t in full[:-1]), full[-1]] if ends else full

    def stream(self) -> torch.Generator:
        return torch.Generator().manual_seed(5)

    def model(self, vocab_size: int = V) -> GPT2:
        model = GPT2(GPT2Config(vocab_size, 9, D, 1, 2, eos_token_id=0), self.stream())
        for p in model.parameters():
            nn.init.normal_(p, std=0.5, generator=self.generator)
        return model.to(self.dtype)

    def head(self) -> ScalarHead:
        head = ScalarHead(D)
        nn.init.normal_(head.summary.weight, generator=self.generator)
        return head.to(self.dtype)


def updated(controller: Any, **given: Any) -> float:
    controller.update(**given)
    return controller.value


def pure(s: Source) -> dict[str, Row]:
    """Functions of tensors and numbers."""
    x, mask, pair = s.floats(B, T), s.mask(), {"logprob": s.logprobs(T, V)}
    pair["ref_logprob"] = s.logprobs(T, V)
    chosen = {
        "logprobs": -s.floats(B, T).abs(),
        "ref_logprobs": -s.floats(B, T).abs(),
        "mask": mask,
    }
    every = {"logprobs": s.logprobs(B, V), "ref_logprobs": s.logprobs(B, V)}
    answers = {"ref_logprobs": s.logprobs(6), "scores": s.floats(6)}
    both, weights = {"logprobs": s.logprobs(6), **answers}, {"eta": 0.3, "beta": 0.1}
    leaves = {"ref_logprobs": s.tables(), "scores": s.tables(ends=True)}
    policies = {"logprobs": s.tables(), "ref_logprobs": s.tables()}
    said = {"responses": s.ids(B, T), "mask": mask}
    old = {"old_logprobs": -s.floats(B, T).abs(), "advantages": x, "mask": mask, "clip": 0.2}
    drawn, labels = (
        {"logprobs": s.logprobs(6), "scores": s.floats(6)},
        {
            "sharpness": 0.7,
            "flipped": 0.1,
        },
    )
    pairs = preferences.all_comparisons(drawn["logprobs"], drawn["scores"])
    preferring = {"ref_logprobs": s.logprobs(6), "pairs": pairs, "beta": 0.5}
    preferring |= {"label_smoothing": 0.1, "kind": "sigmoid"}
    paid = {"rewards": s.floats(6), "group_size": 3}
    divided = {"how": "tokens", "total": 20.0, "length": 9}
    group = {"logprobs": -s.floats(B, T).abs(), "old_logprobs": -s.floats(B, T).abs()}
    group |= {"advantages": s.floats(B), "mask": mask, "level": "sequence", **divided}
    none = ("old_logprobs", "clip", "clip_high", "delta", "total", "length")
    pair_names = ("chosen_logprobs", "rejected_logprobs", "ref_chosen_logprobs")
    preferred = {n: -s.floats(B).abs() for n in (*pair_names, "ref_rejected_logprobs")}
    critic = {"values": x, "old_values": s.floats(B, T), "returns": s.floats(B, T), "mask": mask}
    return {
        "masking.response_mask": Row(
            masking.response_mask, {"responses": s.ids(B, T), "eos_id": 0},
            none=("eos_id",), any_sign=("eos_id", "responses"),
        ),
        "masking.last_token": Row(masking.last_token, {"x": x, "mask": mask}),
        "masking.last_index": Row(masking.last_index, {"mask": mask}),
        "masking.terminal_reward": Row(
            masking.terminal_reward, {"scores": s.floats(B), "mask": mask}
        ),
        "masking.masked_sum": Row(
            masking.masked_sum, {"x": x, "mask": mask, "dim": 1}, none=("dim",), any_sign=("dim",)
        ),
        "masking.masked_mean": Row(
            masking.masked_mean, {"x": x, "mask": mask, "dim": 1}, none=("dim",), any_sign=("dim",)
        ),
        "masking.masked_whiten": Row(
            masking.masked_whiten, {"x": x, "mask": mask, "eps": 1e-8}
        ),
        "kl.k1": Row(kl.k1, pair, infinite=True),
        "kl.k2": Row(kl.k2, pair, infinite=True),
        "kl.k3": Row(kl.k3, pair, infinite=True),
        "kl.exact_kl": Row(kl.exact_kl, every, infinite=True),
        "kl.kl_penalty": Row(kl.kl_penalty, {**pair, "mode": "full"}, infinite=True),
        "kl.response_kl": Row(kl.response_kl, chosen),
        "kl.mean_inverse_ratio": Row(kl.mean_inverse_ratio, chosen),
        "kl.kl_loss": Row(kl.kl_loss, chosen),
        "entropies.entropy": Row(entropies.entropy, {"logits": s.floats(B, V)}),
        "entropies.entropy_bonus": Row(
            entropies.entropy_bonus, {"logits": s.floats(B, T, V), "mask": mask, "beta": 0.1}
        ),
        "entropies.high_entropy_mask": Row(
            entropies.high_entropy_mask, {"entropies": x.abs(), "mask": mask, "share": 0.4}
        ),
        "groups.group_advantages": Row(
            groups.group_advantages, {**paid, "scale": "group", "eps": 1e-4}, gaps=("rewards",)
        ),
        "groups.leave_one_out": Row(groups.leave_one_out, paid, gaps=("rewards",)),
        "groups.shaped_scores": Row(
            groups.shaped_scores, {"scores": s.floats(B), **chosen, "eta": 0.1}, gaps=("scores",)
        ),
        "aggregation.aggregate": Row(
            aggregation.aggregate, {"losses": x, "mask": mask, **divided}, none=none
        ),
        "ratios.importance_ratios": Row(
            ratios.importance_ratios,
            {k: group[k] for k in ("logprobs", "old_logprobs", "mask", "level")}, none=none,
        ),
        "group_loss.group_policy_loss": Row(
            group_loss.group_policy_loss,
            {**group, "clip": 0.2, "clip_high": 0.3, "delta": 2.0}, none=none,
        ),
        "group_loss.cispo_loss": Row(
            group_loss.cispo_loss, {**group, "clip_high": 3.0}, none=none[:1] + none[-2:]
        ),
        "group_loss.kl_in_loss": Row(
            group_loss.kl_in_loss,
            {**chosen, "old_logprobs": group["old_logprobs"], "estimator": "k3_ratio",
             "level": "token", **divided},
            none=none,
        ),
        "dpo.implicit_reward": Row(
            dpo.implicit_reward,
            {"logprobs": s.floats(B), "ref_logprobs": s.floats(B), "beta": 0.1},
        ),
        "dpo.dpo_loss": Row(
            dpo.dpo_loss, {**preferred, "beta": 0.1, "label_smoothing": 0.1, "kind": "robust"}
        ),
        "rewards.compute_rewards": Row(
            rewards.compute_rewards, {"scores": s.floats(B), **chosen, "eta": 0.1, "mode": "mse"}
        ),
        "rewards.FixedKLController": Row(
            lambda **given: rewards.FixedKLController(**given).value, {"eta": 0.2}
        ),
        "rewards.AdaptiveKLController": Row(
            lambda **given: vars(rewards.AdaptiveKLController(**given)),
            {"eta": 0.2, "target": 3.0, "horizon": 1000.0},
        ),
        "rewards.AdaptiveKLController.update": Row(
            lambda **given: updated(rewards.AdaptiveKLController(0.2), **given),
            {"kl": 5.0, "n_steps": 64},
        ),
        "ppo.response_logprobs": Row(
            ppo.response_logprobs,
            {"logits": s.floats(B, T, V), "tokens": s.ids(B, T), "prompt_length": 1},
            infinite=True,
        ),
        "ppo.returns_to_go": Row(ppo.returns_to_go, {"rewards": x, "mask": mask, "gamma": 0.9}),
        "ppo.gae": Row(
            ppo.gae,
            {"rewards": x, "values": s.floats(B, T), "mask": mask, "gamma": 0.9, "lam": 0.8},
        ),
        "ppo.policy_loss": Row(ppo.policy_loss, {"logprobs": -s.floats(B, T).abs(), **old}),
        "ppo.value_loss": Row(ppo.value_loss, {**critic, "clip": 0.2}),
        "collapse.count_responses": Row(collapse.count_responses, said),
        "collapse.top_share": Row(collapse.top_share, said),
        "collapse.distinct_n": Row(collapse.distinct_n, {**said, "n": 1}),
        "collapse.effective_responses": Row(collapse.effective_responses, {"entropy": 1.5}),
        "collapse.expected_distinct": Row(
            collapse.expected_distinct, {"logprobs": s.logprobs(6), "samples": 3}
        ),
        "exact.enumerate_responses": Row(
            exact.enumerate_responses, {"vocab_size": 3, "depth": 2}
        ),
        "exact.flatten": Row(exact.flatten, {"tables": s.tables()}, wild=("tables",)),
        "exact.unflatten": Row(
            exact.unflatten, {"values": s.floats(15), "vocab_size": 3, "depth": 3},
            wild=("values",),
        ),
        "exact.sequence_logprobs": Row(
            exact.sequence_logprobs, {"logprobs": s.tables()}, infinite=True
        ),
        "exact.evaluate": Row(exact.evaluate, {**both, "golds": s.floats(6)}, infinite=True),
        "exact.objective": Row(exact.objective, {**both, **weights}, infinite=True),
        "exact.optimum": Row(exact.optimum, {**answers, **weights}, infinite=True),
        "exact.argmax_policy": Row(exact.argmax_policy, {"scores": s.floats(6)}, infinite=True),
        "exact.regret": Row(exact.regret, {**both, **weights}, infinite=True),
        "exact.soft_values": Row(exact.soft_values, {**leaves, **weights}, infinite=True),
        "exact.loss_bonus_fixed_point": Row(
            exact.loss_bonus_fixed_point, {**leaves, **weights}, infinite=True
        ),
        "exact.loss_kl_fixed_point": Row(
            exact.loss_kl_fixed_point, {**leaves, "eta": 0.3, "estimator": "k3"}, infinite=True
        ),
        "flow.natural_step": Row(
            flow.natural_step, {**policies, **leaves, "eta": 0.3, "leash": "loss", "rate": 0.5},
            infinite=True,
        ),
        "group_updates.expected_weights": Row(
            group_updates.expected_weights,
            {**drawn, "group_size": 3, "rule": "group", "eps": 0.1, "how": "batch",
             "lengths": 1 + s.floats(6).abs()},
            none=("lengths",),
        ),
        "group_updates.expected_update": Row(
            group_updates.expected_update,
            {"logprobs": s.tables(), "scores": s.floats(15), "group_size": 2, "rule": "group",
             "eps": 0.1},
        ),
        "group_updates.dead_share": Row(group_updates.dead_share, {**drawn, "group_size": 3}),
        "binary_groups.binary_slope": Row(
            binary_groups.binary_slope, {"p": 0.3, "group_size": 4, "eps": 0.1}
        ),
        "binary_groups.binary_rest": Row(
            binary_groups.binary_rest,
            {"group_size": 4, "eta": 0.5, "ref_log_odds": -1.0, "gap": 2.0, "rule": "group",
             "eps": 0.1},
        ),
        "preferences.preference_probabilities": Row(
            preferences.preference_probabilities, {"scores": drawn["scores"], **labels},
            none=("sharpness",),
        ),
        "preferences.all_comparisons": Row(
            preferences.all_comparisons, {**drawn, **labels}, none=("sharpness",)
        ),
        "preferences.sampled_comparisons": Row(
            preferences.sampled_comparisons,
            {**drawn, "n": 5, "generator": s.stream(), **labels}, none=("sharpness",), slow=True,
        ),
        "preferences.has_minimum": Row(
            preferences.has_minimum, {"pairs": pairs, "label_smoothing": 0.1, "kind": "robust"}
        ),
        "population_dpo.population_loss": Row(
            population_dpo.population_loss, {"logprobs": s.logprobs(6), **preferring}
        ),
        "population_dpo.dpo_optimum": Row(
            population_dpo.dpo_optimum, {**preferring, "start": s.logprobs(6)},
            none=("start",), infinite=True,
        ),
        "population_dpo.dpo_path": Row(
            population_dpo.dpo_path,
            {**preferring, "start": s.logprobs(6), "steps": 3, "every": 1, "lr": 0.01},
            none=("start",), infinite=True, slow=True,
        ),
        "gradients.action_values": Row(
            gradients.action_values,
            {"logprobs": s.tables(), "token_rewards": s.tables(), "scores": s.tables(ends=True)},
            none=("scores",),
        ),
        "gradients.visitation": Row(gradients.visitation, {"logprobs": s.tables()}),
        "gradients.logprob_gradient": Row(
            gradients.logprob_gradient, {"logprobs": s.tables(), "weights": s.tables()}
        ),
        "gradients.policy_gradient": Row(
            gradients.policy_gradient,
            {"logprobs": s.tables(), "token_rewards": s.tables(), "scores": s.tables(ends=True)},
            none=("scores",),
        ),
        "gradients.kl_reward_gradient": Row(
            gradients.kl_reward_gradient, {**policies, "mode": "k3"}
        ),
        "gradients.kl_loss_gradient": Row(gradients.kl_loss_gradient, {**policies, "mode": "full"}),
        "gradients.entropy_loss_gradient": Row(
            gradients.entropy_loss_gradient, {"logprobs": s.tables()}
        ),
        "best_of_n.best_of_n": Row(best_of_n.best_of_n, {**answers, "n": 4}, infinite=True),
        "best_of_n.best_of_n_kl": Row(best_of_n.best_of_n_kl, {**answers, "n": 4}),
        "best_of_n.best_of_n_kl_bound": Row(best_of_n.best_of_n_kl_bound, {"n": 4}),
        "unembed.pick": Row(
            unembed.pick, {"logprobs": s.logprobs(B, V), "tokens": s.ids(B)}, wild=("logprobs",)
        ),
        "unembed.chosen_logprobs": Row(
            unembed.chosen_logprobs,
            {"hidden": s.floats(B, D), "weight": s.floats(600, D), "tokens": s.ids(B, high=600)},
        ),
        "sampling.draw": Row(
            sampling.draw,
            {"logprobs": s.logprobs(B, V), "uniforms": s.floats(B).double().sigmoid()},
        ),
        "pretrain.bradley_terry_loss": Row(
            pretrain.bradley_terry_loss, {"chosen": s.floats(B), "rejected": s.floats(B)}
        ),
        "pretrain.standardise": Row(
            pretrain.standardise, {"scores": s.floats(6), "logprobs": s.logprobs(6)}
        ),
        "tree.prefix_count": Row(tree.prefix_count, {"vocab_size": 3, "depth": 2}),
        "tree.join": Row(tree.join, {"parts": list(enumerate(s.tables())), "depth": 3}),
        "language.encode": Row(language.encode, {"text": "very good <eos>"}),
        "language.decode": Row(
            language.decode, {"tokens": s.ids(T, high=14)}, any_sign=("tokens",)
        ),
        "language.gold_scores": Row(
            language.gold_scores, {"prompts": torch.tensor([1, 2, 1]), "responses": s.ids(B, T)}
        ),
        "language.corpus": Row(
            language.corpus, {"n": 3, "generator": s.stream(), "noise": 0.1}
        ),
        "adam.Adam": Row(
            lambda parameters, lr, eps: vars(Adam(parameters, lr=lr, eps=eps)),
            {"parameters": (s.floats(3).requires_grad_(),), "lr": 0.1, "eps": 1e-5},
        ),
    }  # fmt: skip


def models(s: Source) -> dict[str, Row]:
    """Whatever needs a model."""
    m, head, review = s.model(), s.head(), world.load_world()
    prompts, responses = s.ids(B, 2), s.ids(B, T)
    read = {"prompts": prompts, "responses": responses}
    walk = {"model": m, "prompt": s.ids(2), "depth": 2}
    few = {"steps": 2, "generator": s.stream(), "batch_size": 2, "lr": 1e-3}
    weights, every = {"eta": 0.3, "beta": 0.1}, torch.full((402234,), -math.log(402234)).double()
    given = {"generator": s.stream(), "eos_id": 0, "attention_mask": torch.ones(B, 2).bool()}
    food = {"prompts": torch.tensor([[1], [2], [1]]), "responses": responses}
    two = [settings.PPOConfig(eta=eta, batch_size=2) for eta in (0.0, 0.3)]
    tables = world.WorldTables(s.tables(), s.logprobs(6), s.floats(6), s.floats(6))
    batch = Rollout(*[responses] * 2, s.mask(), *[s.floats(B, T)] * 6, *[s.floats(B)] * 2)
    return {
        "gpt2.GPT2Config": Row(
            GPT2Config,
            {"vocab_size": 5, "n_positions": 4, "n_embd": 8, "n_layer": 1, "n_head": 2,
             "n_inner": 8, "layer_norm_epsilon": 1e-5, "eos_token_id": 0},
            none=("n_inner", "eos_token_id"), any_sign=("eos_token_id",),
        ),
        "gpt2.GPT2": Row(GPT2, {"config": m.config, "generator": s.stream()}, none=("generator",)),
        "gpt2.GPT2.forward": Row(
            m.forward,
            {"tokens": responses, "cache": KVCache(), "attention_mask": s.mask()},
            none=("cache", "attention_mask"),
        ),
        "gpt2.GPT2.hidden": Row(
            m.hidden,
            {"tokens": responses, "positions": torch.arange(T), "last": 2,
             "mask": torch.ones(T, T).bool().tril()},
            none=("positions", "last", "mask"),
        ),
        "gpt2.GPT2.logits": Row(m.logits, {"hidden": s.floats(B, D)}),
        "gpt2.GPT2.logprobs": Row(m.logprobs, {"hidden": s.floats(B, D), "tokens": s.ids(B)}),
        "gpt2.GPT2.save_pretrained": Row(m.save_pretrained, {"directory": "/dev/null"}, slow=True),
        "gpt2.GPT2.from_pretrained": Row(
            GPT2.from_pretrained, {"directory": "/dev/null"}, slow=True
        ),
        "gpt2.ScalarHead": Row(ScalarHead, {"n_embd": 8}),
        "gpt2.ScalarHead.forward": Row(head.forward, {"hidden": s.floats(B, D)}),
        "sampling.sample": Row(
            sampling.sample, {"model": m, "prompts": prompts, "n_tokens": 3, **given},
            none=("eos_id", "attention_mask"), any_sign=("eos_id",),
        ),
        "tree.logits_tables": Row(tree.logits_tables, walk),
        "tree.logits_parts": Row(tree.logits_parts, walk),
        "tree.score_tables": Row(tree.score_tables, {**walk, "head": head}),
        "pretrain.response_scores": Row(
            pretrain.response_scores, {"trunk": m, "head": head, **read}
        ),
        "pretrain.train_sft": Row(pretrain.train_sft, {"config": m.config, **read, **few}),
        "pretrain.train_reward_model": Row(
            pretrain.train_reward_model,
            {"sft": copy.deepcopy(m).float(), "prompts": prompts, "chosen": responses,
             "rejected": responses,
             **few},
        ),
        "world.World": Row(
            world.World,
            {"sft": review.sft, "reward_trunk": review.reward_trunk,
             "reward_head": review.reward_head, "prompts": review.prompts},
        ),
        "world.World.score": Row(review.score, food),
        "world.World.gold": Row(review.gold, food),
        "world.World.prompt": Row(review.prompt, {"word": "food"}),
        "world.World.sample": Row(
            review.sample, {"prompt": "food", "n": 2, "generator": s.stream(), "policy": None},
            none=("policy",),
        ),
        "world.World.tables": Row(review.tables, {"prompt": "food"}, slow=True),
        "world.World.logprobs": Row(
            review.logprobs, {"policy": review.sft, "prompt": "food"}, slow=True
        ),
        "world.World.evaluate": Row(
            review.evaluate, {"policy": review.sft, "prompt": "food"}, slow=True
        ),
        "world.World.top": Row(review.top, {"logprobs": every, "k": 2}, slow=True),
        "world.World.to": Row(
            review.to, {"device": torch.device("cpu"), "dtype": torch.float64}
        ),
        "world.World.save": Row(review.save, {"directory": "/dev/null"}, slow=True),
        "world.policy_tables": Row(
            world.policy_tables, {"policy": m, "prompt": s.ids(2), "depth": 2}
        ),
        "world.response_text": Row(world.response_text, {"index": 7}),
        "world.read_world": Row(world.read_world, {"directory": "/dev/null"}, slow=True),
        "world.build_world": Row(world.build_world, {"seed": 2}, slow=True),
        "report.Metrics.objective": Row(report.Metrics(1.0, 0.5, 2.0, 3.0).objective, weights),
        "report.average": Row(
            lambda points: report.average([points, [1.0, 2.0, 3.0, 4.0]]),
            {"points": [1.0, 2.0, 3.0, 4.0]},
        ),
        "report.metrics": Row(report.metrics, {"world": review, "logprobs": {}}, slow=True),
        "report.policy_logprobs": Row(
            report.policy_logprobs, {"world": review, "policy": review.sft}, slow=True
        ),
        "report.optimum_at": Row(
            report.optimum_at, {"tables": tables, **weights}, infinite=True
        ),
        "report.optimum_logprobs": Row(
            report.optimum_logprobs, {"world": review, **weights}, slow=True
        ),
        "report.compare": Row(
            report.compare, {"world": review, "policy": review.sft, **weights}, slow=True
        ),
        "report.said": Row(report.said, {"rollout": batch, "k": 2}),
        "config.PPOConfig": Row(
            settings.PPOConfig,
            {name: getattr(settings.PPOConfig(kl_target=2.0), name)
             for name in inspect.signature(settings.PPOConfig).parameters},
            none=("kl_target",),
        ),
        "config.GroupConfig": Row(
            settings.GroupConfig,
            {name: getattr(settings.GroupConfig(clip=0.2, clip_high=0.3, epochs=2), name)
             for name in inspect.signature(settings.GroupConfig).parameters},
            none=("clip", "clip_high"),
        ),
        "config.GroupConfig.grpo": Row(settings.GroupConfig.grpo, {"eta": 0.2}),
        "config.GroupConfig.overflow_remedy": Row(settings.GroupConfig().overflow_remedy, weights),
        "config.PPOConfig.from_dict": Row(
            settings.PPOConfig.from_dict, {"settings": {"eta": 0.2}}
        ),
        "config.PPOConfig.overflow_remedy": Row(settings.PPOConfig().overflow_remedy, weights),
        "config.kl_controller": Row(settings.kl_controller, {"config": settings.PPOConfig()}),
        "grids.stacked.stack_head": Row(stacked.stack_head, {"head": head, "runs": 2}),
        "grids.stacked.StackedGPT2": Row(stacked.StackedGPT2, {"model": m, "runs": 2}),
        "grids.ensemble.Ensemble": Row(
            lambda configs: ensemble.Ensemble(review, configs), {"configs": two}, slow=True
        ),
        "grids.ensemble.Ensemble.policy": Row(
            ensemble.Ensemble(review, two).policy, {"run": 1}
        ),
        "grids.ensemble.shared_settings": Row(ensemble.shared_settings, {"config": two[0]}),
    }  # fmt: skip


REFUSE, EITHER, SAME = "must be refused", "refused or right", "the same answer"


class Mutation(NamedTuple):
    name: str
    value: Any
    wanted: str
    double: Any = None
    """The same in float64, for the right answer."""


NOT_A_TENSOR = {"None": None, "text": "abc", "a number": 0.5, "an object": object()}


def of_tensor(name: str, x: Tensor, row: Row, r: random.Random) -> Iterator[Mutation]:
    """What may come in the place of any tensor."""
    for what, value in {**NOT_A_TENSOR, "numpy": x.numpy(), "a list": x.tolist()}.items():
        if what == "a list" and name == "tokens" and row.call is language.decode:
            continue
        yield Mutation(what, value, EITHER if value is None and name in row.none else REFUSE)
    yield Mutation("not contiguous", torch.stack([x, x], -1)[..., 0], SAME)
    if x.dim():
        flipped = x.flip(-1).contiguous().flip(-1)
        yield Mutation("read backwards", torch.as_strided(flipped, x.shape, flipped.stride()), SAME)
        yield Mutation("transposed twice", x.T.contiguous().T if x.dim() == 2 else x, SAME)
        yield Mutation("0-d", x.flatten()[0], EITHER)
        yield Mutation("empty", x[:0], EITHER)
        yield Mutation("one axis too many", x.unsqueeze(0), EITHER)
    if x.dim() and x.shape[0] > 1:
        yield Mutation("one row, to broadcast", x[:1], EITHER)
        yield Mutation("a row too few", x[:-1], EITHER)
    yield Mutation("sparse", x.to_sparse() if x.dim() else x.unsqueeze(0).to_sparse(), REFUSE)
    if name not in row.wild:
        yield Mutation("complex", x.to(torch.complex64), REFUSE)


def of_floats(name: str, x: Tensor, row: Row, r: random.Random) -> Iterator[Mutation]:
    yield from of_tensor(name, x, row, r)
    if name in row.wild:
        return
    for what, dtype in {
        "half": torch.half, "bfloat16": torch.bfloat16, "int64": torch.int64, "int8": torch.int8,
        "bool": torch.bool,
    }.items():  # fmt: skip
        yield Mutation(what, x.to(dtype), REFUSE)
    mask = row.given.get("mask")
    on = mask if mask is not None and mask.shape == x.shape[: mask.dim()] else None
    places = torch.ones(x.shape).bool() if on is None else on.view(
        *on.shape, *[1] * (x.dim() - on.dim())
    ).expand(x.shape)  # fmt: skip
    every = places.nonzero().tolist()
    if name == "logits" and row.call is ppo.response_logprobs:
        every = [place for place in every if place[1] < T - 1]  # the last chooses nothing
    if row.call is masking.last_token:
        every = [[i, int(masking.last_index(mask)[i])] for i in range(B)]
    for what, value, wanted in (
        ("nan", NAN, REFUSE), ("inf", INF, EITHER), ("-inf", -INF, EITHER), ("1e30", 1e30, EITHER),
        ("-1e30", -1e30, EITHER), ("1e-30", 1e-30, EITHER),
    ):  # fmt: skip
        bad = x.clone()
        bad[tuple(r.choice(every))] = value
        wanted = EITHER if what == "nan" and name in row.gaps else wanted
        yield Mutation(f"one {what}", bad, wanted, bad.double())
    for factor in (-1.0, 1e38, -1e38, 1e-38, 0.0):
        yield Mutation(f"times {factor:g}", factor * x, EITHER, (factor * x).double())
    for value in (NAN, INF, -INF):
        whole = torch.full_like(x, value)
        wanted = REFUSE if value != value and name not in row.gaps else EITHER
        yield Mutation(f"all {value}", whole, wanted, whole.double())
    if on is not None:
        yield Mutation("nan off the mask", x.masked_fill(~places, NAN), SAME)


def of_mask(name: str, x: Tensor, row: Row, r: random.Random) -> Iterator[Mutation]:
    yield from of_tensor(name, x, row, r)
    for dtype in (torch.int64, torch.int8, torch.float32, torch.half):
        if row.call is getattr(row.call, "hidden", None) or "positions" in row.given:
            break  # GPT2.hidden's mask is an attention mask of its own, bool only
        yield Mutation(str(dtype), x.to(dtype), SAME)
    for value in (0.5, 2.0, -1.0, NAN, INF):
        yield Mutation(f"a weight of {value}", torch.where(x, value, 0.0), REFUSE)
    yield Mutation("nothing selected", torch.zeros_like(x), EITHER)
    first = x.clone()
    first[0] = False
    yield Mutation("an empty row", first, EITHER)


def of_ids(name: str, x: Tensor, row: Row, r: random.Random) -> Iterator[Mutation]:
    yield from of_tensor(name, x, row, r)
    for dtype in (torch.int32, torch.int16, torch.uint8):
        if x.max() <= torch.iinfo(dtype).max:
            yield Mutation(str(dtype), x.to(dtype), SAME)
    for dtype in (torch.float32, torch.half, torch.bool):
        yield Mutation(str(dtype), x.to(dtype), REFUSE)
    for value in (-1, -(2**63), 2**31, 2**63 - 1):
        bad = x.clone().flatten()
        bad[0] = value
        unknown = name in row.any_sign or "mask" in row.given
        yield Mutation(f"id {value}", bad.view(x.shape), EITHER if unknown else REFUSE)


def of_tables(name: str, x: list[Tensor], row: Row, r: random.Random) -> Iterator[Mutation]:
    for what, value in {**NOT_A_TENSOR, "numpy": [t.numpy() for t in x], "empty": []}.items():
        allowed = value is None and name in row.none
        yield Mutation(what, value, EITHER if allowed else REFUSE)
    if row.call.__name__ != "<lambda>":
        yield Mutation("a tensor", x[-1], REFUSE)
        yield Mutation("in the wrong order", x[::-1], REFUSE)
        yield Mutation("one too few", x[1:], REFUSE)
        yield Mutation("a tuple", tuple(x), SAME)
        yield Mutation("a row too few", [*x[:-1], x[-1][:-1]], REFUSE)
        yield Mutation("a row to broadcast", [*x[:-1], x[-1][:1]], REFUSE)
        yield Mutation("the first alone", x[:1], EITHER)
    yield Mutation("not contiguous", [t.mT.contiguous().mT for t in x], SAME)
    for t in range(len(x) if name not in row.wild else 0):
        for one in of_floats(name, x[t], row, r):
            if one.name in ("half", "int64", "bool") or "nan" in one.name or "inf" in one.name:
                changed = [*x[:t], one.value, *x[t + 1 :]]
                double = one.double if one.double is None else [
                    table.double() for table in changed
                ]  # fmt: skip
                yield Mutation(f"table {t}: {one.name}", changed, one.wanted, double)


def of_number(name: str, x: float, row: Row, r: random.Random) -> Iterator[Mutation]:
    allowed = EITHER if name in row.none else REFUSE
    yield Mutation("None", None, allowed)
    for value in ("abc", "", [x], (x,), np.array([x]), torch.tensor([x, x]), 1j, object()):
        yield Mutation(f"{type(value).__name__} {value!s:.20}", value, REFUSE)
    for value in (NAN, INF, -INF, 10**400, -(10**5000), "nan"):
        yield Mutation(f"{value!s:.9}" if value != -(10**5000) else "long", value, REFUSE)
    yield Mutation("NumPy's", np.float64(x), SAME)
    yield Mutation("a 0-d tensor", torch.tensor(x, dtype=torch.float64), SAME)
    for value in (
        -1.0,
        -0.0,
        0.0,
        0,
        1,
        2.0,
        True,
        5e-324,
        1e-310,
        1e-46,
        1e30,
        1e39,
        1e300,
        1e308,
    ):
        yield Mutation(f"{value!r}", value, EITHER, float(value))


def of_count(name: str, x: int, row: Row, r: random.Random) -> Iterator[Mutation]:
    allowed = EITHER if name in row.none else REFUSE
    yield Mutation("None", None, allowed)
    for value in ("abc", 1.5, float(x), NAN, INF, [x], np.array([x, x]), 1j, object()):
        yield Mutation(f"{type(value).__name__} {value!s:.20}", value, REFUSE)
    yield Mutation("NumPy's", np.int64(x), SAME)
    yield Mutation("a 0-d tensor", torch.tensor(x), SAME)
    for value in (-1, -(2**62)):
        yield Mutation(f"{value}", value, EITHER if name in row.any_sign else REFUSE)
    for value in (0, 1, 2, 3, 17, 10**9, 10**12, 2**62, 2**63, 10**400, 10**5000):
        yield Mutation(f"{value}" if value < 10**400 else "long", value, EITHER)


def of_object(name: str, x: Any, row: Row, r: random.Random) -> Iterator[Mutation]:
    yield Mutation("None", None, EITHER if name in row.none else REFUSE)
    text = isinstance(x, str)
    for value in (5, 0.5, NAN, [], {1: 2}, b"x", np.zeros(2), torch.zeros(2), nn.Linear(1, 1)):
        yield Mutation(type(value).__name__, value, REFUSE)
    yield Mutation("other text", "nonsense", REFUSE if not text else EITHER)


def mutations(name: str, row: Row, r: random.Random) -> Iterator[Mutation]:
    match row.given[name]:
        case bool() | str() | None:
            return of_object(name, row.given[name], row, r)
        case Tensor() as x if x.dtype == torch.bool:
            return of_mask(name, x, row, r)
        case Tensor() as x if x.is_floating_point():
            return of_floats(name, x.detach(), row, r)
        case Tensor() as x:
            return of_ids(name, x, row, r)
        case list() as x if x and isinstance(x[0], Tensor):
            return of_tables(name, [t.detach() for t in x], row, r)
        case float() as x:
            return of_number(name, x, row, r)
        case int() as x:
            return of_count(name, x, row, r)
        case x:
            return of_object(name, x, row, r)


class Endless(BaseException):
    """The call was cut off."""


@contextlib.contextmanager
def limited(seconds: int) -> Iterator[None]:
    def stop(*_: object) -> None:
        raise Endless

    signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)


def flat(answer: Any) -> list[Any]:
    """All numbers and texts of an answer."""
    if isinstance(answer, Tensor):
        return [answer.detach().double() if answer.dtype.is_floating_point else answer.detach()]
    if isinstance(answer, dict):
        return [x for part in answer.values() for x in flat(part)]
    if isinstance(answer, list | tuple | Iterator):
        return [x for part in answer for x in flat(part)]
    if isinstance(answer, nn.Module):
        return flat(list(answer.state_dict().values()))
    if isinstance(answer, float):
        return [torch.tensor(answer, dtype=torch.float64)]
    return [answer] if isinstance(answer, int | str) else []


def near(a: Any, b: Any, tolerance: float) -> bool:
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        if a.shape != b.shape:
            return False
        finite = b[b.isfinite()].double()
        size = finite.abs().max().item() if finite.numel() else 0.0
        # What float32 leaves of a sum of numbers of size 1 that is 0.
        atol = tolerance * size + (1e-6 if tolerance > 1e-4 else 0)
        return torch.allclose(a.double(), b.double(), rtol=tolerance, atol=atol, equal_nan=True)
    return a == b


def is_ours(error: Exception, name: str) -> bool:
    """Raised by a `raise` of the package, and with the argument's name in it."""
    frame = list(traceback.walk_tb(error.__traceback__))[-1]
    code, line = frame[0].f_code.co_filename, frame[1]
    raised = linecache.getline(code, line).lstrip().startswith("raise ")
    ours = isinstance(error, ValueError | TypeError) and "rlhf_lab" in code and raised
    named = name.removesuffix("s") in str(error) or "nonsense" in str(error)
    return ours and named and len(str(error)) < 600


class Outcome(NamedTuple):
    kind: str
    detail: str = ""


def attempt(row: Row, name: str, one: Mutation, base: list[Any], again: Row | None) -> Outcome:
    """Call once with one argument changed."""
    try:
        with limited(SECONDS):
            answer = flat(row.call(**{**row.given, name: one.value}))
    except Endless:
        return Outcome("wrong", "no end")
    except Exception as error:
        if is_ours(error, name):
            return Outcome("wrong" if one.wanted == SAME else "ours", f"refused: {error}")
        return Outcome("raw", f"{type(error).__name__}: {error}"[:300])
    if one.wanted == REFUSE:
        return Outcome("wrong", "answered")
    numbers = [x for x in answer if isinstance(x, Tensor) and x.is_floating_point()]
    if name not in (*row.wild, *row.gaps) and any(x.isnan().any() for x in numbers):
        return Outcome("wrong", "NaN")
    if not row.infinite and name not in row.wild and any(x.isinf().any() for x in numbers):
        return Outcome("wrong", "infinite")
    if one.wanted == SAME and not all(
        near(a, b, 1e-5) for a, b in zip(answer, base, strict=True)
    ):  # fmt: skip
        return Outcome("wrong", "another answer than for the same numbers")
    if one.double is None or again is None:
        return Outcome("right")
    renew(again)
    try:
        expected = flat(again.call(**{**again.given, name: one.double}))
    except Exception:
        return Outcome("right", "no second opinion")
    if not all(near(a, b, 1e-3) for a, b in zip(answer, expected, strict=True)):
        return Outcome("wrong", f"{answer} instead of {expected}"[:300])
    return Outcome("right")


def table(seed: int, single: bool) -> dict[str, Row]:
    return {**pure(Source(seed, single)), **models(Source(seed, single))}


def in_double(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().double() if value.is_floating_point() else value
    return [in_double(part) for part in value] if isinstance(value, list) else value


def run_all(seed: int) -> dict[str, list[str]]:
    """Every mutation of every argument of every row, sorted into the four classes."""
    r, found = random.Random(seed), collections.defaultdict(list)
    rows = pure(Source(seed, single=True)), pure(Source(seed, single=False))
    for part in (rows[0], rows[1], models(Source(seed, single=seed % 2 == 0))):
        for key, row in part.items():
            renew(row)
            base = [] if row.slow else flat(row.call(**row.given))
            second = key in rows[0] and all(not isinstance(v, GPT2) for v in row.given.values())
            double = {name: in_double(value) for name, value in row.given.items()}
            again = row._replace(given=double) if second else None
            for name in row.given:
                for one in mutations(name, row, r):
                    if row.slow and one.wanted != REFUSE:
                        continue
                    renew(row)
                    outcome = attempt(row, name, one, base, again)
                    found[outcome.kind].append(f"{key}({name}: {one.name}): {outcome.detail}")
    return found


def renew(row: Row) -> None:
    """Generators and caches start anew before every call."""
    for value in row.given.values():
        if isinstance(value, torch.Generator):
            value.manual_seed(5)
        elif isinstance(value, KVCache):
            value.layers.clear()


def test_no_bad_input_gives_a_raw_error_or_a_wrong_number(capsys):
    found = run_all(SEED)
    counts = {kind: len(found[kind]) for kind in ("ours", "right", "raw", "wrong")}
    with capsys.disabled():
        print(f"\nfuzz, seed {SEED}: {sum(counts.values())} calls, {counts}")
    assert not found["raw"] + found["wrong"], "\n".join(found["raw"] + found["wrong"])
    assert sum(counts.values()) >= 4000


def public() -> Iterator[str]:
    """Every function, class and method without an underscore; tuples only hold results."""
    for file in (*PACKAGE.glob("*.py"), *PACKAGE.glob("grids/*.py")):
        here = ".".join(file.relative_to(PACKAGE).with_suffix("").parts)
        if here in ELSEWHERE or file.name.startswith("_"):
            continue
        module = importlib.import_module(f"rlhf_lab.{here}")
        for name, thing in vars(module).items():
            if name.startswith("_") or getattr(thing, "__module__", None) != module.__name__:
                continue
            if inspect.isclass(thing):
                if not issubclass(thing, tuple):
                    yield f"{here}.{name}"
                for method, value in vars(thing).items():
                    known = inspect.isfunction(value) or isinstance(value, classmethod)
                    if known and not method.startswith("_"):
                        yield f"{here}.{name}.{method}"
            elif callable(thing):
                yield f"{here}.{name}"


def test_every_public_callable_is_tried():
    rows = set(table(0, single=False))
    for name in public():
        owner = name.rpartition(".")[0]
        assert name in rows or name in EXEMPT or owner in EXEMPT, f"{name} has no row in test_fuzz"
    assert rows <= set(public())
    assert set(EXEMPT) <= set(public())
