"""What a penalty does to the policy: enumerated, differentiated, sampled, and run to its end."""

import math

import pytest
import torch
from golden import normal
from trees import close, coefficients, random_language, random_tree, shapes

from rlhf_lab import exact, gradients, masking, ppo, rewards
from rlhf_lab.entropies import entropy
from rlhf_lab.exact import sequence_logprobs as along_path  # sums any tables along each response
from rlhf_lab.kl import exact_kl, k1, k2, k3

PENALTY = {
    "kl": k1, "abs": lambda p, q: k1(p, q).abs(), "mse": k2, "k3": k3,
    "full": lambda p, q: exact_kl(p, q).unsqueeze(1).expand_as(p),
}  # fmt: skip


def cat(tables):
    return torch.cat([table.reshape(-1) for table in tables])


def autograd(value, policy):
    """∇ value(log-probabilities) with respect to the logits: the other route."""
    logits = [table.clone().requires_grad_() for table in policy]
    return cat(torch.autograd.grad(value([table.log_softmax(1) for table in logits]), logits))


def local(policy, value):
    """∇ Σ_s d(s)·value(π(·|s)), d held fixed."""
    visits = gradients.visitation(policy)
    return autograd(lambda p: sum(d @ value(p[t], t) for t, d in enumerate(visits)), policy)


def in_reward(policy, ref, mode):
    return cat(gradients.kl_reward_gradient(policy, ref, mode))


def in_loss(policy, ref, mode):
    return cat(gradients.kl_loss_gradient(policy, ref, mode))


def kl(policy, ref):
    return (along_path(policy).exp() * (along_path(policy) - along_path(ref))).sum()


@shapes
@pytest.mark.parametrize("mode", PENALTY)
def test_reward_half_and_loss_half_add_up_to_the_gradient(mode, V, T):
    """The product rule: what a penalty lacks in the reward it has in the loss, and vice versa."""
    policy, ref = random_tree(1, V, T), random_tree(7, V, T)
    both = in_reward(policy, ref, mode) + in_loss(policy, ref, mode)
    of_kl = autograd(lambda p: kl(p, ref), policy)

    def mean(p):
        return (along_path(p).exp() * along_path(list(map(PENALTY[mode], p, ref)))).sum()

    close(both, autograd(mean, policy), 1e-12)
    if mode in ("kl", "k3", "full"):  # whose mean is KL(π ‖ π_ref)
        close(both, of_kl, 1e-12)
    if mode == "kl":
        close(in_reward(policy, ref, mode), of_kl, 1e-12)
    if mode == "full":
        close(gradients.kl_reward_gradient(policy, ref, mode)[-1], 0, 1e-12)


@shapes
def test_in_the_loss_a_penalty_acts_on_each_prefix_by_itself(V, T):
    policy, ref = random_tree(1, V, T), random_tree(7, V, T)
    kl_here = local(policy, lambda p, t: exact_kl(p, ref[t]))
    reverse_here = local(policy, lambda p, t: exact_kl(ref[t], p))
    l1_here = local(policy, lambda p, t: (p.exp() - ref[t].exp()).abs().sum(1))
    for mode, force in zip(PENALTY, (0, l1_here, kl_here, reverse_here, kl_here), strict=True):
        close(in_loss(policy, ref, mode), force, 1e-12)
    cosine = torch.cosine_similarity(kl_here, autograd(lambda p: kl(p, ref), policy), dim=0)
    assert (cosine < 0.999) == (T > 1)  # .51 to .997: the credit for later KL is missing


@shapes
def test_over_whole_responses_k2_and_k3_are_the_gradients_of_the_two_kls(V, T):
    """One δ for the response instead of one for each token, and nothing is missing."""
    policy, ref = random_tree(1, V, T), random_tree(7, V, T)
    delta, zeros = along_path(policy) - along_path(ref), [torch.zeros_like(p) for p in policy]
    slopes = [exact.unflatten(slope, V, T) for slope in (delta, 1 - (-delta).exp())]
    of_k2, of_k3 = (cat(gradients.policy_gradient(policy, zeros, slope)) for slope in slopes)
    close(of_k2, autograd(lambda p: kl(p, ref), policy), 1e-12)
    close(of_k3, autograd(lambda p: kl(ref, p), policy), 1e-12)


