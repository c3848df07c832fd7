"""What DPO finds in a population of pairs, in closed form where there is one."""

import math

import pytest
import torch
from golden import normal, random_logprobs
from torch.testing import assert_close
from trees import random_language

from rlhf_lab import exact
from rlhf_lab.dpo import dpo_loss
from rlhf_lab.population_dpo import dpo_optimum, dpo_path, population_loss
from rlhf_lab.preferences import Comparisons, all_comparisons, sampled_comparisons

TREE, REF, R = random_language(4, 3)
BETA = 0.5


def off(a, b):
    """Total variation."""
    return 0.5 * (a.exp() - b.exp()).abs().sum().item()


def star(eta, r=R):
    return exact.optimum(REF, r, eta).logprobs


@pytest.mark.parametrize("drawn", [REF, random_logprobs(3, len(REF)), 0 * REF - math.log(len(REF))])
def test_bradley_terry_labels_lead_to_pi_star_whatever_the_pairs_are_drawn_from(drawn):
    found = dpo_optimum(REF, all_comparisons(drawn, R), BETA)
    assert off(found, star(BETA)) < 1e-7
    assert off(found, REF) > 0.1


@pytest.mark.parametrize("sharpness", [0.5, 2.0])
def test_the_leash_is_beta_over_the_sharpness(sharpness):
    found = dpo_optimum(REF, all_comparisons(REF, R, sharpness=sharpness), BETA)
    assert off(found, star(BETA / sharpness)) < 1e-7


def test_with_token_tables_it_is_the_same_policy():
    """π as T tables, and torch's own minimiser: the other route."""
    pairs = all_comparisons(REF, R)
    logits = [table.clone().requires_grad_() for table in TREE]
    optimizer = torch.optim.LBFGS(
        logits, lr=1, max_iter=2000, tolerance_grad=1e-13, tolerance_change=0,
        history_size=50, line_search_fn="strong_wolfe",
    )  # fmt: skip

    def closure():
        optimizer.zero_grad()
        joint = exact.sequence_logprobs([x.log_softmax(1) for x in logits])
        loss = population_loss(joint, REF, pairs, BETA)
        loss.backward()
        return loss

    optimizer.step(closure)
    joint = exact.sequence_logprobs([x.detach().log_softmax(1) for x in logits])
    assert off(joint, star(BETA)) < 1e-5


def test_flipped_labels_pull_back_to_the_reference_and_robust_undoes_it():
    pairs = all_comparisons(REF, R, flipped=0.1)
    plain = dpo_optimum(REF, pairs, BETA)
    kl = [exact.evaluate(x, REF, R, R).kl.item() for x in (plain, star(BETA))]
    assert kl[0] < 0.8 * kl[1]
    robust = dpo_optimum(REF, pairs, BETA, kind="robust", label_smoothing=0.1)
    assert off(robust, star(BETA)) < 1e-7


def test_smoothing_the_labels_is_flipping_them():
    a = dpo_optimum(REF, all_comparisons(REF, R), BETA, label_smoothing=0.1)
    b = dpo_optimum(REF, all_comparisons(REF, R, flipped=0.1), BETA)
    assert off(a, b) < 1e-9


def test_ipo_tilts_by_the_win_rate():
    """Finite without label noise, too; but what is tilted is the win rate, not the reward."""
    for sharpness in (1.0, None):
        pairs = all_comparisons(REF, R, sharpness=sharpness)
        wins = torch.zeros(len(R), len(R), dtype=torch.float64).index_put(
            (pairs.chosen, pairs.rejected), pairs.weights, accumulate=True
        )
        rate = (wins / (wins + wins.T)) @ REF.exp()
        found = dpo_optimum(REF, pairs, BETA, kind="ipo")
        assert off(found, star(BETA, rate)) < 1e-7
        assert off(found, star(BETA)) > 0.1


