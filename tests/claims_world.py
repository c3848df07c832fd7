"""Claims about whole reviews and about small cases: notebooks 00, 02 to 04 and 06 to 09."""

import math

import numpy as np
from claims import (
    best_of,
    claim,
    collapsed_races,
    entropy,
    kl,
    lists,
    near,
    steps_back,
    tied_answers,
    tilt,
)


@claim
def reviews_counted():
    assert sum(13**k for k in range(6)) == len(lists()[0]) == 402_234
    near(np.exp(lists()[0]).sum(), 1, 6)


@claim
def judges_agree():
    ref, r, g = lists()
    near(weighted(ref, r, g), 0.81)


def weighted(ref, r, g):
    p = np.exp(ref)
    r, g = r - p @ r, g - p @ g
    return (p @ (r * g)) / math.sqrt((p @ r**2) * (p @ g**2))


@claim
def prompts_have_zeros_of_their_own():
    for prompt, printed in (("food", 0.16), ("staff", -0.16)):
        ref, r, _ = lists(prompt)
        near(np.exp(ref) @ r, printed)


@claim
def gold_turns():
    rows = {10: (0.26, 0.20), 1: (0.97, 1.01), 0.3: (1.55, 1.82), 0.1: (1.78, 2.33)}
    rows |= {0.08: (1.80, 2.36), 0.06: (1.85, 2.10), 0.04: (2.11, -0.72), 0.03: (2.23, -1.93)}
    for eta, (score, gold) in rows.items():
        p, _ = tilt(eta)
        near(p @ lists()[1], score)
        near(p @ lists()[2], gold)


@claim
def tricks_counted():
    ref, r, g = lists()
    tricks = r > r[g.argmax()]
    assert (tricks.sum(), g[tricks].max()) == (4344, -2.0)
    assert round(1 / np.exp(ref)[tricks].sum()) == 7140
    near(100 * tilt(0.05)[0][tricks].sum(), 29.15)
    near(100 * tilt(0.03)[0][tricks].sum(), 98.58)


@claim
def clipped_scores_hold():
    ref, r, g = lists()
    clipped = np.minimum(r, r[ref > -9].max())
    for eta, gold in ((0.05, 2.64), (0.03, 2.74), (0.01, 2.76)):
        near(tilt(eta, scores=clipped)[0] @ g, gold)


@claim
def best_of_n_turns():
    _, r, g = lists()
    for n, score, gold in (
        (4, 1.18, 1.25),
        (64, 1.81, 2.50),
        (256, 1.85, 2.62),
        (4096, 1.87, 0.70),
    ):
        p = best_of(n)
        near(p @ r, score)
        near(p @ g, gold)


@claim
def best_of_n_multiplies_by_n_at_most():
    for n in (4, 64, 4096):
        assert (best_of(n) / np.exp(lists()[0])).max() <= n * (1 + 1e-9)


@claim
def best_of_n_stays_below_the_formula():
    for n, exact in ((4, 0.64), (64, 3.08), (1024, 4.19)):
        near(kl(best_of(n), lists()[0]), exact)
        assert kl(best_of(n), lists()[0]) < math.log(n) - (n - 1) / n


@claim
def one_eta_two_prompts():
    for prompt, nats, gold in (("food", 9.3, -0.72), ("staff", 4.2, 2.47)):
        p, _ = tilt(0.04, prompt=prompt)
        near(p @ lists(prompt)[2], gold)
        near(kl(p, lists(prompt)[0]), nats, 1)


@claim
def nats_by_eta():
    for eta, nats in ((20, 0.0013), (2, 0.1130), (0.2, 1.8887)):
        near(kl(tilt(eta)[0], lists()[0]), nats, 4)


@claim
def value_is_eta_log_z():
    ref, r, _ = lists()
    p, log_z = tilt(0.3)
    near(0.3 * log_z, 1.1207, 4)
    assert abs(p @ r - 0.3 * kl(p, ref) - 0.3 * log_z) < 1e-10


