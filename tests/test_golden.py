"""Our functions against the numbers of TRL 0.11.4 (tests/data), and where its numbers are wrong."""

import math
from itertools import pairwise

import pytest
import torch
from golden import CASES, USED, assert_agrees, load, trl_variance, trl_whiten, use
from torch.testing import assert_close

from rlhf_lab.entropies import entropy
from rlhf_lab.kl import kl_penalty
from rlhf_lab.masking import masked_mean, masked_sum, masked_whiten
from rlhf_lab.ppo import gae, policy_loss, value_loss
from rlhf_lab.rewards import AdaptiveKLController, FixedKLController, compute_rewards

UNUSED = {
    "running_moments/12x16": "no running score scaling in rlhf_lab",
    "core/clip_by_value": "torch.clamp",
}
NAN_KL = "kl_penalty/full/neginf_in_policy"
NAN_ADVANTAGES = "compute_advantages/one_token_in_all"
NAN_ENTROPY, ROUNDED_ENTROPY = "core/logits/neginf", "core/logits/peaked_f32"
SKIPPED_LOSS = "loss/ratio_over_threshold/full"
WHITE_REWARDS = tuple(n for n in CASES if CASES[n]["params"].get("whiten_rewards"))


def test_every_case_is_used_or_has_a_reason():
    assert len(CASES) == 120
    assert USED.isdisjoint(UNUSED)
    assert set(CASES) == USED | set(UNUSED)


@pytest.mark.parametrize("name", use("kl_penalty/", without=(NAN_KL,)))
def test_kl_penalty(name):
    case = load(name)
    ours = kl_penalty(*case.inputs.values(), case.params["kl_penalty"])
    assert_agrees(ours, case.outputs["kl"])


@pytest.mark.parametrize("name", use(NAN_KL))
def test_a_token_that_the_policy_forbids_adds_0_where_trl_answers_nan(name):
    case = load(name)
    logprob, ref_logprob = case.inputs["logprob"], case.inputs["ref_logprob"]
    allowed = logprob[0, 0].isfinite()
    ours = kl_penalty(logprob, ref_logprob, "full")
    truth = kl_penalty(logprob[0, 0, allowed], ref_logprob[0, 0, allowed], "full")
    assert_agrees(ours[0, 0], truth)
    assert case.outputs["kl"][0, 0].isnan()
    assert_agrees(ours[0, 1], case.outputs["kl"][0, 1])


@pytest.mark.parametrize("name", use("compute_rewards/"))
def test_compute_rewards_and_its_statistics(name):
    case = load(name)
    scores, logprobs, ref_logprobs, mask = list(case.inputs.values())[:4]
    tokens = case.inputs.get("token_logprobs", logprobs)
    ours = compute_rewards(
        scores, logprobs, ref_logprobs, mask, case.params["kl_coef"], case.params["kl_penalty"]
    )
    for field in ours._fields:
        assert_agrees(getattr(ours, field), case.outputs[field], mask)
        assert (getattr(ours, field)[mask == 0] == 0).all()  # TRL leaves its penalty there
    kl = masked_sum(ours.kls, mask, dim=1)
    assert_agrees(kl, case.outputs["objective_kl_dist"])
    assert_agrees(kl.mean(), case.outputs["objective_kl"])
    assert_agrees(masked_sum(-tokens, mask, dim=1).mean(), case.outputs["objective_entropy"])
    penalty = masked_mean(ours.non_score_rewards, mask)
    assert_agrees(penalty, case.outputs["mean_non_score_reward"])


@pytest.mark.parametrize("name", use("adaptive_kl/"))
def test_adaptive_controller_follows_every_step_and_refuses_to_turn_negative(name):
    """In `n_steps_over_horizon` TRL multiplies η by −0.2: from then on it pays for distance."""
    case = load(name)
    controller = AdaptiveKLController(
        case.params["init_kl_coef"], case.params["target"], case.params["horizon"]
    )
    kls, n_steps, values = (x.tolist() for x in (*case.inputs.values(), case.outputs["value"]))
    for kl, n, (before, after) in zip(kls, n_steps, pairwise(values), strict=True):
        controller.value = before
        if after / before <= 0:
            with pytest.raises(ValueError, match=r"too large for horizon 100: .* horizon above"):
                controller.update(kl, n)
            assert controller.value == before
        else:
            controller.update(kl, n)
            assert math.isclose(controller.value, after, rel_tol=1e-12)


