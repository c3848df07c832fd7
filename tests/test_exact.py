"""Every response counted: the optimum, the regret, and the identities that tie them together."""

import decimal
import itertools
import math

import pytest
import torch
from golden import normal
from trees import close, coefficients, random_language, random_tree, shapes

from rlhf_lab import exact, gradients, language
from rlhf_lab.entropies import entropy
from rlhf_lab.kl import exact_kl
from rlhf_lab.world import load_world


def prefixes(V, t):
    """The prefixes of t words in the order of the rows of table t."""
    return list(itertools.product(range(1, V), repeat=t))


def through(responses, prefix):
    """Which responses begin with these words."""
    return (responses[:, : len(prefix)] == torch.tensor(prefix, dtype=torch.long)).all(1)


def on_review_world(eta, beta=0.0):
    """`Evaluation` of the optimum, a mean over the prompts."""
    found = []
    for _, ref, scores, golds in map(load_world().tables, language.PROMPTS):
        best = exact.optimum(ref, scores, eta, beta).logprobs
        found.append(torch.stack(exact.evaluate(best, ref, scores, golds)))
    return exact.Evaluation(*torch.stack(found).mean(0))


@shapes
def test_every_response_once_with_the_product_of_its_probabilities(V, T):
    tree, responses, expected = random_tree(0, V, T), exact.enumerate_responses(V, T), {}
    for words in (s for t in range(T + 1) for s in prefixes(V, t)):
        path = (*words, 0)[:T]
        steps = [tree[t][prefixes(V, t).index(path[:t]), a].item() for t, a in enumerate(path)]
        expected[(*words, 0, 0, 0, 0)[:T]] = math.exp(sum(steps))
    p = exact.sequence_logprobs(tree).exp()
    found = dict(zip(map(tuple, responses.tolist()), p.tolist(), strict=True))
    assert len(found) == len(p)
    assert found == pytest.approx(expected, rel=0, abs=1e-10)


@shapes
def test_unflatten_undoes_flatten(V, T):
    values = torch.arange(len(exact.enumerate_responses(V, T)))
    tables = exact.unflatten(values, V, T)
    widths = [1] * (T - 1) + [V]
    assert [tuple(x.shape) for x in tables] == [((V - 1) ** t, n) for t, n in enumerate(widths)]
    assert torch.equal(exact.flatten(tables), values)


@shapes
def test_kl_is_cross_entropy_minus_entropy_and_both_add_up_over_the_visited_prefixes(V, T):
    policy, (ref, flat_ref, scores) = random_tree(2, V, T), random_language(V, T)
    responses, flat = exact.enumerate_responses(V, T), exact.sequence_logprobs(policy)
    kl = h = 0.0
    for t in range(T):
        visits = torch.stack([flat.exp()[through(responses, s)].sum() for s in prefixes(V, t)])
        kl, h = kl + visits @ exact_kl(policy[t], ref[t]), h + visits @ entropy(policy[t])
    e = exact.evaluate(flat, flat_ref, scores, scores.square())
    close(e.kl, kl)
    close(e.kl, (flat.exp() * (flat - flat_ref)).sum())
    close(e.kl, -(flat.exp() * flat_ref).sum() - e.entropy)
    close(e.entropy, h)
    close(torch.stack(e[:2]), flat.exp() @ torch.stack([scores, scores.square()], 1))


def test_gradients_through_the_tree_equal_finite_differences():
    _, ref, scores = random_language(3, 3)

    def values(*logits):
        flat = exact.sequence_logprobs([table.log_softmax(1) for table in logits])
        j = exact.objective(flat, ref, scores, 0.3, 0.2)
        return *exact.evaluate(flat, ref, scores, scores.square()), j

    assert torch.autograd.gradcheck(values, [x.requires_grad_() for x in random_tree(3, 3, 3)])