def test_next_to_the_reference_only_kl_in_the_reward_pulls_back():
    """π = π_ref + εu: |force| / ε is .69 for "kl" and falls with ε for the even penalties. That of
    "abs" does not, but its cosine with ∇KL is −.23."""
    ref = random_tree(7, 5, 3)

    def force(mode, eps):
        moved = [(p + eps * normal(90 + t, *p.shape)).log_softmax(1) for t, p in enumerate(ref)]
        return in_reward(moved, ref, mode) / eps

    for mode, power in zip(PENALTY, (0, 0, 1, 1, 1), strict=True):
        assert 0.9 < force(mode, 1e-2).norm() / force(mode, 1e-3).norm() / 10**power < 1.1
    assert torch.cosine_similarity(force("abs", 1e-3), force("kl", 1e-3), dim=0) < 0.5


@pytest.mark.parametrize(("mode", "end"), list(zip(PENALTY, (0.5, 1, 1, 1, 0.6), strict=True)))
def test_two_tokens_no_reward_from_p_06(mode, end):
    """The penalty alone should lead home, to (.5, .5). Three of five lead to (1, 0)."""
    fair = [torch.full((1, 2), 0.5, dtype=torch.float64).log()]
    logits = torch.tensor([[0.6, 0.4]], dtype=torch.float64).log()
    for _ in range(2000):
        if logits.softmax(1)[0, 0] < 0.9999:
            logits = logits - in_reward([logits.log_softmax(1)], fair, mode)
    close(logits.softmax(1)[0, 0], end, 1e-4 if end == 1 else 1e-12)


def test_only_kl_in_the_reward_is_the_gradient_of_something():
    """‖J − Jᵀ‖ / ‖J‖ of the update on a tree of 4 × 3: 2e-16, and .4 to 1 for the others."""
    policy, ref = random_tree(2, 4, 3), random_tree(7, 4, 3)

    def curl(field):
        def flat(x):
            parts = x.split([p.numel() for p in policy])
            return field([x.view_as(p).log_softmax(1) for x, p in zip(parts, policy, strict=True)])

        jacobian = torch.autograd.functional.jacobian(flat, cat(policy))
        return (jacobian - jacobian.T).norm() / jacobian.norm()

    assert curl(lambda p: in_reward(p, ref, "kl")) < 1e-12
    assert curl(lambda p: cat(gradients.entropy_loss_gradient(p))) > 0.2
    for mode in ("abs", "mse", "k3", "full"):
        assert curl(lambda p, mode=mode: in_reward(p, ref, mode)) > 0.2
        assert curl(lambda p, mode=mode: in_loss(p, ref, mode)) > 0.2


@shapes
def test_gradient_of_entropy_is_the_loss_bonus_and_the_credit_for_later_entropy(V, T):
    policy, ref = random_tree(1, V, T), random_tree(7, V, T)

    def of_entropy(p):
        return autograd(lambda p: -(along_path(p).exp() * along_path(p)).sum(), p)

    bonus = cat(gradients.entropy_loss_gradient(policy))
    entropies = [entropy(p).unsqueeze(1).expand_as(p) for p in policy]
    close(bonus, local(policy, lambda p, t: entropy(p)), 1e-12)
    close(bonus + cat(gradients.policy_gradient(policy, entropies)), of_entropy(policy), 1e-12)
    paid = gradients.policy_gradient(policy, [-p for p in policy])
    close(cat(paid), of_entropy(policy), 1e-12)
    # At home the two roles of the KL penalty, entropy bonus and fluency reward, cancel.
    cross_entropy = autograd(lambda p: -(along_path(p).exp() * along_path(ref)).sum(), ref)
    close(of_entropy(ref), cross_entropy, 1e-12)


@shapes
@coefficients
def test_an_entropy_bonus_in_the_loss_comes_to_rest_beside_the_optimum(V, T, eta, beta):
    tree, ref, scores = random_language(V, T)
    tables = exact.unflatten(scores, V, T)
    policy, values = exact.loss_bonus_fixed_point(tree, tables, eta, beta)
    paid = [-eta * k1(p, q) for p, q in zip(policy, tree, strict=True)]
    bonus = beta * cat(gradients.entropy_loss_gradient(policy))
    close(cat(gradients.policy_gradient(policy, paid, tables)) + bonus, 0)
    close(values[0], exact.objective(along_path(policy), ref, scores, eta))
    best = exact.optimum(ref, scores, eta, beta).logprobs.exp()
    distance = (along_path(policy).exp() - best).abs().sum() / 2
    assert distance > 0.005 if T > 1 and beta > 0 else distance < 1e-10  # .011 to .36