@claim
def regret_is_eta_kl():
    ref, r, _ = lists()
    best, log_z = tilt(0.3)
    for p, printed in ((np.exp(ref), 0.9583), (best_of(16), 0.0222), (tilt(1)[0], 0.2574)):
        regret = 0.3 * log_z - (p @ r - 0.3 * kl(p, ref))
        near(regret, printed, 4)
        assert abs(regret - 0.3 * kl(p, np.log(best))) < 1e-9


@claim
def totals_are_equal_at_the_optimum():
    ref, r, _ = lists()
    spread = [np.ptp(r - 0.3 * (np.log(tilt(eta)[0]) - ref)) for eta in (0.3, 0.6)]
    assert spread[0] < 1e-9
    assert spread[1] > 1


@claim
def meter_is_blind_to_what_is_missing():
    ref, r, _ = lists()
    best, log_z = tilt(0.3)
    order = best.argsort()[::-1]
    for kept, h, printed in ((order[:5], 1.43, 0.11), (order[2:], 4.02, 0.19)):
        p = np.zeros_like(best)
        p[kept] = best[kept] / best[kept].sum()
        total = r[kept] - 0.3 * (np.log(p[kept]) - ref[kept])
        assert np.ptp(total) < 1e-9
        near(entropy(p), h)
        near(0.3 * log_z - p[kept] @ total, printed)
        near(-0.3 * math.log(best[kept].sum()), printed)


@claim
def slope_is_eta():
    (a, b) = (tilt(eta)[0] for eta in (0.3001, 0.2999))
    ref, r, _ = lists()
    near((b @ r - a @ r) / (kl(b, ref) - kl(a, ref)), 0.3, 4)


@claim
def gain_is_sigma_root_two_kl():
    ref, r, _ = lists()
    p0 = np.exp(ref)
    sigma = math.sqrt(p0 @ (r - p0 @ r) ** 2)
    for eta, ratio in ((10, 1.00), (1, 0.93), (0.3, 0.81), (0.1, 0.69)):
        p, _ = tilt(eta)
        near((p @ r - p0 @ r) / (sigma * math.sqrt(2 * kl(p, ref))), ratio)


@claim
def stopping_is_paying():
    ref, r, _ = lists()
    p = np.exp(ref)
    for _ in range(20):
        p = p * np.exp(0.1 * r)
        p /= p.sum()
    assert np.abs(p - tilt(0.5)[0]).max() < 1e-12


@claim
def moving_the_reference_divides_eta():
    ref, r, g = lists()
    log_p = ref
    for _ in range(10):
        log_p = log_p + r / 0.3
        log_p -= log_p.max() + math.log(np.exp(log_p - log_p.max()).sum())
    assert np.abs(np.exp(log_p) - tilt(0.03)[0]).max() < 1e-9
    near(np.exp(log_p) @ g, -1.93)


@claim
def k1_has_this_spread():
    ref, _, _ = lists()
    for eta, printed in ((1, 0.74), (0.3, 1.06), (0.1, 1.09)):
        p, _ = tilt(eta)
        d = np.log(p) - ref
        near(math.sqrt(p @ (d - p @ d) ** 2), printed)


@claim
def gaussians_cross_at_063():
    """By quadrature over x ~ π = N(μ, 1), π_ref = N(0, 1), KL = μ²/2."""
    x = np.linspace(-16, 16, 400_001)
    for nats, ratio in ((0.005, 14.12), (0.63, 1.00), (1.0, 0.68)):
        mu = math.sqrt(2 * nats)
        p = np.exp(-((x - mu) ** 2) / 2)
        p /= p.sum()
        d = mu * x - nats
        k3 = np.exp(-d) - 1 + d
        stds = [math.sqrt(p @ (k - p @ k) ** 2) for k in (d, k3)]
        near(stds[0] / stds[1], ratio)


def reward_flow(p, home, penalty, steps, lr):
    """PPO's mean update with a penalty in the reward, one word: z ← z − lr·p·(φ − E[φ])."""
    z = np.log(p)
    for _ in range(steps):
        p = np.exp(z - z.max())
        p /= p.sum()
        phi = penalty(p, np.log(p / home))
        z = z - lr * p * (phi - p @ phi)
    return p