@pytest.mark.parametrize("also_for_ref", [False, True])
def test_impossible_responses_are_as_if_they_did_not_exist(also_for_ref):
    """0·log 0 is NaN in floats: in the value, and through 0·∞ in the gradient."""
    _, ref, scores = random_language(4, 2)
    out = torch.arange(len(ref)) % 3 == 1
    ref = ref.masked_fill(out & also_for_ref, -torch.inf)
    some = normal(4, len(ref))[~out].requires_grad_()
    logits = torch.full_like(ref, -torch.inf).masked_scatter(~out, some.detach()).requires_grad_()

    e = exact.evaluate(logits.log_softmax(0), ref, scores, -scores)

    expected = exact.evaluate(some.log_softmax(0), ref[~out], scores[~out], -scores[~out])
    for value, wanted in zip(e, expected, strict=True):
        close(value, wanted)
        gradient = torch.autograd.grad(value, logits, retain_graph=True)[0]
        close(gradient[~out], torch.autograd.grad(wanted, some, retain_graph=True)[0])
        close(gradient[out], 0)
    best = exact.optimum(ref, scores, 0.3, 0.1)
    close(exact.regret(best.logprobs, ref, scores, 0.3, 0.1), 0)


def test_what_the_reference_forbids_costs_infinitely_much_unless_eta_is_0():
    ref, fair, scores = torch.tensor([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]]).double()
    ref, fair = ref.log(), fair.log()
    assert exact.objective(fair, ref, scores, eta=0.1) == -torch.inf
    assert exact.objective(fair, ref, scores, eta=0.0) == 0.5
    close(exact.optimum(ref, scores, eta=0.1, beta=0.1).logprobs.exp(), [1.0, 0.0])
    close(exact.optimum(ref, scores, eta=0.0, beta=0.1).logprobs, (10 * scores).log_softmax(0))


@shapes
@coefficients
def test_the_regret_of_any_policy_is_tau_times_its_kl_from_the_optimum(V, T, eta, beta):
    """And at the optimum every response earns the same: no sample has anything left to teach."""
    _, ref, scores = random_language(V, T)
    best, tau = exact.optimum(ref, scores, eta, beta), eta + beta
    close(best.value, tau * ((eta * ref + scores) / tau).exp().sum().log())
    close(exact.objective(best.logprobs, ref, scores, eta, beta), best.value)
    total = scores - eta * (best.logprobs - ref) - beta * best.logprobs
    close(total, best.value)
    close(total.std(), 0)
    for policy in (exact.sequence_logprobs(random_tree(seed, V, T)) for seed in range(10)):
        regret = exact.regret(policy, ref, scores, eta, beta)
        close(regret, tau * (policy.exp() * (policy - best.logprobs)).sum())
        close(best.value - exact.objective(policy, ref, scores, eta, beta), regret)
        assert regret > 0


@pytest.mark.parametrize("eta", [0.2, 0.3, 1.0, 5.0])
def test_the_last_nat_of_kl_buys_eta_of_reward(eta):
    _, ref, scores = random_language(4, 4)
    bests = [exact.optimum(ref, scores, eta * factor).logprobs for factor in (0.9999, 1.0001)]
    more, less = (exact.evaluate(best, ref, scores, scores) for best in bests)
    assert math.isclose((more.score - less.score) / (more.kl - less.kl), eta, rel_tol=1e-6)


@shapes
@coefficients
def test_the_recursion_over_tokens_finds_the_optimum_over_responses(V, T, eta, beta):
    tree, ref, scores = random_language(V, T)
    best = exact.optimum(ref, scores, eta, beta)
    soft = exact.soft_values(tree, exact.unflatten(scores, V, T), eta, beta)
    close(exact.sequence_logprobs(soft.logprobs), best.logprobs)
    close(soft.values[0], best.value)


