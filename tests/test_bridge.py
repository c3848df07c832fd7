"""docs/bridge.md: its table is the one of `lessons.dialects`, and what it names exists."""

import json
import re

import pytest
import torch
from golden import normal
from scripts import ROOT, load

import rlhf_lab
from rlhf_lab import groups, ratios
from rlhf_lab.config import GroupConfig, PPOConfig
from rlhf_lab.group_loss import cispo_loss, group_policy_loss
from rlhf_lab.groups import group_advantages, leave_one_out, shaped_scores
from rlhf_lab.lessons.dialects import DIALECTS, ROWS, SETTINGS, narrow_table, table

bridge = load("tools/bridge.py")
PAGE = (ROOT / "docs" / "bridge.md").read_text(encoding="utf-8")


def test_the_page_holds_the_table_as_it_is_now():
    assert bridge.up_to_date(PAGE) == PAGE
    assert table() in PAGE


def test_a_changed_table_is_written(tmp_path):
    page = tmp_path / "bridge.md"
    page.write_text(PAGE.replace("nats", "bits"), encoding="utf-8")
    bridge.main(page)
    assert page.read_text(encoding="utf-8").count(table()) == 1
    with pytest.raises(ValueError, match="has lost its marks"):
        bridge.up_to_date("a page without a table")


def test_the_table_is_whole():
    head, rule, *rows = table().splitlines()
    assert len(rows) == len(ROWS) == len(DIALECTS[0]._fields) - 1
    widths = {len(re.split(r"(?<!\\)\|", line)) for line in (head, rule, *rows)}
    assert widths == {len(DIALECTS) + 3}
    assert not [value for dialect in DIALECTS for value in dialect if not value.strip()]


def cells(markdown):
    return [
        [cell.strip() for cell in re.split(r"\|", line)[1:-1]] for line in markdown.splitlines()
    ]


def test_a_narrow_table_is_a_part_of_it_turned_round():
    """A row of the wide table is a column of the narrow one, dialects in the same order."""
    fields = ("place", "coefficient")
    head, _, *rows = cells(narrow_table(*fields))
    dialects, _, *wide = cells(table())
    assert [row[0] for row in rows] == dialects[1:]
    for column, field in enumerate(fields, 1):
        assert [ROWS[field], *(row[column] for row in rows)] in wide
        assert head[column] == ROWS[field]


def test_the_column_of_this_course_says_its_defaults():
    ours, config = DIALECTS[0], PPOConfig()
    assert ours.version == rlhf_lab.__version__
    assert f"`eta` ({config.eta:g})" == ours.coefficient
    assert f"`cliprange` ({config.cliprange:g})" == ours.clip
    assert f"λ {config.lam:g}" in ours.baseline
    assert ours.entropy.startswith(f"`beta` ({config.beta})")
    assert config.kl_target is None
    for file in re.findall(r"`([\w/.]+\.py)`", ours.files):
        assert (ROOT / "rlhf_lab" / file.removeprefix("rlhf_lab/")).exists()


def test_our_grpo_is_what_the_table_says_of_trls():
    trl = next(dialect for dialect in DIALECTS if dialect.name == "TRL GRPO")
    config = GroupConfig.grpo()
    assert (config.leash, "k3 · token ratio" in trl.estimator) == ("k3_ratio", True)
    assert (config.advantage, trl.normalisation) == (
        "group",
        "`scale_rewards`: group deviation + 1e-4",
    )
    assert (config.how, "tokens of the whole generation batch" in trl.denominator) == (
        "tokens",
        True,
    )
    assert trl.group_size == f"`num_generations` ({config.group_size})"


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_a_card_says_number_place_and_unit(setting):
    words = setting.card(0.13)
    assert setting.code.format("0.13") in words
    assert ("η = 0.13/s" if setting.place == "labels" else "η = 0.13") in words
    assert {"reward": "in the reward", "loss": "in the loss", "labels": "sharpness"}[
        setting.place
    ] in words
    assert (setting.place == "loss") == (setting.rests_on != "reward")


def test_every_function_that_the_page_names_exists():
    section = PAGE.partition("## Our function beside theirs")[2].partition("## Traps")[0]
    names = re.findall(r"^\| `(\w+)\(", section, re.MULTILINE)
    assert {"leave_one_out", "aggregate", "dpo_loss", "kl_in_loss", "shaped_scores"} <= set(names)
    homes = (rlhf_lab, groups, ratios, rlhf_lab.group_loss, rlhf_lab.entropies)
    for name in names:
        assert any(hasattr(home, name) for home in homes), name


