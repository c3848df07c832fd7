"""Our functions against the numbers of TRL 1.16.0's RLOO, GRPO and DPO trainers (tests/data).

float64 agrees to 1e-10, with two exceptions. A standard deviation in TRL holds a factor n/(n − 1)
made in float32: advantages agree to 1e-7. Its fused head answers in float32: 2e-5.
"""

import json

import numpy as np
import pytest
import torch
from golden import DATA, Case
from torch.testing import assert_close

from rlhf_lab.dpo import dpo_loss, implicit_reward
from rlhf_lab.entropies import entropy, high_entropy_mask
from rlhf_lab.group_loss import cispo_loss, group_policy_loss, kl_in_loss
from rlhf_lab.groups import group_advantages, leave_one_out, shaped_scores
from rlhf_lab.kl import k1, response_kl
from rlhf_lab.masking import masked_mean, masked_sum
from rlhf_lab.ppo import response_logprobs
from rlhf_lab.ratios import importance_ratios
from rlhf_lab.unembed import pick

CASES = json.loads((DATA / "trl_today.json").read_text(encoding="utf-8"))["cases"]
with np.load(DATA / "trl_today.npz", allow_pickle=False) as _file:
    ARRAYS = dict(_file)
USED: set[str] = set()
HOW = {
    "grpo": "response", "bnpo": "batch", "dr_grpo": "constant", "dapo": "tokens",
    "cispo": "tokens", "luspo": "sum",
}  # fmt: skip


def use(prefix: str) -> list[str]:
    names = [name for name in CASES if name.startswith(prefix)]
    assert names, f"no golden case starts with {prefix}"
    USED.update(names)
    return names


def load(name: str) -> Case:
    def tensors(side):
        return {key: torch.tensor(ARRAYS[f"{name}/{side}/{key}"]) for key in CASES[name][side]}

    return Case(CASES[name]["params"], tensors("in"), tensors("out"))


def agrees(ours, trl, tolerance=1e-10):
    size = max(trl.abs().max().item(), 1e-3)
    assert_close(ours.double(), trl.double(), rtol=tolerance, atol=tolerance * size)


@pytest.mark.parametrize("name", use("grpo/advantage/"))
def test_group_advantages(name):
    """Rewards of several functions are summed; or each made an advantage first, then the sum."""
    p, given, out = load(name)
    G, several = p["num_generations"], p.get("multi_objective_aggregation")
    if several == "normalize_then_sum":
        parts = [group_advantages(r, G, scale="group") for r in given["rewards_per_func"].T]
        total = torch.stack(parts, dim=1) @ given["weights"]
        ours = group_advantages(total, len(total), scale="group")
    elif several:
        ours = group_advantages(given["rewards_per_func"] @ given["weights"], G, scale="group")
    else:
        ours = group_advantages(given["rewards"], G, scale=p["scale_rewards"])
    agrees(ours, out["advantages"], 1e-7)
    if p["scale_rewards"] != "batch" and "frac_reward_zero_std" in out and "nan_row" not in name:
        dead = (group_advantages(given["rewards"], G).view(-1, G) == 0).all(dim=1)
        agrees(dead.double().mean(), out["frac_reward_zero_std"])


@pytest.mark.parametrize("name", use("rloo/advantage/"))
def test_rloo_advantages(name):
    """Clip, then the leash, then the baseline; normalised as if the whole batch were a group."""
    p, given, out = load(name)
    scores, *tokens = given.values()
    if p["reward_clip_range"]:
        scores = scores.clamp(*p["reward_clip_range"])
    ours = leave_one_out(shaped_scores(scores, *tokens, p["beta"]), p["num_generations"])
    if p["normalize_advantages"]:
        ours = group_advantages(ours, len(ours), scale="group")
    agrees(ours, out["advantages"], 1e-7)
    logprobs, ref_logprobs, mask = tokens
    agrees(masked_sum(logprobs, mask, dim=1), out["old_logps"])
    if "kl_metric" in out:
        per_token = masked_mean(k1(logprobs, ref_logprobs), mask)
        agrees(per_token, out["kl_metric"], 1e-6)
        per_response = response_kl(logprobs, ref_logprobs, mask).mean()
        length = masked_mean(torch.ones_like(logprobs), mask) * mask.sum() / len(mask)
        agrees(per_response, per_token * length)