PENALTIES = {
    "kl": lambda _, d: d,
    "abs": lambda _, d: np.abs(d),
    "mse": lambda _, d: d**2 / 2,
    "full": lambda p, d: np.full_like(d, p @ d),
}


@claim
def one_mode_comes_home():
    start, home = np.array([0.6, 0.4]), np.array([0.5, 0.5])
    end = {m: reward_flow(start, home, f, 20_000, 0.2)[0] for m, f in PENALTIES.items()}
    assert abs(end["kl"] - 0.5) < 1e-6
    assert abs(end["full"] - 0.6) < 1e-12
    assert min(end["abs"], end["mse"]) > 0.99


@claim
def mse_comes_home_from_one_side():
    for home, starts in ((0.7, (0.4, 0.6)), (0.9, (0.2, 0.8))):
        for p in starts:
            end = reward_flow(two(p), two(home), PENALTIES["mse"], 5_000, 1.0)
            assert abs(end[0] - home) < 0.01
    for home, p in ((0.5, 0.4), (0.5, 0.6), (0.7, 0.8), (0.9, 0.95)):
        end = reward_flow(two(p), two(home), PENALTIES["mse"], 5_000, 1.0)
        assert end[0] < 0.01 or end[0] > 0.99


def two(p):
    return np.array([p, 1 - p])


@claim
def two_halves_of_each_penalty():
    """By the logit of the first word, from differences: once with a fixed φ, once without."""
    step, home = 1e-6, two(0.5)
    halves = {"kl": (0.097, 0), "abs": (-0.010, 0.480), "mse": (-0.002, 0.097), "full": (0, 0.097)}
    for mode, (in_reward, in_loss) in halves.items():
        p, q = (two(1 / (1 + 2 / 3 * math.exp(-z))) for z in (0, step))
        before, after = (PENALTIES[mode](x, np.log(x / home)) for x in (p, q))
        near((q - p) @ before / step, in_reward, 3)
        near(q @ (after - before) / step, in_loss, 3)


@claim
def controller_needs_901_batches():
    step = 1 + 0.2 * 128 / 10_000
    assert round(math.log(10) / math.log(step)) == 901


@claim
def entropy_of_sft():
    near(entropy(np.exp(lists()[0])), 6.1137, 4)
    assert round(math.exp(entropy(np.exp(lists()[0])))) == 452


@claim
def kl_to_uniform():
    p, n = np.exp(lists()[0]), len(lists()[0])
    near(math.log(n), 12.9048, 4)
    near(kl(p, np.full(n, -math.log(n))), 6.7911, 4)


@claim
def words_or_reviews():
    """Each word equally likely: the length, and H = E[length]·ln 14."""
    length = sum((13 / 14) ** k for k in range(5))
    near(length, 4.33)
    near(length * math.log(14), 11.44)


@claim
def beta_alone_is_salad():
    ref, _, g = lists()
    for beta, gold, h in ((0.1, -2.00, 8.0), (0.5, -1.99, 12.1), (1, -1.99, 12.7)):
        p, _ = tilt(0.0, beta)
        near(p @ g, gold)
        near(entropy(p), h, 1)
    near(100 * np.exp(ref)[g > -2].sum(), 93, 0)
    near(100 * (g > -2).mean(), 0.7, 1)


@claim
def just_beyond_beta():
    p, _ = tilt(0.1, 0.125)
    near(100 * np.sort(p)[-7:].sum(), 22, 0)
    near(100 * p[lists()[2] <= -2].sum(), 57, 0)
    assert tilt(0.1, 0.1)[0] @ lists()[2] > 0 > p @ lists()[2]


@claim
def same_score_other_text():
    ref, r, g = lists()
    for eta, beta, gold, ce in ((0.3, 0, 1.8, 4.6), (0, 0.3, -2.0, 26.6)):
        p, _ = tilt(eta, beta)
        near(p @ r, 1.5, 1)
        near(p @ g, gold, 1)
        near(-(p @ ref), ce, 1)


