"""Claims about single words, prefixes and groups: notebooks 01, 02, 05, 06, 08, 11 and 12.

The reviews' words are a raw list, too. What a policy says word by word follows from what it says
of whole reviews: the probability of a prefix is the sum over all reviews that begin with it.
"""

import math
from functools import cache

import numpy as np
from claims import claim, collapsed_races, entropy, kl, lists, near, steps_back, tied_answers, tilt

from rlhf_lab import exact
from rlhf_lab.language import encode

T, V = 5, 14


@cache
def reviews():
    """Token ids of all reviews, (N, 5), 0 behind the end, and the number of tokens."""
    tokens = exact.enumerate_responses(vocab_size=V, depth=T).numpy()
    ends = tokens == 0
    return tokens, np.where(ends.any(1), ends.argmax(1) + 1, T)


@cache
def prefixes():
    """Column t: a number for the first t + 1 tokens of each review."""
    tokens, _ = reviews()
    return np.stack([tokens[:, : t + 1] @ V ** np.arange(t + 1) for t in range(T)], axis=1)


def sums(x):
    """Column t: the sum of x over all reviews that begin as this one, up to token t."""
    keys = prefixes()
    return np.stack([np.bincount(k, x, V**T)[k] for k in keys.T], axis=1)


def word_logprobs(p):
    """log π of each token given those before it, (N, 5); 0 behind the end."""
    mass = np.concatenate([np.full((len(p), 1), p.sum()), sums(p)], axis=1)
    return np.log(mass[:, 1:]) - np.log(mass[:, :-1])


def said(text):
    """Where a review stands in the lists."""
    tokens = np.array(encode(text))
    (where,) = np.nonzero((reviews()[0][:, : len(tokens)] == tokens).all(1))
    return where


def one(text):
    (where,) = said(f"{text} <eos>")[reviews()[1][said(f"{text} <eos>")] == len(text.split()) + 1]
    return where


def moments(p, x):
    mean = p @ x
    return mean, math.sqrt(p @ (x - mean) ** 2)


def estimates(p, ref=None):
    """k1, k2 and k3 of each review, added up over its words."""
    d = word_logprobs(p) - word_logprobs(np.exp(lists()[0]) if ref is None else ref)
    return d.sum(1), (d**2 / 2).sum(1), (np.expm1(-d) + d).sum(1)


@claim
def a_discount_makes_length_count():
    _, r, _ = lists()
    length = reviews()[1]
    for gamma, constant, printed in (
        (1, -5, 3.05), (1, 0, 3.05), (1, 5, 3.05), (0.9, -5, 4.34), (0.9, 0, 2.81), (0.9, 5, 2.16),
    ):  # fmt: skip
        p, _ = tilt(0.3, scores=gamma ** (length - 1) * (r + constant))
        near(p @ length, printed)


@claim
def first_words_are_worth_this():
    ref, r, _ = lists()
    p = np.exp(ref)
    near(p @ r, 0.162, 3)
    for word, printed in (("great", 1.27), ("very", 0.32), ("not", -0.25), ("bad", -0.78)):
        rows = said(word)
        near(p[rows] @ r[rows] / p[rows].sum(), printed)


@claim
def food_not_fresh_word_by_word():
    given = np.exp(word_logprobs(np.exp(lists()[0]))[one("not fresh")])
    for probability, printed in zip(given, (0.23, 0.14, 0.40), strict=False):
        near(probability, printed)


@claim
def a_mean_of_rollouts_errs_this_much():
    ref, r, _ = lists()
    std = moments(np.exp(ref), r)[1]
    for n, printed in ((1, 1.02), (10, 0.32), (100, 0.10), (1000, 0.03)):
        near(std / math.sqrt(n), printed)


@claim
def returns_of_not_very_good():
    score = lists()[1][one("not very good")]
    near(score, -1.24)
    for t, printed in enumerate((-0.90, -1.00, -1.12, -1.24)):
        near(score * 0.9 ** (3 - t), printed)


@claim
def lambda_discounts_where_the_critic_is_silent():
    for lam, row in ((0.95, (0.86, 0.90, 0.95)), (0.5, (0.12, 0.25, 0.50))):
        for t, printed in enumerate(row):
            near(lam ** (3 - t), printed)