def grpo_loss(p, given, logprobs, H):
    """TRL's loss from ours: policy term, KL term and entropy bonus, each with its own mask."""
    old, mask, beta = given.get("old_logprobs"), given["mask"], p["beta"]
    kind, acc = p["loss_type"], p["current_gradient_accumulation_steps"]
    tokens = given.get("num_items_in_batch", mask.sum()).clamp(min=1).item()
    total = tokens * acc / p["steps_per_generation"]
    divided = {"how": HOW[kind], "total": total, "length": p["max_completion_length"]}
    level, share = p["importance_sampling_level"], p["top_entropy_quantile"]
    kept = high_entropy_mask(H.detach(), mask, share) if share < 1 else mask
    assert share == 1 or divided["how"] == "tokens"  # else the denominator would be cut as well
    chosen = (logprobs, old, given["advantages"], kept)
    if kind == "cispo":
        loss = cispo_loss(*chosen, clip_high=p["epsilon_high"], level=level, **divided)
    else:
        band = {"clip": p["epsilon"], "clip_high": p["epsilon_high"], "delta": p["delta"]}
        loss = group_policy_loss(*chosen, **band, level=level, **divided)
    if beta:
        loss = loss + beta * kl_in_loss(
            logprobs, given["ref_logprobs"], mask, old_logprobs=old, level=level, **divided,
            estimator="k3_ratio" if p["use_bias_correction_kl"] else "k3",
        )  # fmt: skip
    loss = loss if divided["how"] == "tokens" else loss / acc
    return loss - p["entropy_coef"] * masked_mean(H, kept) / acc


@pytest.mark.parametrize("name", use("grpo/loss/"))
def test_grpo_losses_and_gradients(name):
    p, given, out = load(name)
    logprobs, H = given["logprobs"].requires_grad_(), given["entropy"].requires_grad_()
    loss = grpo_loss(p, given, logprobs, H)
    loss.backward()
    agrees(loss, out["loss"])
    agrees(logprobs.grad, out["grad_logprobs"])
    if "grad_entropy" in out:
        agrees(H.grad, out["grad_entropy"])
    else:
        assert not H.grad.any()
    old, mask = given.get("old_logprobs"), given["mask"]
    if "kl" in out:
        kl = kl_in_loss(
            logprobs, given["ref_logprobs"], mask, old_logprobs=old, how="batch",
            level=p["importance_sampling_level"],
            estimator="k3_ratio" if p["use_bias_correction_kl"] else "k3",
        )  # fmt: skip
        agrees(kl, out["kl"], 1e-6)  # TRL's log is float32
    if "clip_ratio_high_mean" in out:
        ratio = importance_ratios(logprobs, old, mask, p["importance_sampling_level"])
        gain = given["advantages"].unsqueeze(1)
        high = ((ratio > 1 + p["epsilon_high"]) & (gain > 0)).double()
        low = ((ratio < 1 - p["epsilon"]) & (gain < 0)).double()
        share = masked_mean if p["importance_sampling_level"] == "token" else of_rows
        agrees(share(high, mask), out["clip_ratio_high_mean"], 1e-6)
        agrees(share(low, mask), out["clip_ratio_low_mean"], 1e-6)


def of_rows(x, mask):
    return x[:, 0].mean()


@pytest.mark.parametrize("name", use("grpo/high_entropy_mask/"))
def test_high_entropy_mask(name):
    p, given, out = load(name)
    ours = high_entropy_mask(given["entropy"], given["mask"], 1 - p["threshold"])
    assert torch.equal(ours, out["keep"].bool())


@pytest.mark.parametrize("name", use("rloo/loss/"))
def test_rloo_losses_and_gradients(name):
    """TRL keeps Σ log π_old of each response; here it lies on the response's first token."""
    p, given, out = load(name)
    logprobs, mask = given["logprobs"].requires_grad_(), given["mask"]
    loss = rloo_loss(p, given, logprobs)
    loss.backward()
    agrees(loss, out["loss"])
    agrees(logprobs.grad, out["grad_logprobs"])
    assert not logprobs.grad[mask == 0].any()


