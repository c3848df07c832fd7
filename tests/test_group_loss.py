"""Losses of groups: ratios, clips that act and clips that cannot, and the gradients of KL terms."""

import math

import pytest
import torch
from golden import masks, normal, property_test, random_logprobs, seeds
from hypothesis import given
from torch.testing import assert_close
from trees import random_tree

from rlhf_lab import exact, gradients
from rlhf_lab.group_loss import cispo_loss, group_policy_loss, kl_in_loss
from rlhf_lab.groups import group_advantages
from rlhf_lab.kl import exact_kl, k2, k3, kl_loss
from rlhf_lab.masking import masked_mean, response_mask
from rlhf_lab.ppo import policy_loss
from rlhf_lab.ratios import importance_ratios

NAN = math.nan


def batch(seed, mask):
    """log π with gradient, log π_old, log π_ref, and an advantage for each response."""
    new, old, ref = (-normal(seed + i, *mask.shape).abs() for i in range(3))
    return new.requires_grad_(), old, ref, normal(seed, len(mask))


@property_test
@given(seeds, masks())
def test_one_advantage_for_all_tokens_is_ppos_loss(seed, mask):
    new, old, _, gain = batch(seed, mask)
    ours = group_policy_loss(new, old, gain, mask, how="batch")
    wide = gain.unsqueeze(1).expand(mask.shape)
    assert_close(ours, policy_loss(new, old, wide.contiguous(), mask).loss)


@property_test
@given(seeds, masks())
def test_rloo_is_the_mean_over_responses_of_the_true_ratio_times_a(seed, mask):
    new, old, _, gain = batch(seed, mask)
    ratio = ((new - old) * mask).sum(1).exp()
    wanted = -torch.minimum(ratio * gain, ratio.clamp(0.8, 1.2) * gain).mean()
    assert_close(group_policy_loss(new, old, gain, mask, level="product"), wanted)


@pytest.mark.parametrize("level", ["token", "sequence", "product"])
@pytest.mark.parametrize("how", ["response", "batch", "sum"])
def test_on_policy_no_clip_acts_and_the_loss_says_nothing(level, how):
    """Trap: ε = 0.2, 1e-9 or none give one gradient, that of Σ −A·log π; the value is Σ −A."""
    mask = torch.tensor([[1, 1, 1], [1, 1, 1], [1, 1, 0]]).bool()
    new, *_ = batch(0, mask)
    gain = group_advantages(normal(1, 3), 3)
    gradients = []
    for clip in (0.2, 1e-9, 0.0, None):
        loss = group_policy_loss(new, None, gain, mask, clip=clip, level=level, how=how)
        gradients.append(torch.autograd.grad(loss, new)[0])
    gradients.append(
        torch.autograd.grad(
            group_policy_loss(new, new.detach(), gain, mask, level=level, how=how), new
        )[0]
    )
    if how == "response":
        assert abs(loss.item()) < 1e-12
    assert gradients[0].norm() > 0.05
    for other in gradients[1:]:
        assert_close(other, gradients[0])


def one(ratio, gain, **settings):
    """Loss of a single token, and its gradient in log π."""
    new = torch.tensor([[math.log(ratio)]], dtype=torch.float64, requires_grad=True)
    gains, old = torch.tensor([gain], dtype=torch.float64), torch.zeros(1, 1, dtype=torch.float64)
    loss = group_policy_loss(new, old, gains, torch.ones(1, 1), **settings)
    return loss.item(), torch.autograd.grad(loss, new)[0].item()


def test_where_each_limit_acts():
    assert one(1.25, 1.0) == pytest.approx((-1.2, 0.0))
    assert one(1.25, 1.0, clip_high=0.3) == pytest.approx((-1.25, -1.25))
    assert one(0.75, -1.0, clip_high=0.3) == pytest.approx((0.8, 0.0))
    assert one(5.0, -1.0) == pytest.approx((5.0, 5.0)), "what PPO never clips"
    assert one(5.0, -1.0, delta=3.0) == pytest.approx((3.0, 0.0)), "delta does"
    assert one(1.25, 1.0, clip=None) == pytest.approx((-1.25, -1.25))