def first_advantages(lam, constant):
    """GAE of the first word of every review, with the exact critic or with V(food) everywhere."""
    ref, r, _ = lists()
    p, length = np.exp(ref), reviews()[1]
    start = p @ r
    values = np.where(np.arange(1, T + 1) < length[:, None], sums(p * r) / sums(p), r[:, None])
    if constant:
        values = np.where(np.arange(1, T + 1) < length[:, None], start, r[:, None])
    steps = np.diff(np.concatenate([np.full((len(r), 1), start), values], axis=1), axis=1)
    return steps @ lam ** np.arange(T)


@claim
def an_exact_critic_keeps_the_credit():
    p, rows = np.exp(lists()[0]), said("great")
    share = p[rows] / p[rows].sum()
    spreads = []
    for lam in (0.0, 0.5, 0.95, 1.0):
        mean, spread = moments(share, first_advantages(lam, constant=False)[rows])
        near(mean, 1.11)
        spreads.append(spread)
    assert spreads == sorted(spreads)


@claim
def a_constant_critic_loses_it():
    p, rows = np.exp(lists()[0]), said("great")
    share = p[rows] / p[rows].sum()
    means = [share @ first_advantages(lam, constant=True)[rows] for lam in (0.0, 0.5, 0.95, 1.0)]
    assert abs(means[0]) < 1e-12
    assert means == sorted(means)
    near(means[-1], 1.11)


@claim
def one_comparison_by_hand():
    near(1 / (1 + math.exp(-1)), 0.731, 3)
    near(math.log(1 + math.exp(-1)), 0.313, 3)


@claim
def labels_are_right_in_two_of_three():
    ref, _, g = lists()
    levels, where = np.unique(g, return_inverse=True)
    share = np.bincount(where, np.exp(ref))
    right = 1 / (1 + np.exp(-np.abs(levels[:, None] - levels) / 2))
    pairs = np.outer(share, share) * (levels[:, None] != levels)
    assert abs((pairs * right).sum() / pairs.sum() - 0.68) < 0.02


@claim
def only_r_over_eta_counts():
    ref, r, _ = lists()
    for scores, eta, nats, printed in (
        (r, 0.3, 1.43, 1.55),
        (r + 5, 0.3, 1.43, 1.55),
        (3 * r, 0.3, 2.67, 1.78),
        (3 * r, 0.9, 1.43, 1.55),
    ):
        p, _ = tilt(eta, scores=scores)
        near(kl(p, ref), nats)
        near(p @ r, printed)


@claim
def common_and_rare():
    ref, r, _ = lists()
    common = ref > -9
    assert (common.sum(), (~common).sum()) == (918, 401_316)
    near(100 * np.exp(ref)[common].sum(), 94.3, 1)
    near(r[common].max(), 1.84)
    near(r[~common].max(), 2.32)


@claim
def over_all_responses_score_and_gold_have_nothing_in_common():
    _, r, g = lists()
    near(abs(np.corrcoef(r, g)[0, 1]), 0.01)


def draws(n):
    rng = np.random.default_rng(5)
    p = np.exp(lists()[0])
    return rng.choice(len(p), n, p=p / p.sum()), rng.integers(len(p), size=n)


@claim
def right_in_four_pairs_of_five():
    _, r, g = lists()
    a, _ = draws(800_000)
    a, b = a[::2], a[1::2]
    differ = g[a] != g[b]
    right = ((r[a] > r[b]) == (g[a] > g[b]))[differ].mean()
    assert abs(right - 0.81) < 0.008


@claim
def a_coin_between_a_review_and_random_words():
    _, r, g = lists()
    a, random = draws(400_000)
    better = g[a] > g[random]
    assert abs((r[random] > r[a])[better].mean() - 0.51) < 0.008


@claim
def some_log_ratios_are_negative():
    ref, _, _ = lists()
    for eta, printed in ((5, 41), (1, 28), (0.3, 10), (0.1, 3)):
        p, _ = tilt(eta)
        near(100 * p[np.log(p) < ref].sum(), printed, 0)