def test_without_noise_there_is_no_leash():
    """The better one always wins: the loss falls for ever, and β is only a speed."""
    pairs = all_comparisons(REF, R, sharpness=None)
    with pytest.raises(ValueError, match="pairs have no minimum: some response never loses"):
        dpo_optimum(REF, pairs, BETA)
    best = -REF[R.argmax()].item()
    for beta in (0.1, 0.5):
        path = list(dpo_path(REF, pairs, beta, steps=800, every=200, lr=0.1))
        kls = [exact.evaluate(x, REF, R, R).kl.item() for x in path]
        assert kls == sorted(kls)
        assert exact.evaluate(star(0.5), REF, R, R).kl < kls[-1] < best


def test_what_was_never_compared_is_undetermined():
    """Three starts, one loss, the same odds among the seen, and any mass on the rest."""
    seen = torch.arange(len(REF)) % 2 == 0
    drawn = torch.where(seen, REF, -torch.inf).log_softmax(0)
    pairs = all_comparisons(drawn, R)
    ends = [dpo_optimum(REF, pairs, BETA, start=REF + shift * ~seen) for shift in (0.0, 3.0, -3.0)]
    losses = [population_loss(x, REF, pairs, BETA).item() for x in ends]
    assert losses == pytest.approx([losses[0]] * 3, abs=1e-12)
    for end in ends:
        within = [torch.where(seen, x, -torch.inf).log_softmax(0) for x in (end, star(BETA))]
        assert off(*within) < 1e-9
    unseen = [x.exp()[~seen].sum().item() for x in ends]
    assert max(unseen) > 0.8
    assert min(unseen) < 0.1


def test_the_part_left_open_is_where_gradient_steps_leave_it():
    fair = torch.full((4,), 0.25).double().log()
    pairs = Comparisons(
        torch.tensor([0, 1]), torch.tensor([1, 0]), torch.tensor([0.8, 0.2]).double()
    )
    found = dpo_optimum(fair, pairs, 1.0)
    u = found - found[2]
    assert u[3] == pytest.approx(0)
    assert (u[0] + u[1]).item() == pytest.approx(0)
    assert (u[0] - u[1]).item() == pytest.approx(math.log(4))
    *_, end = dpo_path(fair, pairs, 1.0, steps=500, lr=0.02)
    assert off(found, end) < 1e-3


def test_a_sample_of_pairs_is_a_batch_of_dpo():
    g = torch.Generator().manual_seed(0)
    pairs = sampled_comparisons(REF, R, 64, g)
    policy = random_logprobs(4, len(REF))
    both = (x[ids] for x in (policy, REF) for ids in (pairs.chosen, pairs.rejected))
    for kind in ("sigmoid", "ipo", "hinge", "robust"):
        both = [x[ids] for x in (policy, REF) for ids in (pairs.chosen, pairs.rejected)]
        assert_close(
            population_loss(policy, REF, pairs, BETA, kind=kind), dpo_loss(*both, BETA, kind=kind)
        )


def test_a_path_takes_adams_steps():
    pairs = all_comparisons(REF, R)
    x = REF.clone().requires_grad_()
    adam = torch.optim.Adam([x], lr=0.05)
    for _ in range(7):
        adam.zero_grad()
        population_loss(x.log_softmax(0), REF, pairs, BETA).backward()
        adam.step()
    path = list(dpo_path(REF, pairs, BETA, steps=7))
    assert len(path) == 7
    assert_close(path[-1], x.detach().log_softmax(0), rtol=0, atol=1e-6)
    assert len(list(dpo_path(REF, pairs, BETA, steps=7, every=3))) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"beta": 0}, "beta must be finite and > 0"),
        ({"kind": "hinge"}, "its minimum is no single policy"),
        ({"kind": "robust", "label_smoothing": 0.6}, "label_smoothing must be below 0.5"),
        (
            {"pairs": Comparisons(*(torch.tensor([5]),) * 2, torch.ones(1).double())},
            "names response 5",
        ),
        ({"ref_logprobs": torch.tensor([0.0, -math.inf])}, "chosen names response 1, which ref_l"),
        ({"start": torch.zeros(3)}, r"start must have shape \(N,\) = \(2,\)"),
    ],
)
def test_bad_calls_are_refused_in_words(change, message):
    fair = torch.full((2,), 0.5).log()
    given = {"ref_logprobs": fair, "pairs": all_comparisons(fair, normal(0, 2)), "beta": 0.1}
    with pytest.raises(ValueError, match=message):
        dpo_optimum(**given | change)