def test_cispo_weighs_log_pi():
    """Trap: TRL's default limit 0.2 makes every weight a fifth; the KL term keeps its size."""
    mask = torch.tensor([[1, 1, 0], [1, 1, 1]]).bool()
    new, old, _, gain = batch(3, mask)
    ratio = (new - old).exp().detach()
    wanted = -masked_mean(ratio.clamp(max=1.5) * gain.unsqueeze(1) * new, mask)
    assert_close(cispo_loss(new, old, gain, mask, clip_high=1.5), wanted)
    free, cut = (
        torch.autograd.grad(cispo_loss(new, None, gain, mask, clip_high=c), new)[0]
        for c in (5.0, 0.2)
    )
    assert_close(cut, 0.2 * free)


@property_test
@given(seeds, masks())
def test_estimators_by_hand(seed, mask):
    new, old, ref, _ = batch(seed, mask)
    ratio = importance_ratios(new, old, mask)
    for estimator, kl in {
        "k3": k3(new, ref), "k2": k2(new, ref), "k3_ratio": ratio * k3(new, ref),
    }.items():  # fmt: skip
        got = kl_in_loss(new, ref, mask, old_logprobs=old, estimator=estimator, how="batch")
        assert_close(got, masked_mean(kl, mask))
    assert_close(kl_in_loss(new, ref, mask, estimator="k2", how="sum"), kl_loss(new, ref, mask))


def mean_gradient(estimator):
    """E over one sampled token of the gradient of the term, in the logits of five words."""
    z, ref = normal(4, 5).requires_grad_(), random_logprobs(5, 5)
    logprobs = z.log_softmax(-1)
    total = torch.zeros(5, dtype=torch.float64)
    for word, p in enumerate(logprobs.exp().tolist()):
        term = kl_in_loss(
            logprobs[word].view(1, 1), ref[word].view(1, 1), torch.ones(1, 1), estimator=estimator
        )
        total += p * torch.autograd.grad(term, z, retain_graph=True)[0]
    return z, logprobs, ref, total


def test_which_kl_each_term_descends():
    for estimator in ("k3_ratio", "k2", "k3"):
        z, logprobs, ref, got = mean_gradient(estimator)
        pair = (ref, logprobs) if estimator == "k3" else (logprobs, ref)
        assert_close(got, torch.autograd.grad(exact_kl(*pair), z)[0])


@pytest.mark.parametrize(("V", "T"), [(3, 2), (4, 3)])
def test_mean_gradients_over_whole_responses(V, T):
    """Enumerated: token ratios leave KL local, and the product ratio alone gives ∇KL(π ‖ π_ref)."""
    tree, ref = random_tree(1, V, T), random_tree(7, V, T)
    logits = [table.clone().requires_grad_() for table in tree]
    tables = [table.log_softmax(1) for table in logits]
    responses = exact.enumerate_responses(V, T)
    mask, rows = response_mask(responses, 0), torch.zeros(len(responses), dtype=torch.long)
    new, old = [], []
    for t in range(T):  # the prefix's row of table t; whatever it is behind <eos>
        new.append(tables[t][rows, responses[:, t]])
        old.append(ref[t][rows, responses[:, t]])
        rows = rows * (V - 1) + (responses[:, t] - 1).clamp(min=0)
    new, old = torch.stack(new, 1), torch.stack(old, 1)
    p = exact.sequence_logprobs(tree).exp()

    def mean_gradient(**settings):
        terms = [
            kl_in_loss(new[i : i + 1], old[i : i + 1], mask[i : i + 1], how="sum", **settings)
            for i in range(len(p))
        ]
        found = torch.autograd.grad(p @ torch.stack(terms), logits, retain_graph=True)
        return torch.cat([x.flatten() for x in found])

    def flat(found):
        return torch.cat([x.flatten() for x in found])

    local = flat(gradients.kl_loss_gradient(tree, ref, "mse"))
    whole = flat(gradients.kl_reward_gradient(tree, ref, "kl"))
    assert_close(mean_gradient(estimator="k3_ratio"), local)
    assert_close(mean_gradient(estimator="k2"), local)
    assert_close(mean_gradient(), flat(gradients.kl_loss_gradient(tree, ref, "k3")))
    assert_close(mean_gradient(estimator="k3_ratio", level="product"), whole)
    assert (local - whole).norm() > 0.1 * whole.norm(), "which a cosine of 0.9994 would hide"


