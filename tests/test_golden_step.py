"""A whole step of TRL 0.11.4's PPOTrainer, from weights to weights, with our network and functions.

TRL passes no position ids, so padding on the left shifts its positions: π of a padded row is not
the π that generates from the bare prompt. Its left-padded steps are reproduced here with its
positions; what ours are without them is the last test.
"""

from typing import NamedTuple

import pytest
import torch
from golden import Case, assert_agrees, load, use
from torch import Tensor
from torch.testing import assert_close

from rlhf_lab.entropies import entropy
from rlhf_lab.gpt2 import GPT2, GPT2Config, ScalarHead
from rlhf_lab.masking import masked_mean, masked_sum, masked_whiten
from rlhf_lab.ppo import gae, policy_loss, value_loss
from rlhf_lab.rewards import Rewards, compute_rewards
from rlhf_lab.unembed import pick

STEPS = use("step/")
LEFT = [name for name in STEPS if "/left" in name]


class Network(NamedTuple):
    """A policy and its value head."""

    trunk: GPT2
    head: ScalarHead

    def parameters(self) -> dict[str, Tensor]:
        """Under TRL's names."""
        return dict(self.trunk.named_parameters()) | {
            f"v_head.{name}": parameter for name, parameter in self.head.named_parameters()
        }


def network(which: str) -> Network:
    """The "policy" or its "ref"erence before the step: the same in all four cases."""
    case = load("step/right_kl")
    sizes = {k: v for k, v in case.params["model"].items() if k != "value_head"}
    net = Network(GPT2(GPT2Config(**sizes)), ScalarHead(sizes["n_embd"]))
    prefix = f"{which}."
    weights = {k.removeprefix(prefix): v for k, v in case.inputs.items() if k.startswith(prefix)}
    assert weights.keys() == net.parameters().keys()
    with torch.no_grad():
        for name, parameter in net.parameters().items():
            parameter.copy_(weights[name])
    return net


def states(net: Network, case: Case) -> Tensor:
    """The hidden states that predict tokens 1 to L − 1, at positions that count the padding."""
    seen, L = case.inputs["attention_mask"][:, :-1].bool(), case.inputs["input_ids"].shape[1] - 1
    itself = torch.eye(L, dtype=torch.bool)
    mask = (seen[:, None, None, :] | itself) & torch.ones(L, L).tril().bool()
    return net.trunk.hidden(
        case.inputs["input_ids"][:, :-1], positions=torch.arange(L), mask=mask
    )  # (B, L − 1, D)


def action_mask(case: Case) -> Tensor:
    """The tokens of the responses, found from the lengths of queries and responses, (B, L − 1)."""
    starts = case.inputs["attention_mask"].argmax(dim=1) + (case.inputs["queries"] >= 0).sum(dim=1)
    ends = starts + (case.inputs["responses"] >= 0).sum(dim=1)
    place = torch.arange(1, case.inputs["input_ids"].shape[1])
    return (place >= starts.unsqueeze(1)) & (place < ends.unsqueeze(1))


class Before(NamedTuple):
    """Everything known before the first gradient step; (B, L − 1) unless said otherwise."""

    mask: Tensor
    logits: Tensor  # (B, L − 1, V)
    logprobs: Tensor
    ref_logprobs: Tensor
    values: Tensor
    shaped: Rewards
    advantages: Tensor
    returns: Tensor


@torch.no_grad()
def experience(net: Network, case: Case) -> Before:
    p, chosen, mask = case.params, case.inputs["input_ids"][:, 1:], action_mask(case)
    hidden, reference = states(net, case), network("ref")
    logits, values = net.trunk.logits(hidden), net.head(hidden)
    all_logprobs = logits.log_softmax(dim=-1)
    all_ref = reference.trunk.logits(states(reference, case)).log_softmax(dim=-1)
    logprobs, ref_logprobs = pick(all_logprobs, chosen), pick(all_ref, chosen)
    full = p["kl_penalty"] == "full"
    pair = (all_logprobs, all_ref) if full else (logprobs, ref_logprobs)
    shaped = compute_rewards(case.inputs["scores"], *pair, mask, p["init_kl_coef"], p["kl_penalty"])
    advantages, returns = gae(shaped.rewards, values, mask, gamma=p["gamma"], lam=p["lam"])
    whitened = masked_whiten(advantages, mask)
    return Before(mask, logits, logprobs, ref_logprobs, values, shaped, whitened, returns)