def test_a_prefix_is_worth_the_optimum_over_the_responses_that_pass_through_it():
    """β = 0: V(s) = η·log E_ref[e^(r/η) | s], from the mean (η → ∞) to the maximum (η → 0)."""
    V, T = 4, 3
    (tree, ref, scores), responses = random_language(V, T), exact.enumerate_responses(V, T)
    tables = exact.unflatten(scores, V, T)
    near, between, far = (
        torch.cat(exact.soft_values(tree, tables, eta).values) for eta in (1e-4, 0.7, 1e6)
    )
    for i, s in enumerate(s for t in range(T) for s in prefixes(V, t)):
        here = through(responses, s)
        given, r = ref[here].log_softmax(0), scores[here]
        close(between[i], 0.7 * (given + r / 0.7).logsumexp(0))
        close(far[i], given.exp() @ r, atol=1e-5)
        close(near[i], r.max(), atol=2e-3)
    close(exact.argmax_policy(scores).exp(), exact.optimum(ref, scores, 1e-4).logprobs.exp())
    close(exact.optimum(ref, scores, 1e9).logprobs, ref, atol=1e-8)
    close(exact.optimum(ref, scores, 0, 1e9).logprobs.exp(), 1 / len(ref))


@pytest.mark.parametrize("prompt", language.PROMPTS)
def test_the_identities_hold_on_review_world(prompt):
    tree, ref, scores, _ = load_world().tables(prompt)
    close(torch.cat(tree).exp().sum(1), 1)
    close(ref.exp().sum(), 1)
    tables = exact.unflatten(scores, len(language.WORDS), language.RESPONSE_LENGTH)
    for eta, beta in [(0.3, 0.0), (0.1, 0.05), (0.0, 0.2)]:
        best = exact.optimum(ref, scores, eta, beta)
        regret = exact.regret(ref, ref, scores, eta, beta)
        close(regret, (eta + beta) * (ref.exp() * (ref - best.logprobs)).sum())
        soft = exact.soft_values(tree, tables, eta, beta)
        close(soft.values[0], best.value)
        close(exact.sequence_logprobs(soft.logprobs), best.logprobs)


def test_scores_of_review_world_have_mean_0_and_std_1_under_the_reference():
    worlds = [load_world().tables(prompt) for prompt in language.PROMPTS]
    p = torch.cat([world.ref_logprobs.exp() for world in worlds]) / len(worlds)
    scores = torch.cat([world.scores for world in worlds])
    close(torch.stack([p @ scores, p @ scores.square()]), [0.0, 1.0], atol=1e-5)


def test_goodhart_as_eta_falls_the_score_rises_and_gold_turns():
    path = [on_review_world(x) for x in (5, 2, 1, 0.5, 0.3, 0.2, 0.1, 0.05, 0.03, 0.02, 0.01)]
    scores, golds, kls = ([e[i].item() for e in path] for i in range(3))
    assert scores == sorted(scores)
    assert kls == sorted(kls)
    assert max(golds) - golds[-1] >= 2  # 2.43 at η = 0.1, −2.00 at 0.01


@pytest.mark.parametrize("beta", [0.05, 0.1, 0.2, 0.3, 0.5, 1.0])
def test_entropy_without_a_reference_is_word_salad(beta):
    """KL from 22.5 nats (β = 0.05) down to 12.4 (1.0), gold −2.00 to −1.99: noise, whatever β."""
    salad = on_review_world(eta=0, beta=beta)
    assert salad.kl > 10
    assert salad.gold < -1.9
    assert salad.score > 0.3  # and yet the reward model prefers it to what people write