def test_in_the_loss_entropy_is_of_words_and_in_the_objective_of_responses():
    """Four words, at most 8, r = 0. The loss wants a fair die of 5 sides at each word, the
    objective one of 87,381. Compared: P(<eos> at once), mean number of tokens, entropy."""
    T, n = 8, 87_381
    tree = [torch.zeros(4**t, 5, dtype=torch.float64) for t in range(T)]
    zeros = exact.unflatten(torch.zeros(n), 5, T)
    of_words = (1 - 0.8**T) / 0.2
    of_responses = (sum(t * 4 ** (t - 1) for t in range(1, T)) + T * 5 * 4 ** (T - 1)) / n
    for solve, expected in [
        (exact.loss_bonus_fixed_point, [0.2, of_words, of_words * math.log(5)]),
        (exact.soft_values, [1 / n, of_responses, math.log(n)]),
    ]:
        policy = solve(tree, zeros, 0, 0.3).logprobs
        h = exact.evaluate(*[along_path(policy)] * 4).entropy
        mean_tokens = cat(gradients.visitation(policy)).sum()
        close(torch.stack([policy[0][0, 0].exp(), mean_tokens, h]), expected)


@pytest.mark.parametrize("mode", ["kl", "abs", "mse", "full"])
def test_the_loop_follows_these_gradients_in_the_mean(mode):
    """`compute_rewards` and `gae` on each of the 40 responses, first weighted with π(y), then
    sampled: of 52 means none is off by 5 standard errors (a false alarm in 3e4)."""
    V, T, eta = 4, 3, 0.7
    (ref, _, scores), policy = random_language(V, T), random_tree(1, V, T)
    responses = exact.enumerate_responses(V, T)
    mask, zeros = masking.response_mask(responses, 0), torch.zeros(40, T).double()
    rows = [torch.zeros(40, dtype=torch.long)]
    for token in responses.T[:-1]:  # behind <eos> any row will do
        rows.append((rows[-1] * (V - 1) + token - 1).clamp(min=0))

    def of_every(tables):
        return torch.stack([p[row] for p, row in zip(tables, rows, strict=True)], 1)  # (40, T, V)

    def of_chosen(tables):
        return of_every(tables).gather(2, responses[..., None]).squeeze(2)

    logprobs = of_every if mode == "full" else of_chosen
    paid = rewards.compute_rewards(scores, logprobs(policy), logprobs(ref), mask, eta, mode)
    to_go = ppo.gae(paid.rewards, zeros, mask, gamma=1, lam=1).advantages
    jacobian = torch.autograd.functional.jacobian(
        lambda *logits: of_chosen([z.log_softmax(1) for z in logits]), tuple(policy)
    )
    each = torch.einsum("nt,ntp->np", to_go, torch.cat([j.flatten(2) for j in jacobian], 2))
    penalties = [-eta * penalty for penalty in map(PENALTY[mode], policy, ref)]
    expected = cat(gradients.policy_gradient(policy, penalties, exact.unflatten(scores, V, T)))
    p = along_path(policy).exp()
    close(p @ each, expected, 1e-12)
    drawn = torch.multinomial(p, 40_000, True, generator=torch.Generator().manual_seed(0))
    error = (p @ (each - expected).square() / len(drawn)).sqrt()
    assert ((each[drawn].mean(0) - expected).abs() / error).max() < 5
    assert (expected.abs() / error).max() > 50


def test_an_impossible_token_is_as_if_it_did_not_exist():
    """Also where π_ref forbids it, so that δ is −∞ + ∞."""
    small, small_ref = random_tree(1, 3, 2), random_tree(7, 3, 2)

    def widen(tables):
        first, second = (torch.nn.functional.pad(p, (0, 1), value=-torch.inf) for p in tables)
        return [first, torch.cat([second, torch.full((1, 4), 0.25).double().log()])]

    policy, ref = widen(small), widen(small_ref)
    for mode in PENALTY:
        for half in (gradients.kl_reward_gradient, gradients.kl_loss_gradient):
            first, second = half(policy, ref, mode)
            close(cat([first[:, :3], second[:2, :3]]), cat(half(small, small_ref, mode)))
            close(torch.cat([first[:, 3], second[:, 3], second[2]]), 0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p: gradients.kl_reward_gradient(p, p, "k1"), "one of .*'k3', 'full'.* got 'k1'"),
        (lambda p: gradients.kl_loss_gradient(p, p[:1], "kl"), "ref_logprobs must be tables"),
        (lambda p: gradients.entropy_loss_gradient(p[:1] * 2), r"\(2, 3\)\], got \[\(1, 3\)"),
        (lambda p: gradients.policy_gradient(p, p, p), r"scores must be .* \[\(1, 1\), \(2, 3\)\]"),
    ],
)
def test_bad_input_is_refused_in_words(call, message):
    with pytest.raises(ValueError, match=message):
        call(random_tree(0, 3, 2))