@claim
def how_rare_the_optimum_is():
    for prompt, few, once in (("food", 7, 2.2e5), ("staff", 5, 8.9e8)):
        ref, _, _ = lists(prompt)
        p, _ = tilt(0.02, prompt=prompt)
        order = p.argsort()[::-1]
        kept = order[: int((np.cumsum(p[order]) < 0.9).sum()) + 1]
        assert len(kept) == few
        assert abs(1 / np.exp(ref)[kept].sum() / once - 1) < 0.03


@claim
def e_to_the_kl_is_no_bound():
    """π_SFT says the 90 % of π* far more often than once in e^KL."""
    for prompt in ("food", "staff"):
        ref, _, _ = lists(prompt)
        p, _ = tilt(0.02, prompt=prompt)
        order = p.argsort()[::-1]
        kept = order[: int((np.cumsum(p[order]) < 0.9).sum()) + 1]
        assert np.exp(ref)[kept].sum() > 2.5 * math.exp(-kl(p, ref))


def end_of_two(beta, p0):
    """Two answers, whitened: dx/dt = 1/√(p(1−p)) − βx, in steps that shrink where it is steep."""
    x = math.log(p0 / (1 - p0))
    for _ in range(200_000):
        p = 1 / (1 + math.exp(-x))
        slope = 1 / math.sqrt(p * (1 - p)) - beta * x
        x += min(0.01, 0.01 / max(abs(slope), 1e-12)) * slope
        if x > 25:
            return 1.0
    return 1 / (1 + math.exp(-x))


@claim
def the_critical_beta():
    u = np.linspace(0.5, 2, 2_000_001)
    near((np.cosh(u) / u).min(), 1.50888, 5)
    assert end_of_two(1.50, 0.5) == 1.0
    near(end_of_two(1.52, 0.5), 0.897, 3)


@claim
def two_crossings():
    for beta, holds, lets_go in ((1.52, 0.897, 0.934), (1.6, 0.855, 0.959), (2, 0.765, 0.986)):
        p = np.linspace(0.501, 0.99999, 2_000_001)
        spare = beta * np.log(p / (1 - p)) * np.sqrt(p * (1 - p)) > 1
        edges = p[1:][np.diff(spare.astype(int)) != 0]
        assert len(edges) == 2
        near(edges[0], holds, 3)
        near(edges[1], lets_go, 3)
    assert end_of_two(2, 0.99) == 1.0
    near(end_of_two(2, 0.95), 0.765, 3)


@claim
def ties_part():
    (theta,) = tied_answers(10_000)
    near(math.exp(theta[0] - theta[1]), 43.2, 1)


@claim
def half_the_noise_half_the_beta():
    """The race, with another generator: collapsed at β = 0, at lr/(2·batch), and far above."""
    assert abs(collapsed_races(0.0, 1, seed=7) - 0.87) < 0.05
    assert abs(collapsed_races(0.0625, 1, seed=7) - 0.33) < 0.06
    assert collapsed_races(0.125, 1, seed=7) < 0.12


@claim
def drift_has_a_law():
    """E[p(1 − p)] shrinks by 1 − α² a step: exactly, by one step of the chain."""
    alpha, p = 0.1, 0.3
    after = p * (h := p + alpha * (1 - p)) * (1 - h) + (1 - p) * (k := p - alpha * p) * (1 - k)
    assert abs(after / (p * (1 - p)) - (1 - alpha**2)) < 1e-12


@claim
def late_bonus_plain_never():
    near(steps_back(1e-9) / 1e8, 3, 0)


@claim
def late_bonus_natural_at_once():
    x, steps = math.log(1e-9 / (1 - 1e-9)), 0
    while 1 / (1 + math.exp(-x)) < 0.1:
        x, steps = x - 0.1 * x, steps + 1
    assert steps in (22, 23)


@claim
def optimum_of_the_last_loop():
    near(math.exp(2) / (math.exp(2) + 3), 0.71)
