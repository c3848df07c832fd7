"""Where the score lands, what every token pays, and an η that must stay a positive number."""

import itertools

import pytest
import torch
from golden import masks, normal, property_test, random_logprobs, seeds
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from rlhf_lab.kl import exact_kl
from rlhf_lab.masking import response_mask
from rlhf_lab.rewards import AdaptiveKLController, FixedKLController, compute_rewards

NAN, INF = float("nan"), float("inf")
etas = st.sampled_from([0.0, 0.05, 0.2, 1.0])
token_modes = st.sampled_from(["kl", "abs", "mse"])


def test_worked_example():
    """Inputs of TRL's test of `_kl_penalty`, η = 0.2; rewards by hand, equal to TRL 0.7.11's."""
    logprobs = torch.tensor([[0.5, 0.2, 0.1], [0.6, 0.2, 0.1]])
    ref_logprobs = torch.tensor([[0.4, 0.3, 0.0], [0.7, 0.1, 0.3]])
    mask = torch.tensor([[0, 1, 1], [0, 1, 0]])
    result = compute_rewards(torch.tensor([1.0, 2.0]), logprobs, ref_logprobs, mask, 0.2)
    assert_close(result.rewards, torch.tensor([[0, 0.02, 0.98], [0, 1.98, 0]]))
    assert_close(result.non_score_rewards, torch.tensor([[0, 0.02, -0.02], [0, -0.02, 0]]))
    assert_close(result.kls, torch.tensor([[0, -0.1, 0.1], [0, 0.1, 0]]))


def test_numbers_of_torchtune():
    """test_get_rewards_ppo in tests/torchtune/rlhf/test_rewards.py."""
    logprobs = torch.tensor([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6], [0.6, 0.7, 0.8]])
    away = torch.tensor([[0.1], [0.2], [0.3]])
    result = compute_rewards(
        torch.tensor([1.0, 2.0, 3.0]), logprobs, logprobs + away, torch.ones(3, 3), eta=0.5
    )
    expected = torch.tensor([[0.05, 0.05, 1.05], [0.1, 0.1, 2.1], [0.15, 0.15, 3.15]])
    assert_close(result.rewards, expected)
    assert_close(result.kls, -away.expand(3, 3))


@property_test
@given(masks(), seeds, etas, token_modes, st.sampled_from([NAN, INF, -INF, -80.0]))
def test_rewards_equal_a_loop_over_the_unpadded_tokens(mask, seed, eta, mode, junk):
    """TRL lets a NaN in the padding poison its row and, through whitening, the whole batch."""
    d, (B, T) = normal(seed, *mask.shape).masked_fill(~mask, junk), mask.shape
    scores, penalty = normal(seed + 1, B), {"kl": d, "abs": d.abs(), "mse": d * d / 2}[mode]
    expected = [[0.0] * T for _ in range(B)]
    for i, t in itertools.product(range(B), range(T)):
        if mask[i, t]:
            is_last = not mask[i, t + 1 :].any()
            expected[i][t] = -eta * penalty[i, t].item() + is_last * scores[i].item()

    result = compute_rewards(scores, d, torch.zeros(B, T), mask, eta, mode)

    assert_close(result.rewards, torch.tensor(expected, dtype=torch.float64))
    # η = 0 must print as 0, …, 0, score and not as −0, …
    assert not any((x.signbit() & (x == 0)).any() for x in result[:2])


@property_test
@given(masks(), seeds, etas, token_modes)
def test_rewards_of_a_response_add_up_to_score_minus_eta_times_kl(mask, seed, eta, mode):
    logprobs, ref_logprobs = -normal(seed, 2, *mask.shape).exp()
    scores = normal(seed + 1, len(mask))
    result = compute_rewards(scores, logprobs, ref_logprobs, mask, eta, mode)
    assert_close(result.rewards.sum(1), scores - eta * result.kls.sum(1))
    assert_close(result.non_score_rewards, -eta * result.kls)


@property_test
@given(masks(), seeds, etas)
def test_full_mode_pays_the_kl_of_each_state(mask, seed, eta):
    policy, ref = random_logprobs(seed, 2, *mask.shape, 4)
    policy[~mask] = NAN
    result = compute_rewards(torch.zeros(len(mask)), policy, ref, mask, eta, "full")
    assert_close(result.kls[mask], exact_kl(policy[mask], ref[mask]))
    assert_close(result.rewards[mask], -eta * exact_kl(policy[mask], ref[mask]))
    assert (result.rewards[~mask] == 0).all()