def update(net: Network, case: Case, before: Before) -> dict[str, float]:
    """All epochs of Adam; returns the losses' parts, averaged, under TRL's names."""
    p, chosen, mask = case.params, case.inputs["input_ids"][:, 1:], before.mask
    optimizer = torch.optim.Adam(net.parameters().values(), lr=p["lr"])
    records = []
    for _ in range(p["ppo_epochs"]):
        hidden = states(net, case)
        logits = net.trunk.logits(hidden)
        logprobs = pick(logits.log_softmax(dim=-1), chosen)
        policy = policy_loss(
            logprobs, before.logprobs, before.advantages, mask, clip=p["cliprange"]
        )
        value = value_loss(
            net.head(hidden), before.values, before.returns, mask, clip=p["cliprange_value"]
        )
        loss = policy.loss + p["vf_coef"] * value.loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        records.append(
            {
                "ppo/loss/policy": policy.loss, "ppo/loss/value": value.loss,
                "ppo/loss/total": loss, "ppo/policy/clipfrac": policy.clip_fraction,
                "ppo/policy/approxkl": policy.approx_kl, "ppo/val/clipfrac": value.clip_fraction,
                "ppo/policy/entropy": masked_mean(entropy(logits), mask),
            }
        )  # fmt: skip
    return {key: sum(r[key].item() for r in records) / len(records) for key in records[0]}


@pytest.mark.parametrize("name", STEPS)
def test_before_the_update_every_tensor_is_trls(name):
    case = load(name)
    ours = experience(network("policy"), case)
    mask, out = case.outputs["masks"], case.outputs
    assert torch.equal(ours.mask, mask.bool())
    for field in ("logits", "logprobs", "ref_logprobs", "values", "advantages", "returns"):
        assert_agrees(getattr(ours, field), out[field], mask)
    assert_agrees(ours.shaped.rewards, out["rewards"], mask)
    assert_agrees(ours.shaped.kls, out["kls"], mask)


@pytest.mark.parametrize("name", STEPS)
def test_after_three_epochs_of_adam_every_weight_is_trls(name):
    """A dropped coefficient, a mean over T instead of the mask, a swapped clip: all would show.

    The key third of `c_attn.bias` is left out. Softmax does not see it, so its true gradient is
    0, and Adam turns the noise of the floats into steps of the size of lr.
    """
    case, net = load(name), network("policy")
    first = {key: parameter.detach().clone() for key, parameter in net.parameters().items()}

    losses = update(net, case, experience(net, case))

    D = net.trunk.config.n_embd
    for key, parameter in net.parameters().items():
        comparable = torch.ones_like(parameter, dtype=torch.bool)
        if key.endswith("c_attn.bias"):
            comparable[D : 2 * D] = False
        pair = parameter[comparable], case.outputs[f"policy.{key}"][comparable]
        assert_close(*pair, rtol=2e-4, atol=2e-5, msg=lambda m, key=key: f"{key}: {m}")
        assert (parameter - first[key]).abs().max() > 0.02, f"{key}: lr is 0.01, three times"
    stats = dict(zip(case.params["stats"], case.outputs["stats"].tolist(), strict=True))
    for key, value in losses.items():
        assert value == pytest.approx(stats[key], rel=2e-4, abs=2e-5), key


@pytest.mark.parametrize("name", LEFT)
def test_trl_answers_a_left_padded_row_as_no_one_else_would(name):
    """Ours gives each row what it gives without its padding; TRL counts the pads as positions,
    and is off by 0.6 to 0.9 nats on whole responses. Its unpadded row agrees with ours."""
    case, net = load(name), network("policy")
    tokens, seen = case.inputs["input_ids"], case.inputs["attention_mask"]
    with torch.no_grad():
        logits = net.trunk(tokens[:, :-1], attention_mask=seen[:, :-1])
        ours = pick(logits.log_softmax(dim=-1), tokens[:, 1:])
        for row, pads in enumerate(seen.argmax(dim=1).tolist()):
            bare = tokens[row : row + 1, pads:]
            alone = pick(net.trunk(bare[:, :-1]).log_softmax(dim=-1), bare[:, 1:])
            assert_close(ours[row : row + 1, pads:], alone, rtol=1e-5, atol=1e-5)
    off_by = masked_sum(ours - case.outputs["logprobs"], action_mask(case), dim=1).abs()
    padded = seen[:, 0] == 0
    assert padded.tolist().count(False) == 1
    assert (off_by[padded] > 0.5).all()
    assert (off_by[~padded] < 1e-5).all()
