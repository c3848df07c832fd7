"""Each case of notebook 11's hunt shows what its setting does in TRL 1.16.0, and nothing else."""

import pytest
import torch

from rlhf_lab import load_world
from rlhf_lab.lessons import leash_today, silent_settings
from rlhf_lab.lessons.silent_settings import in_words, watch


@pytest.fixture(scope="module")
def batch():
    return leash_today.drawn(load_world().tables("food"))


def ratios(case):
    return [x.after / x.before for x in case.values()]


def test_cispo_cuts_the_policy_gradient_to_a_fifth_and_nothing_else(batch):
    assert ratios(watch("A", batch)) == pytest.approx([0.2, 1, 1], rel=1e-9)


def test_the_bonus_is_a_mean_over_tokens(batch):
    bonus = watch("A", batch)["gradient of β · H"].before
    assert bonus == pytest.approx(silent_settings.BETA / batch.mask.sum().item() ** 0.5)


def test_a_length_limit_shrinks_all_but_the_bonus(batch):
    policy, leash, bonus = ratios(watch("B", batch))
    share = batch.mask.sum().item() / (len(batch.mask) * 256)
    assert (policy, leash) == pytest.approx((share, share), rel=1e-9)
    assert bonus == 1


def test_an_entropy_mask_leaves_the_kl_on_every_token(batch):
    score, leash = watch("C", batch).values()
    assert 0.2 <= score.after <= 0.25
    assert leash == (1, 1)


def test_an_answer_cut_off_turns_the_sign_of_a_wrong_one(batch):
    """The numbers that TRL 1.16.0's own trainer gives."""
    seen = list(watch("D", batch).values())
    assert [x.after for x in seen] == pytest.approx([0.609, 0.609, 0.261], abs=1e-3)
    assert [x.before for x in seen] == pytest.approx([0.577, 0.577, -1.155], abs=1e-3)


def test_normalised_advantages_forget_eta(batch):
    """TRL 1.16.0's own trainer gives 1.155 and 1.162."""
    small, large = watch("E", batch).values()
    assert large.before / small.before == pytest.approx(1000, rel=1e-6)
    assert (small.after, large.after) == pytest.approx((1.155, 1.162), abs=1e-3)


def test_only_tokens_of_the_mask_count(batch):
    wild = batch._replace(
        logprobs=torch.where(batch.mask, batch.logprobs, -9.0),
        entropies=torch.where(batch.mask, batch.entropies, 99.0),
    )
    for case in "ABC":
        assert watch(case, wild) == watch(case, batch)


@pytest.mark.parametrize("case", list("ABCDE"))
def test_a_dashboard_shows_and_says_every_number(batch, case):
    figure, words = silent_settings.dashboard(batch)(case)
    watched = watch(case, batch)
    assert [ax.get_title() for ax in figure.axes] == list(watched)
    for ax, pair in zip(figure.axes, watched.values(), strict=True):
        assert [bar.get_height() for bar in ax.patches] == list(pair)
    lines = in_words(watched).splitlines()
    assert len(lines) == len(watched)
    assert all(name in words for name in watched)


def test_another_case_is_refused(batch):
    with pytest.raises(ValueError, match="no case 'Z'; there are A, B, C, D, E"):
        watch("Z", batch)