@pytest.mark.parametrize("mode", ["kl", "full"])
def test_mean_return_is_the_objective_of_rlhf(mode):
    """Over all 3² responses, E[Σ rewards] = E[r] − η·KL(π ‖ π_ref), the KL of whole responses."""
    first, then = random_logprobs(0, 2, 1, 3), random_logprobs(1, 2, 3, 3)  # [π or π_ref, state, V]
    steps = torch.stack([first.expand(2, 9, 3), then.repeat_interleave(3, dim=1)], dim=2)
    responses = torch.cartesian_prod(torch.arange(3), torch.arange(3))  # (9, T)
    tokens = steps.gather(3, responses.expand(2, 9, 2).unsqueeze(-1)).squeeze(-1)
    (whole, ref_whole), scores, eta = tokens.sum(-1), normal(2, 9), 0.3
    probs = whole.exp()
    assert_close(probs.sum().item(), 1.0)

    inputs = steps if mode == "full" else tokens
    rewards = compute_rewards(scores, *inputs, torch.ones(9, 2), eta, mode).rewards

    objective = (probs * scores).sum() - eta * (probs * (whole - ref_whole)).sum()
    assert_close((probs * rewards.sum(1)).sum(), objective)


def test_a_token_below_the_reference_is_paid():
    """A negative k1 is not a bug: the bonus pulls a token back that fell below π_ref."""
    ref = torch.tensor([[-1.0, -1.0]])
    result = compute_rewards(torch.zeros(1), ref - 1, ref, torch.ones(1, 2), eta=0.2)
    assert_close(result.rewards, torch.tensor([[0.2, 0.2]]))


def test_padding_token_equal_to_eos_keeps_the_score_on_the_first_eos():
    """TRL's PPOv2 put it one past, on a padding slot; the first <eos> is the last action."""
    responses = torch.tensor([[5, 6, 0, 0, 0], [0, 0, 0, 0, 0], [5, 6, 7, 8, 9]])
    zeros = torch.zeros(3, 5)
    rewards = compute_rewards(
        torch.tensor([1.0, 2.0, 3.0]), zeros, zeros, response_mask(responses, 0), eta=0.2
    ).rewards
    assert rewards.tolist() == [[0, 0, 1, 0, 0], [2, 0, 0, 0, 0], [0, 0, 0, 0, 3]]


def test_rewards_are_constants_to_autograd():
    logprobs = normal(0, 2, 3).requires_grad_()
    result = compute_rewards(torch.ones(2), logprobs, normal(1, 2, 3), torch.ones(2, 3), eta=0.1)
    assert not any(tensor.requires_grad for tensor in result)


def test_float64_scores_keep_their_digits():
    """TRL casts them to the float32 of the log-probs without a word."""
    scores, zeros = torch.tensor([1 + 1e-12], dtype=torch.float64), torch.zeros(1, 2)
    assert compute_rewards(scores, zeros, zeros, torch.ones(1, 2), 0.1).rewards[0, 1] == scores[0]


S, LP, MASK = torch.zeros(2), torch.zeros(2, 3), torch.ones(2, 3)
EMPTY_ROW, PADDED = MASK * torch.tensor([[1], [0]]), MASK * torch.tensor([1, 1, 0])
HOLE = torch.tensor([[0, 0, 0], [0, -INF, 0]])


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((S, LP, LP, EMPTY_ROW, 0.1), "row 1 of the mask selects no token: .* drop the row, or"),
        ((S[:0], LP[:0], LP[:0], MASK[:0], 0.1), r"batch is empty: mask has shape \(0, 3\)"),
        ((S, LP, LP, 0.5 * MASK, 0.1), "only 0 and 1"),
        ((torch.tensor([0, NAN]), LP, LP, MASK, 0.1), "scores is nan at row 1; check the reward"),
        ((torch.tensor([-INF, 0]), LP, LP, MASK, 0.1), "scores is -inf at row 0; check the reward"),
        ((S, HOLE, LP, PADDED, 0.1), r'"kl" penalty is -inf at row 1, .*1.*; a sampled token'),
        ((S, LP, HOLE, PADDED, 0.1), r'"kl" penalty is inf at row 1, .*1.*; a sampled token'),
        ((S, HOLE, HOLE, PADDED, 0.1), "penalty is nan at row 1.* sample from π, no top-k"),
        ((S, LP, LP, MASK, -0.1), "eta must be a finite number >= 0, got -0.1"),
        ((S, LP, LP, MASK, NAN), "finite number >= 0, got nan"),
        ((S, LP, LP, MASK, INF), "finite number >= 0, got inf"),
        ((S[:, None], LP, LP, MASK, 0.1), r"scores must have shape \(B,\) = \(2,\), got \(2, 1\)"),
        (
            (S[:1], LP, LP, MASK, 0.1),
            r"scores must have shape \(B,\) = \(2,\), got \(1,\): mask has \(2, 3\)",
        ),
        ((S, LP, LP, MASK[0], 0.1), r"mask must have shape \(B, T\), got \(3,\)"),
        ((S, LP[:, :2], LP[:, :2], MASK, 0.1), r"logprobs .* = \(2, 3, ...\), got \(2, 2\)"),
        (
            (S, LP, LP[:, :2], MASK, 0.1),
            r"ref_logprobs must have shape .* = \(2, 3\), got \(2, 2\)",
        ),
        ((S, LP, LP, MASK, 0.1, "k3"), "mode must be one of .* got 'k3'"),
        (
            (S, LP, LP, MASK, 0.1, "full"),
            r"logprobs must have shape \(B, T, V\), because mode \"full\" sums .*, got \(2, 3\)",
        ),
        ((S, LP[None], LP[None], MASK, 0.1, "full"), r"= \(2, 3, ...\), got \(1, 2, 3\)"),
        ((S, LP.to("meta"), LP, MASK, 0.1), r"on one device, got .*meta.* \.to\(device\)"),
    ],
)
def test_bad_input_is_refused_in_words(args, message):
    with pytest.raises(ValueError, match=message):
        compute_rewards(*args)