@pytest.mark.parametrize("name", use("fixed_kl/"))
def test_fixed_controller(name):
    case = load(name)
    before, after = case.outputs["value"].tolist()
    controller = FixedKLController(before)
    controller.update(case.inputs["current"].item(), case.inputs["n_steps"].item())
    assert controller.value == after


@pytest.mark.parametrize(
    "name", use("compute_advantages/", without=(*WHITE_REWARDS, NAN_ADVANTAGES))
)
def test_advantages_and_returns(name):
    case = load(name)
    values, rewards, mask = case.inputs.values()
    ours = gae(rewards, values, mask, gamma=case.params["gamma"], lam=case.params["lam"])
    assert_agrees(ours.returns, case.outputs["returns"], mask)
    assert_agrees(trl_whiten(ours.advantages, mask), case.outputs["advantages"], mask)


@pytest.mark.parametrize("name", use(*WHITE_REWARDS))
def test_trl_pays_padding_when_it_whitens_rewards(name):
    """`whiten_rewards` writes mean·(1 − 1/std) into the padding, and TRL's GAE counts it.

    Fed with the same leak and no mask, `gae` reproduces TRL. Fed with the mask it gives what
    the row would give without its padding: TRL's number where nothing follows, else another.
    """
    case = load(name)
    values, rewards, mask = case.inputs.values()
    factors = {"gamma": case.params["gamma"], "lam": case.params["lam"]}
    mean, var = masked_mean(rewards, mask), trl_variance(rewards, mask)
    white = trl_whiten(rewards, mask, shift_mean=False)

    leaky = white + (1 - mask) * mean * (1 - torch.rsqrt(var + 1e-8))
    ours = gae(leaky, values * mask, torch.ones_like(mask), **factors)
    assert_agrees(ours.returns, case.outputs["returns"])
    assert_agrees(trl_whiten(ours.advantages, mask), case.outputs["advantages"], mask)

    for row in range(len(mask)):
        tokens = mask[row].nonzero().flatten().tolist()
        cut = (slice(row, row + 1), slice(tokens[0], tokens[-1] + 1))
        true = gae(white, values, mask, **factors).returns[cut]
        alone = gae(white[cut], values[cut], mask[cut], **factors).returns
        assert_agrees(true, alone)
        padding_follows = not mask[row, tokens[0] :].all()
        off_by = ((true - case.outputs["returns"][cut]).abs() * mask[cut]).max()
        assert off_by > 1e-3 if padding_follows else off_by < 1e-12


@pytest.mark.parametrize("name", use(NAN_ADVANTAGES))
def test_one_token_has_returns_but_no_variance(name):
    case = load(name)
    values, rewards, mask = case.inputs.values()
    ours = gae(rewards, values, mask, gamma=case.params["gamma"], lam=case.params["lam"])
    assert_agrees(ours.returns, case.outputs["returns"], mask)
    assert case.outputs["advantages"].isnan().all()
    with pytest.raises(ValueError, match="selects 1 entries and a variance needs at least 2"):
        masked_whiten(ours.advantages, mask)


@pytest.mark.parametrize("name", use("core/masked", "core/whiten"))
def test_masked_statistics(name):
    case = load(name)
    x = case.inputs["values"]
    mask = case.inputs.get("mask", torch.ones_like(x))  # core.whiten has no mask, nor a rounding
    whiten = "masked_whiten" if "mask" in case.inputs else "whiten"
    assert_agrees(trl_whiten(x, mask), case.outputs[whiten], mask)
    assert_agrees(trl_whiten(x, mask, shift_mean=False), case.outputs[f"{whiten}_keep_mean"], mask)
    assert_close(masked_whiten(x, mask), trl_whiten(x, mask), rtol=6e-8, atol=1e-12)
    if name.startswith("core/masked/"):
        mean = masked_mean(x, mask)
        assert_agrees(mean, case.outputs["masked_mean"])
        assert_agrees(masked_mean(x, mask, dim=1), case.outputs["masked_mean_axis1"])
        assert_agrees(masked_mean((x - mean) ** 2, mask), case.outputs["masked_var_biased"])
        assert_agrees(trl_variance(x, mask), case.outputs["masked_var"])