@claim
def without_them_the_mean_is_wrong():
    ref, _, _ = lists()
    rows = {5: (0.020, 0.167, 0.093), 1: (0.361, 0.703, 0.532)}
    rows |= {0.3: (1.426, 1.625, 1.525), 0.1: (2.671, 2.731, 2.701)}
    for eta, printed in rows.items():
        p, _ = tilt(eta)
        d = np.log(p) - ref
        for x, number in zip((d, np.abs(d), np.maximum(d, 0)), printed, strict=True):
            near(p @ x, number, 3)


@claim
def three_estimates_far_from_home():
    p, _ = tilt(0.1)
    k1, k2, k3 = estimates(p)
    for x, mean, std in ((k1, 2.67, 1.1), (k2, 2.21, 3.3)):
        near(moments(p, x)[0], mean)
        near(moments(p, x)[1], std, 1)
    near(moments(p, k3)[0], 2.67)
    assert abs(moments(p, k3)[1] / 5.1e4 - 1) < 0.02


@claim
def k1_and_k3_cross():
    for eta, first, third in ((5, 0.20, 0.011), (1, 0.74, 0.36), (0.3, 1.06, 4.8)):
        p, _ = tilt(eta)
        k1, _, k3 = estimates(p)
        near(moments(p, k1)[1], first)
        assert abs(moments(p, k3)[1] / third - 1) < 0.05


@claim
def two_reviews_make_k3s_spread():
    p, _ = tilt(0.1)
    k3 = estimates(p)[2]
    parts = p * (k3 - p @ k3) ** 2
    shares = np.sort(parts)[::-1] / parts.sum()
    near(100 * shares[0], 53, 0)
    near(100 * shares[1], 44, 0)


@claim
def many_reviews_as_one_response():
    for eta, n, nats, first, third in ((5, 300, 6.0, 3.41, 0.19), (1, 16, 5.8, 2.96, 1.45)):
        p, _ = tilt(eta)
        k1, _, k3 = estimates(p)
        near(n * (p @ k1), nats, 1)
        near(math.sqrt(n) * moments(p, k1)[1], first)
        near(math.sqrt(n) * moments(p, k3)[1], third)


@claim
def a_mean_over_tokens_is_another_number():
    p, _ = tilt(0.3)
    length = reviews()[1]
    near(p @ length, 3.05)
    near(p @ estimates(p)[0], 1.43)
    near(p @ (estimates(p)[0] / length), 0.55)


@claim
def a_minimum_length_hides_the_kl():
    """q is π* of η = 0.2 without <eos> before the fifth word, so the other words share its part."""
    ref, _, _ = lists()
    p, _ = tilt(0.2)
    tokens, length = reviews()
    words, q = word_logprobs(p), np.where(length == T, 1.0, 0.0)
    start = np.zeros((len(p), 1), int)
    before = np.concatenate([start, prefixes()], axis=1)
    for t in range(T):
        ends = (tokens[:, t] == 0) & (t < length)
        stop = np.bincount(before[ends, t], np.exp(words[ends, t]), V**T)  # one for each prefix
        q *= np.exp(words[:, t]) / (1 - stop[before[:, t]] if t < T - 1 else 1)
    near(q.sum(), 1, 9)
    d, there = np.log(p) - ref, q > 0
    near(kl(p, ref), 1.89)
    near(q @ d, -0.16)
    near(kl(q, ref), 5.12)
    near((q[there] * (np.log(q[there]) - np.log(p[there]))).sum(), 5.28)


@claim
def the_other_mean_sees_a_wrong_temperature():
    ref, _, _ = lists()
    p, _ = tilt(1)
    d = np.log(p) - ref
    length, words = reviews()[1], word_logprobs(p)
    for temperature, mean, ratio in ((0.7, 0.56, 0.74), (1.0, 0.36, 1.00), (1.5, 0.15, 1.32)):
        log_q = np.zeros(len(p))
        for t in range(T):
            here = t < length
            first = np.unique(prefixes()[here, t], return_index=True)[1]
            rows = np.nonzero(here)[0][first]  # one review for each prefix that ends here
            parent = prefixes()[rows, t - 1] if t else np.zeros(len(rows), int)
            z = np.bincount(parent, np.exp(words[rows, t] / temperature), V**T)
            mine = prefixes()[:, t - 1] if t else np.zeros(len(p), int)
            log_q += np.where(
                here, words[:, t] / temperature - np.log(np.maximum(z[mine], 1e-300)), 0
            )
        q = np.exp(log_q)
        near(q.sum(), 1, 9)
        near(q @ d, mean)
        near(q @ np.exp(-d), ratio)