def test_controller_follows_the_numbers_worked_by_hand():
    controller, seen = AdaptiveKLController(0.2, target=6, horizon=10_000), []
    for kl, n_steps in [(12, 256), (0, 256), (-5, 256), (7, 128), (6, 128)]:
        controller.update(kl, n_steps)
        seen.append(controller.value)
    expected = [0.201024, 0.19999475712, 0.1989707839635456, 0.1993952549693345]
    assert seen == pytest.approx([*expected, expected[-1]], rel=1e-14)


@pytest.mark.parametrize(("n_steps", "updates"), [(128, 272), (256, 136)])
def test_controller_needs_so_many_updates_to_double(n_steps, updates):
    """ln 2 / ln(1 + 0.2·n_steps / horizon) = 271.1 and 135.7: the brake is slow."""
    controller = AdaptiveKLController(0.2)
    for _ in range(updates - 1):
        controller.update(kl=1e9, n_steps=n_steps)
    assert controller.value < 0.4
    controller.update(kl=1e9, n_steps=n_steps)
    assert controller.value >= 0.4


@property_test
@given(st.floats(-1e3, 1e3), st.floats(0.1, 100), st.integers(0, 4999))
def test_controller_moves_towards_the_target_by_at_most_a_fifth(kl, target, n_steps):
    controller = AdaptiveKLController(1.0, target, horizon=1000)
    controller.update(kl, n_steps)
    assert controller.value > 0
    assert abs(controller.value - 1) <= 0.2 * n_steps / 1000 + 1e-12
    assert (controller.value - 1) * (kl - target) >= 0


def test_fixed_controller_does_not_move():
    controller = FixedKLController(0)
    controller.update(kl=100.0, n_steps=10**6)
    assert controller.value == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: AdaptiveKLController(0), "eta must be finite and > 0, got 0"),
        (lambda: AdaptiveKLController(0.2, target=0), "target must be finite and > 0, got 0"),
        (lambda: AdaptiveKLController(0.2, horizon=-1), "horizon must be finite and > 0, got -1"),
        (lambda: AdaptiveKLController(NAN), "eta must be finite and > 0, got nan"),
        (lambda: AdaptiveKLController(0.2, target=INF), "target must be finite and > 0, got inf"),
        (lambda: FixedKLController(-0.1), "finite number >= 0, got -0.1"),
        (lambda: FixedKLController(NAN), "finite number >= 0, got nan"),
    ],
)
def test_controllers_refuse_bad_settings(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("kl", "n_steps", "message"),
    [
        (NAN, 4, "kl must be a finite number, got nan"),
        (INF, 4, "kl must be a finite number, got inf"),
        (6.0, -1, "n_steps must be a whole number >= 0, got -1"),
        (0.0, 500, r"n_steps 500 is too large for horizon 100: .* by 0; use a horizon above 100"),
    ],
)
def test_a_refused_update_leaves_eta_as_it_was(kl, n_steps, message):
    """In TRL a NaN makes η NaN for ever, and n_steps > 5·horizon makes it negative."""
    controller = AdaptiveKLController(0.2, horizon=100)
    with pytest.raises(ValueError, match=message):
        controller.update(kl, n_steps)
    assert controller.value == 0.2