def rloo_loss(p, given, logprobs):
    old = torch.zeros_like(logprobs)
    old[torch.arange(len(old)), given["mask"].argmax(dim=1)] = given["old_logps"].to(old)
    return group_policy_loss(
        logprobs, old, given["advantages"], given["mask"], level="product",
        clip=p["epsilon"], clip_high=p["epsilon_high"],
    )  # fmt: skip


@pytest.mark.parametrize("name", use("grpo/whole/") + use("rloo/whole"))
def test_whole_losses_from_logits(name):
    """From logits to the gradient in them; the temperature divides the logits of both policies."""
    p, given, out = load(name)
    logits, ids, P = given["logits"].requires_grad_(), given["input_ids"], p["prompt_length"]
    warm = logits / p["temperature"]
    logprobs, H = response_logprobs(warm, ids, P), entropy(warm[:, P - 1 : -1])
    loss = grpo_loss(p, given, logprobs, H) if "loss_type" in p else rloo_loss(p, given, logprobs)
    loss.backward()
    agrees(loss, out["loss"], 2e-5)
    agrees(logits.grad, out["grad_logits"], 2e-5)
    agrees(masked_mean(H, given["mask"]), out["entropy"], 2e-5)


@pytest.mark.parametrize("name", use("fused_head/"))
def test_logprobs_and_entropy_of_logits(name):
    p, given, out = load(name)
    logits, labels = given["logits"].requires_grad_(), given["labels"][:, 1:]
    warm, valid = logits[:, :-1] / p["temperature"], labels != -100
    logprobs = pick(warm.log_softmax(-1), labels.clamp(min=0)) * valid
    H = entropy(warm) * valid
    ((logprobs * given["w_logprob"]).sum() + (H * given["w_entropy"]).sum()).backward()
    agrees(logprobs, out["log_probs"], 2e-5)
    agrees(H, out["entropy"], 2e-5)
    agrees(logits.grad, out["grad_logits"], 2e-5)


@pytest.mark.parametrize("name", use("dpo/"))
def test_dpo_losses_and_gradients(name):
    """TRL's "ipo" and "sigmoid_norm" take means over the completion where the papers take sums."""
    p, given, out = load(name)
    ids, mask = given["input_ids"], given["completion_mask"]
    logits = given["logits"].requires_grad_()
    tokens = response_logprobs(logits, ids, 1)
    sums = masked_sum(tokens, mask[:, 1:], dim=1)
    ref = masked_sum(response_logprobs(given["ref_logits"], ids, 1), mask[:, 1:], dim=1)
    n, loss = len(sums) // 2, 0.0
    for kind, weight in zip(p["loss_types"], p["loss_weights"], strict=True):
        if kind == "sft":
            loss = loss - weight * masked_mean(tokens[:n], mask[:n, 1:])
            continue
        lengths = mask.sum(dim=1) if kind in ("ipo", "sigmoid_norm") else torch.ones(2 * n)
        pairs = (x for side in (sums / lengths, ref / lengths) for x in (side[:n], side[n:]))
        kind = kind.removesuffix("_norm")
        loss = loss + weight * dpo_loss(
            *pairs, p["beta"], kind=kind, label_smoothing=p["label_smoothing"]
        )
    loss.backward()
    agrees(loss, out["loss"], 2e-5)
    agrees(logits.grad, out["grad_logits"], 2e-5)
    reward = implicit_reward(sums, ref, p["beta"])
    means = {
        "chosen": reward[:n], "rejected": reward[n:], "margins": reward[:n] - reward[n:],
        "accuracies": (reward[:n] > reward[n:]).double(),
    }  # fmt: skip
    for metric, values in means.items():  # of float32 numbers that may cancel
        assert_close(values.mean(), out[f"rewards_{metric}"].double(), rtol=2e-5, atol=1e-7)


def test_every_case_is_used():
    assert set(CASES) == USED
    assert len(CASES) == 85