def test_weights_per_token_on_policy():
    new, _, ref, _ = batch(6, torch.ones(2, 3).bool())
    delta, mask = (new - ref).detach(), torch.ones(2, 3)
    for estimator, weight in {"k3": 1 - (-delta).exp(), "k3_ratio": delta, "k2": delta}.items():
        loss = 6 * kl_in_loss(new, ref, mask, estimator=estimator, how="batch")
        assert_close(torch.autograd.grad(loss, new)[0], weight)


def test_off_the_mask_anything_may_stand():
    mask = torch.tensor([[1, 1, 0], [1, 0, 0]]).bool()
    clean, old, ref, gain = batch(7, mask)
    for function in (
        lambda x, y, z: group_policy_loss(x, y, gain, mask, level="sequence"),
        lambda x, y, z: cispo_loss(x, y, gain, mask),
        lambda x, y, z: kl_in_loss(x, z, mask, old_logprobs=y, estimator="k3_ratio"),
    ):
        wanted = function(clean, old, ref)
        wanted.backward()
        dirty = [x.detach().masked_fill(~mask, NAN) for x in (clean, old, ref)]
        got = function(dirty[0].requires_grad_(), *dirty[1:])
        got.backward()
        assert_close(got, wanted)
        assert_close(dirty[0].grad, clean.grad)
        clean.grad = None


LOSS = {
    "logprobs": torch.zeros(2, 2), "old_logprobs": torch.zeros(2, 2),
    "advantages": torch.ones(2), "mask": torch.ones(2, 2),
}  # fmt: skip
KL = {"logprobs": torch.zeros(2, 2), "ref_logprobs": torch.zeros(2, 2), "mask": torch.ones(2, 2)}
LOW = torch.tensor([[0.0, 0], [0, -math.inf]])


@pytest.mark.parametrize(
    ("function", "change", "message"),
    [
        (group_policy_loss, {"advantages": torch.ones(2, 2)}, r"advantages must have shape \(B,\)"),
        (group_policy_loss, {"advantages": torch.tensor([0, NAN])}, "advantages is nan at row 1"),
        (group_policy_loss, {"clip": -0.1}, "clip must be a finite number >= 0"),
        (group_policy_loss, {"clip": None, "clip_high": 0.3}, "clip_high = 0.3 needs clip"),
        (group_policy_loss, {"mask": torch.zeros(2, 2)}, "the mask selects nothing"),
        (group_policy_loss, {"level": "word"}, "level must be one of .*, got 'word'"),
        (group_policy_loss, {"how": "tokens"}, "needs total"),
        (group_policy_loss, {"how": "constant", "length": 1}, "row 0 .* has 2 tokens"),
        (
            group_policy_loss,
            {"old_logprobs": LOW},
            "old_logprobs is -inf at row 1, position 1; a sa",
        ),
        (
            group_policy_loss,
            {"logprobs": torch.full((2, 2), 800.0)},
            r"exp\(logprobs − old_logprobs\) is inf at row 0",
        ),
        (cispo_loss, {"clip_high": 0.0}, "clip_high must be finite and > 0, got 0.0"),
        (cispo_loss, {"logprobs": LOW}, "infinite where only one of them may be"),
        (kl_in_loss, {"ref_logprobs": LOW}, "ref_logprobs is -inf at row 1, position 1; a"),
        (kl_in_loss, {"logprobs": LOW}, "logprobs is -inf at row 1, position 1; a sampled"),
        (kl_in_loss, {"estimator": "k1"}, "estimator must be one of .*, got 'k1'"),
        (kl_in_loss, {"ref_logprobs": torch.zeros(2, 3)}, r"must have shape .* got \(2, 3\)"),
    ],
)
def test_bad_calls_are_refused_in_words(function, change, message):
    given = KL if function is kl_in_loss else LOSS
    with pytest.raises(ValueError, match=message):
        function(**given | change)