TWO = torch.tensor([0.5, 0.5]).log()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: exact.optimum(TWO, TWO, 0, 0), "eta = beta = 0 .* argmax r; give one of them"),
        (lambda: exact.soft_values([TWO[None]], [TWO[None]], 0), "eta = beta = 0"),
        (lambda: exact.loss_bonus_fixed_point([TWO[None]], [TWO[None]], 0, 0), "eta = beta = 0"),
        (lambda: exact.optimum(TWO, TWO, -0.1, 1), "eta must be .* >= 0, got -0.1"),
        (lambda: exact.optimum(TWO, TWO, 1, float("nan")), "beta must be .* got nan"),
        (lambda: exact.regret(TWO, TWO, TWO, float("inf")), "finite number >= 0, got inf"),
        (lambda: exact.objective(TWO, TWO, TWO, 1, -1), "beta must be .* got -1"),
        (
            lambda: exact.evaluate(TWO, TWO[:1], TWO, TWO),
            r"ref_logprobs must .* = \(2,\), got \(1,\): logprobs has",
        ),
        (lambda: exact.optimum(TWO[:0], TWO[:0], 1), "not empty"),
        (lambda: exact.optimum(TWO[None], TWO[None], 1), r"must have shape \(N,\), got \(1, 2\)"),
    ],
)
def test_bad_input_is_refused_in_words(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_the_fixed_point_lives_where_the_reference_forbids_a_token():
    """0 · (−∞ + ∞) once climbed to the root as NaN."""
    rows = [[[0.5, 0.5, 0.0]], [[0.5, 0.5, 0.0], [0.3, 0.3, 0.4]]]
    ref = [torch.tensor(table, dtype=torch.float64).log() for table in rows]
    scores = exact.unflatten(torch.arange(7, dtype=torch.float64), 3, 2)
    policy = exact.loss_bonus_fixed_point(ref, scores, 0.3, 0.0)
    flat = [exact.sequence_logprobs(tables) for tables in (policy.logprobs, ref)]
    value = exact.objective(*flat, exact.flatten(scores), 0.3)
    torch.testing.assert_close(policy.values[0].squeeze(), value)


def test_unflatten_refuses_another_number_of_responses():
    with pytest.raises(ValueError, match=r"one number per response, = \(7,\), got \(10,\)"):
        exact.unflatten(torch.zeros(10), 3, 2)


def digits_700(ref, scores, policy, eta, beta):
    """J* and the regret of a policy from their definitions, in decimals that lose nothing."""
    with decimal.localcontext(prec=700):
        D = decimal.Decimal
        p, r, q = ([D(x) for x in row] for row in (ref, scores, policy))
        p, q = ([x / sum(row) for x in row] for row in (p, q))
        eta, beta = D(eta), D(beta)
        tau, top = eta + beta, max(r)
        z = sum((a.ln() * eta / tau + (b - top) / tau).exp() for a, b in zip(p, r, strict=True))
        best = top + tau * z.ln()
        kl = sum(b * (b.ln() - a.ln()) for a, b in zip(p, q, strict=True))
        entropy = -sum(b * b.ln() for b in q)
        j = sum(a * b for a, b in zip(q, r, strict=True)) - eta * kl + beta * entropy
        return float(best), float(best - j)


SIZES = [0.0, 5e-324, 1e-310, 1e-100, 1e-8, 0.3, 1e8, 1e16, 1e100, 1e300]


@pytest.mark.parametrize("eta", SIZES)
@pytest.mark.parametrize("beta", SIZES)
def test_optimum_and_regret_at_every_size_of_eta_and_beta(eta, beta):
    """τ·log Z as it stands loses r/τ behind 1 at a large τ, and overflows at a tiny one."""
    if not eta + beta:
        return
    ref, policy = ([0.5, 0.25, 0.125, 0.125], [0.125, 0.5, 0.25, 0.125])
    scores = [0.5, -1.25, 2.0, 1.0]
    value, lost = digits_700(ref, scores, policy, eta, beta)
    log_ref, log_policy, r = (torch.tensor(x, dtype=torch.float64) for x in (ref, policy, scores))
    log_ref, log_policy = log_ref.log(), log_policy.log()
    best = exact.optimum(log_ref, r, eta, beta)
    assert best.value.item() == pytest.approx(value, rel=1e-13, abs=1e-13)
    assert exact.regret(log_policy, log_ref, r, eta, beta).item() == pytest.approx(lost, rel=1e-12)
    assert exact.regret(log_ref, log_ref, r, eta, beta) >= 0
    assert exact.regret(best.logprobs, log_ref, r, eta, beta) >= 0
    tables = [log_ref[None]], [r[None]]
    assert exact.soft_values(*tables, eta, beta).values[0].item() == best.value.item()


def test_what_is_too_large_for_a_float_is_refused():
    ref, r = TWO.log_softmax(0), torch.tensor([0.0, 1.0])
    with pytest.raises(ValueError, match=r"eta \+ beta is too large"):
        exact.optimum(ref, r, 1.7e308, 1.7e308)
    with pytest.raises(FloatingPointError, match=r"too large for a float: eta = 1.7e"):
        exact.objective(
            torch.tensor([0.0, -50.0]).log_softmax(0),
            torch.tensor([-50.0, 0.0]).log_softmax(0), r, 1.7e308,
        )  # fmt: skip


def test_float32_references_meet_any_eta():
    """0 · ∞ would be NaN where 1e-46 and 1e39 are written in float32."""
    ref, r = torch.tensor([0.5, 0.5]).log(), torch.tensor([0.0, 1.0])
    assert exact.optimum(ref, r, 1e-46).value == 1
    assert exact.optimum(ref, r, 1e39).value == pytest.approx(0.5)


@pytest.mark.parametrize(("vocab_size", "depth"), [(0, 2), (3, 0), (3, -1), (10**6, 2)])
def test_sizes_that_make_no_table_are_refused(vocab_size, depth):
    with pytest.raises(ValueError, match=r"vocab_size|depth"):
        exact.enumerate_responses(vocab_size, depth)


def test_a_nan_is_never_the_highest_score():
    with pytest.raises(ValueError, match="scores is nan at row 1"):
        exact.argmax_policy(torch.tensor([5.0, torch.nan, 1.0]))


def test_a_fixed_point_that_rounding_would_decide_is_refused():
    ref, scores = [torch.zeros(1, 3).log_softmax(1)], [torch.tensor([[0.0, 1.0, 0.5]])]
    near = exact.loss_bonus_fixed_point(ref, scores, 1e9, 1e8).values[0].item()
    assert near == pytest.approx(0.5, abs=1e-5)
    with pytest.raises(ValueError, match=r"eta must be at most 1e9 where beta > 0, got 1e\+10"):
        exact.loss_bonus_fixed_point(ref, scores, 1e10, 1.0)
    alone = exact.loss_bonus_fixed_point(ref, scores, 1e300, 0.0).values[0].item()
    assert alone == pytest.approx(0.5)


def pull(policy, tree, scores, eta, mode):
    """The exact update of "KL in the loss" at a policy, in the logits; its largest part."""
    unpaid = [torch.zeros_like(table) for table in policy]
    up = gradients.policy_gradient(policy, unpaid, scores)
    back = gradients.kl_loss_gradient(policy, tree, mode)
    return max((a - eta * b).abs().max().item() for a, b in zip(up, back, strict=True))


MODES = {"k3_ratio": "mse", "k2": "mse", "k3": "k3"}


@shapes
@pytest.mark.parametrize("eta", [2.0, 0.5, 0.1])
@pytest.mark.parametrize("estimator", MODES)
def test_the_kl_in_the_loss_rests_where_its_exact_update_is_0(V, T, eta, estimator):
    tree, ref, r = random_language(V, T)
    rest = exact.loss_kl_fixed_point(tree, exact.unflatten(r, V, T), eta, estimator)
    assert pull(rest.logprobs, tree, exact.unflatten(r, V, T), eta, MODES[estimator]) < 1e-12
    joint = exact.sequence_logprobs(rest.logprobs)
    close(rest.values[0], (joint.exp() @ r).expand(1))
    close(joint.exp().sum(), 1.0)
    best = exact.optimum(ref, r, eta).logprobs
    if T == 1 and estimator != "k3":
        close(joint, best)
    elif eta > 0.1:  # below, both are the best response alone
        off = 0.5 * (joint.exp() - best.exp()).abs().sum()
        assert off > 1e-3, "the objective's optimum is another one"


def test_a_vanilla_flow_ends_at_the_rest_point_of_k3():
    tree, _, r = random_language(3, 2)
    scores, policy = exact.unflatten(r, 3, 2), tree
    unpaid = [torch.zeros_like(table) for table in tree]
    for _ in range(4000):
        up = gradients.policy_gradient(policy, unpaid, scores)
        back = gradients.kl_loss_gradient(policy, tree, "k3")
        policy = [
            (x + a - 0.5 * b).log_softmax(1) for x, a, b in zip(policy, up, back, strict=True)
        ]
    rest = exact.loss_kl_fixed_point(tree, scores, 0.5, "k3").logprobs
    close(exact.sequence_logprobs(policy).exp(), exact.sequence_logprobs(rest).exp(), 1e-6)


def test_k3_is_a_power_law():
    """η·(p − p_0) = p(1 − p)·Δr for two answers: odds grow as 1/η, and as e^(1/η) for π*."""
    tree, r = [torch.full((1, 2), 0.5).double().log()], [torch.tensor([[0.0, 1.0]])]
    for eta in (1.0, 0.1, 1e-3, 1e-9):
        p = exact.loss_kl_fixed_point(tree, r, eta, "k3").logprobs[0].exp()[0]
        assert eta * (p[1] - 0.5).item() == pytest.approx((p[0] * p[1]).item(), rel=1e-9)
        assert p[0].item() == pytest.approx(eta / 2 / (1 + eta), rel=eta)


@pytest.mark.parametrize("estimator", MODES)
def test_kl_in_the_loss_at_its_limits(estimator):
    tree, ref, r = random_language(3, 3)
    scores = exact.unflatten(r, 3, 3)

    def rest(eta, tree=tree):
        return exact.sequence_logprobs(
            exact.loss_kl_fixed_point(tree, scores, eta, estimator).logprobs
        )

    close(rest(1e12), ref, 1e-9)
    assert rest(1e-9).exp()[r.argmax()] > 0.999
    assert rest(5e-324).exp()[r.argmax()] == 1
    with pytest.raises(ValueError, match="eta = beta = 0"):
        rest(0.0)
    forbidden = [table.clone() for table in tree]
    forbidden[0][0, 2] = -torch.inf
    without = rest(0.3, [table.log_softmax(1) for table in forbidden])
    assert without.exp()[exact.enumerate_responses(3, 3)[:, 0] == 2].sum() == 0
    assert without.exp().sum().item() == pytest.approx(1)
    forbidden[2][0] = -torch.inf
    with pytest.raises(ValueError, match="−inf for all there is to choose from"):
        rest(0.3, forbidden)


def test_where_each_leash_rests_in_review_world():
    """At η = 0.13 the KL in the reward keeps gold up, and GRPO's KL in the loss has torn."""
    tables = load_world().tables("food")
    scores, found = exact.unflatten(tables.scores, 14, 5), {}
    for eta in (0.3, 0.2, 0.13, 0.05, 0.04):
        policies = {"reward": exact.optimum(tables.ref_logprobs, tables.scores, eta).logprobs}
        for estimator in ("k3_ratio", "k3"):
            rest = exact.loss_kl_fixed_point(tables.tree, scores, eta, estimator)
            policies[estimator] = exact.sequence_logprobs(rest.logprobs)
        for name, policy in policies.items():
            e = exact.evaluate(policy, tables.ref_logprobs, tables.scores, tables.golds)
            found[eta, name] = round(e.gold.item(), 2), round(e.kl.item(), 1)
    assert found == {
        (0.3, "reward"): (1.82, 1.4), (0.3, "k3_ratio"): (1.81, 1.4), (0.3, "k3"): (-0.13, 4.6),
        (0.2, "reward"): (2.04, 1.9), (0.2, "k3_ratio"): (1.96, 2.0), (0.2, "k3"): (-0.79, 7.6),
        (0.13, "reward"): (2.24, 2.4), (0.13, "k3_ratio"): (-1.8, 12.4),
        (0.13, "k3"): (-1.38, 10.6),
        (0.05, "reward"): (1.31, 5.2), (0.05, "k3_ratio"): (-2.0, 13.5),
        (0.05, "k3"): (-1.84, 14.9),
        (0.04, "reward"): (-0.72, 9.3), (0.04, "k3_ratio"): (-2.0, 13.9),
        (0.04, "k3"): (-1.88, 16.0),
    }  # fmt: skip