@claim
def two_words_are_charged_like_this():
    common, rare = math.log(0.6 / 0.5), math.log(0.4 / 0.5)
    for value, printed in (
        (common, 0.1823),
        (rare, -0.2231),
        (common**2 / 2, 0.0166),
        (rare**2 / 2, 0.0249),
    ):
        near(value, printed, 4)


@claim
def one_step_of_the_controller():
    near(0.2 * (1 + 0.2 * 128 / 10_000), 0.200512, 6)


@claim
def eta_follows_the_scale_of_the_score():
    _, r, _ = lists()
    for scale in (10, 100):
        assert np.abs(tilt(0.4 * scale, scores=scale * r)[0] - tilt(0.4)[0]).max() < 1e-12


@claim
def k3_in_the_reward_runs_away():
    z = np.log([0.6, 0.4])
    for _ in range(300):
        p = np.exp(z) / np.exp(z).sum()
        d = np.log(p / 0.5)
        charge = np.expm1(-d) + d
        z = z - 0.2 * p * (charge - p @ charge)
    assert np.exp(z[0]) / np.exp(z).sum() > 0.99


@claim
def entropy_of_words_or_of_reviews():
    """At the optimum of the loss the first word is <eos> once in 14; of the objective, in N."""
    tokens, _ = reviews()
    uniform = np.full(len(tokens), 1 / len(tokens))
    near(1 / uniform[tokens[:, 0] == 0].sum(), 402_234, 0)
    assert entropy(uniform) > math.log(14) * 4.33  # so no other policy is more varied


@claim
def ties_part_slowly():
    ratios = {1: 1.6, 10: 2.2, 100: 4.9, 1000: 13.9}
    for theta, ratio in zip(tied_answers(*ratios), ratios.values(), strict=True):
        near(math.exp(theta[0] - theta[1]), ratio, 1)
        near(math.exp(-theta[0]) - math.exp(-theta[1]), -1.389, 3)  # what the flow keeps


@claim
def different_reviews_to_expect():
    near((-np.expm1(128 * np.log1p(-np.exp(lists()[0])))).sum(), 92.4, 1)


@claim
def the_rarer_the_later():
    for rare, printed in ((1e-2, 1e2), (1e-4, 6e3), (1e-6, 4e5)):
        assert 0.5 < steps_back(rare) / printed < 1.5


@claim
def larger_scores_need_more_beta():
    """With scores of 2 the noise has four times the variance, so four times the β holds it."""
    assert abs(collapsed_races(0.0625, 2, seed=11) - 0.87) < 0.06
    assert abs(collapsed_races(0.25, 2, seed=11) - 0.32) < 0.06


def group_push(p, size):
    """E[A | good] − E[A | bad] of GRPO for two answers with scores 1 and 0, groups of `size`."""
    push = 0.0
    for others in range(size):  # how many of the others are good
        chance = math.comb(size - 1, others) * p**others * (1 - p) ** (size - 1 - others)
        for own in (1, 0):
            k = others + own
            if 0 < k < size:
                std = math.sqrt(k * (size - k) / (size * (size - 1)))
                push += (1 if own else -1) * chance * (own - k / size) / std
    return push


@claim
def the_group_size_is_a_leash():
    for size, printed in ((2, 1.41), (8, 4.90)):
        low, high = 0.0, 40.0
        for _ in range(80):
            x = (low + high) / 2
            low, high = (
                (x, high) if group_push(1 / (1 + math.exp(-x)), size) > 0.5 * x else (low, x)
            )
        near(x, printed)