@pytest.mark.parametrize("name", use("core/logits/"))
def test_logprobs_and_entropy_of_logits(name):
    """TRL's entropy is NaN next to a −inf logit, and loses digits on peaked float32 logits."""
    case = load(name)
    logits, trl = case.inputs["logits"], case.outputs["entropy"]
    logprobs = logits.log_softmax(dim=-1)
    assert_agrees(logprobs, case.outputs["full_logprobs"])
    picked = logprobs.gather(-1, case.inputs["labels"].unsqueeze(-1)).squeeze(-1)
    assert_agrees(picked, case.outputs["logprobs"])
    ours = entropy(logits)
    if name == NAN_ENTROPY:
        forbids = logits.isneginf().any(dim=-1)
        assert torch.equal(trl.isnan(), forbids)
        assert_agrees(ours[~forbids], trl[~forbids])
        for row, h in zip(logits[forbids], ours[forbids], strict=True):
            assert_agrees(h, entropy(row[row.isfinite()]))
    elif name == ROUNDED_ENTROPY:
        assert_close(ours, trl, rtol=0, atol=1e-4)
        assert_agrees(ours, entropy(logits.double()).float())
    else:
        assert_agrees(ours, trl)


@pytest.mark.parametrize("name", use("loss/"))
def test_losses_gradients_and_statistics(name):
    """Above a mean ratio of `ratio_threshold` TRL multiplies both losses by 0; ours stay."""
    case = load(name)
    old, values, logits, vpreds, logprobs, mask, advantages, returns = case.inputs.values()
    out, vf_coef, clip = case.outputs, case.params["vf_coef"], case.params["cliprange"]
    logprobs.requires_grad_(), vpreds.requires_grad_()

    policy = policy_loss(logprobs, old, advantages, mask, clip=clip)
    value = value_loss(vpreds, values, returns, mask, clip=case.params["cliprange_value"])
    (policy.loss + vf_coef * value.loss).backward()

    if name == SKIPPED_LOSS:
        assert masked_mean(out["policy.ratio"], mask) > case.params["ratio_threshold"]
        assert all(out[key] == 0 for key in ("pg_loss", "loss.value", "loss.total"))
        assert not any(out[key].any() for key in ("grad_logprobs", "grad_vpreds"))
        ratio, n = out["policy.ratio"], mask.sum()
        worth_it = torch.where(advantages > 0, ratio < 1 + clip, ratio > 1 - clip)
        gain = advantages * torch.where(worth_it, ratio, 1 + clip * advantages.sign())
        assert_agrees(policy.loss, -gain.mean())
        assert_agrees(logprobs.grad, -advantages * ratio * worth_it / n)
        assert vpreds.grad.any()
    else:
        assert_agrees(policy.loss, out["pg_loss"])
        assert_agrees(value.loss, out["loss.value"])
        assert_agrees(policy.loss + vf_coef * value.loss, out["loss.total"])
        assert_agrees(logprobs.grad, out["grad_logprobs"])
        assert_agrees(vpreds.grad, out["grad_vpreds"])

    assert_agrees(policy.clip_fraction, out["policy.clipfrac"])
    assert_agrees(policy.approx_kl, out["policy.approxkl"])
    assert_agrees(value.clip_fraction, out["val.clipfrac"])
    assert_agrees(masked_mean(entropy(logits), mask), out["policy.entropy"])


@pytest.mark.parametrize("name", use("step/"))
def test_a_whole_step_between_the_networks(name):
    """Rewards, returns, advantages and the next η, from the log-probabilities that TRL computed.

    For mode "full" the file has no logits of the reference; TRL's own penalties stand in for it.
    """
    case = load(name)
    scores, p, out, mask = case.inputs["scores"], case.params, case.outputs, case.outputs["masks"]
    stats = dict(zip(p["stats"], out["stats"].tolist(), strict=True))
    ref = out["ref_logprobs"] if p["kl_penalty"] == "kl" else out["logprobs"] - out["kls"]

    ours = compute_rewards(scores, out["logprobs"], ref, mask, p["init_kl_coef"])
    advantages, returns = gae(ours.rewards, out["values"], mask, gamma=p["gamma"], lam=p["lam"])
    kl = masked_sum(ours.kls, mask, dim=1).mean()
    controller = AdaptiveKLController(p["init_kl_coef"], p["target"], p["horizon"])
    controller.update(kl.item(), n_steps=len(scores))

    assert_agrees(ours.rewards, out["rewards"], mask)
    assert_agrees(ours.kls, out["kls"], mask)
    assert_agrees(returns, out["returns"], mask)
    assert_agrees(masked_whiten(advantages, mask), out["advantages"], mask)
    assert math.isclose(kl.item(), stats["objective/kl"], rel_tol=1e-5)
    assert math.isclose(controller.value, out["kl_coef_after"].item(), rel_tol=1e-6)