def test_the_page_counts_the_golden_cases():
    cases = json.loads((ROOT / "tests" / "data" / "trl_today.json").read_text("utf-8"))["cases"]

    def cell(start: str) -> str:
        (row,) = (line for line in PAGE.splitlines() if line.startswith(f"| `{start}"))
        return row.split("|")[-2].strip()

    def count(*families: str) -> int:
        return len([name for name in cases if name.startswith(families)])

    assert cell("leave_one_out").startswith(f"{count('rloo/advantage')}, ")
    assert cell("group_advantages").startswith(f"{count('grpo/advantage')}, ")
    policy = cell('group_policy_loss(…, level="token')
    assert policy == f"{count('grpo/loss')}, 1e-10; {count('grpo/whole')} from logits, 2e-5"
    product = cell('group_policy_loss(…, level="product')
    assert product.startswith(f"{count('rloo/loss')} + {count('rloo/whole')}, 1e-10")
    assert cell("high_entropy_mask").startswith(f"{count('grpo/high_entropy_mask')}, ")
    assert cell("dpo_loss") == f"{count('dpo/')}, 2e-5"


# The traps: each number of the table


def gradient(loss, logprobs):
    return torch.autograd.grad(loss, logprobs)[0]


@pytest.fixture
def batch():
    """Four responses of different length, from the policy itself, and centred advantages."""
    mask = torch.tensor([[1, 1, 1], [1, 0, 0], [1, 1, 0], [1, 0, 0]]).bool()
    advantages = group_advantages(torch.tensor([1.0, 0.0, 2.0, 0.5]).double(), 4)
    return -normal(0, 4, 3).abs().requires_grad_(), advantages, mask


def test_a_clip_that_cannot_act(batch):
    logprobs, advantages, mask = batch
    wide, narrow = (
        gradient(group_policy_loss(logprobs, logprobs.detach(), advantages, mask, clip=c), logprobs)
        for c in (0.2, 1e-9)
    )
    assert torch.equal(wide, narrow)


def test_a_loss_of_0_and_a_gradient_that_is_not(batch):
    logprobs, advantages, mask = batch
    loss = group_policy_loss(logprobs, None, advantages, mask, how="response")
    assert loss.item() == pytest.approx(0, abs=1e-15)
    assert gradient(loss, logprobs).norm() > 0.1
    dapo = group_policy_loss(logprobs, None, advantages, mask, how="tokens", total=7)
    assert abs(dapo.item()) > 0.01


def winner(gap):
    return group_advantages(torch.tensor([gap, 0, 0, 0]).double(), 4, scale="group")[0].item()


def test_the_deviation_makes_every_gap_count_in_full():
    tiny, small, large, one = (winner(gap) for gap in (1e-6, 1e-4, 0.01, 1.0))
    assert f"a gap of 1e-6 gives the winner of four A = {tiny:.4f}" in PAGE
    assert f"1e-4 gives {small:.2f}, 0.01 gives {large:.2f}, 1 gives {one:.2f}" in PAGE
    pair = group_advantages(torch.tensor([9.0, -3.0]).double(), 2, scale="group")
    assert pair.tolist() == pytest.approx([0.5**0.5, -(0.5**0.5)], abs=1e-4)
    assert f"A = ±{0.5**0.5:.4f}" in PAGE


def test_cispos_default_cuts_the_policy_to_a_fifth(batch):
    logprobs, advantages, mask = batch
    cut, free = (
        gradient(cispo_loss(logprobs, None, advantages, mask, clip_high=c), logprobs)
        for c in (0.2, 5.0)
    )
    torch.testing.assert_close(cut, 0.2 * free)


def test_a_masked_answer_still_sets_the_baseline():
    found = group_advantages(torch.tensor([1.0, 1.0, 0.0, -5.0]).double(), 4, scale="group")
    siblings = ", ".join(f"{x:.3f}" for x in found[:3].tolist())
    assert f"with −5 its siblings with 1, 1, 0 get {siblings}" in PAGE


def test_the_kl_takes_a_clipped_score_out_of_its_range():
    scores = torch.tensor([5.0, -5.0]).double().clamp(-1, 1)
    logprobs, ref = torch.tensor([[-1.0], [-0.5]]).double(), torch.tensor([[-3.0], [-2.5]]).double()
    shaped = shaped_scores(scores, logprobs, ref, torch.ones(2, 1), eta=0.5)
    assert shaped.min() < -1
    assert leave_one_out(shaped, 2)[0] == shaped[0] - shaped[1]