@claim
def a_group_forgets_the_size_of_a_score():
    for best, printed in ((1.0, 1.50), (0.01, 1.47)):
        scores = np.array([0, 0, 0, best])
        near((best - scores.mean()) / (scores.std(ddof=1) + 1e-4), printed)


@claim
def k3s_pull_stays_below_one():
    d = np.linspace(0, 40, 4001)
    slope = np.gradient(np.expm1(-d) + d, d)
    assert slope.max() < 1 + 1e-9
    near(slope[-1], 1, 6)


@claim
def salad_is_1981_reviews():
    ref, r, g = lists()
    salad = (g < 0) & (r > 2)
    assert salad.sum() == 1981
    near(100 * np.exp(ref)[salad].sum(), 0.0012, 4)


@claim
def no_liked_review_scores_above_two():
    _, r, g = lists()
    assert r[g >= 0].max() <= 2


@claim
def the_reward_holds_until_005():
    ref, _, g = lists()
    for eta, gold, nats in (
        (0.3, 1.82, 1.4),
        (0.19, 2.07, 1.9),
        (0.15, 2.18, 2.2),
        (0.13, 2.24, 2.4),
        (0.05, 1.31, 5.2),
        (0.04, -0.72, 9.3),
    ):
        p, _ = tilt(eta)
        near(p @ g, gold)
        near(kl(p, ref), nats, 1)


@claim
def implicit_rewards():
    """η·(log π* − log π_SFT) = r − J*, of three reviews."""
    ref, r, _ = lists()
    p, _ = tilt(0.3)
    for text, score, implicit in (
        ("great", 1.71, 0.59),
        ("cold", -1.44, -2.56),
        ("bad", -1.49, -2.61),
    ):
        i = one(text)
        near(r[i], score)
        near(0.3 * (math.log(p[i]) - ref[i]), implicit)
        near(r[i] - 0.3 * (math.log(p[i]) - ref[i]), 1.1207, 4)


@claim
def dpo_of_one_pair():
    near(math.log(1 + math.exp(-0.5 * 2)), 0.3133, 4)


@claim
def too_sure_costs_more_than_unsure():
    for wins, printed in ((0.73, (0.69, 0.58, 0.86)), (1, (0.69, 0.31, 0.05))):
        for m, loss in zip((0, 1, 3), printed, strict=True):
            right, wrong = math.log(1 + math.exp(-m)), math.log(1 + math.exp(m))
            near(wins * right + (1 - wins) * wrong, loss)


def three_hundred():
    """The 300 reviews that π_SFT says most often, as a language of their own."""
    ref, r, _ = lists()
    rows = ref.argsort()[::-1][:300]
    p = np.exp(ref[rows])
    return p / p.sum(), r[rows], np.exp(ref[rows]).sum()


@claim
def three_hundred_reviews_are_73_percent():
    near(100 * three_hundred()[2], 73, 0)


@claim
def sharper_readers_longer_leash():
    """DPO with β = 0.3 rests where β·(log-ratio of a − of b) = s·(r_a − r_b): at π* of η = β/s."""
    p0, r, _ = three_hundred()
    for s, eta, nats in ((0.5, 0.6, 0.68), (1.0, 0.3, 1.26), (2.0, 0.15, 1.94)):
        p = p0 * np.exp((r - r.max()) / eta)
        p /= p.sum()
        margin = 0.3 * np.log(p / p0)
        gap = margin[:, None] - margin - s * (r[:, None] - r)
        assert np.abs(gap).max() < 1e-9
        near(kl(p, np.log(p0)), nats)


@claim
def a_flipped_label_is_a_shorter_leash():
    """Ten in a hundred labels flipped: a wins with 0.8·σ + 0.1, so DPO rests nearer to home."""
    p0, r, _ = three_hundred()
    z = np.zeros(300)
    wins = 0.8 / (1 + np.exp(-(r[:, None] - r))) + 0.1
    pairs = np.outer(p0, p0)
    for _ in range(6000):
        margin = z[:, None] - z
        z += 40 * (pairs * (wins - 1 / (1 + np.exp(-margin)))).sum(1) / p0 / 40
    p = p0 * np.exp(z / 0.3)
    p /= p.sum()
    near(kl(p, np.log(p0)), 0.93)
