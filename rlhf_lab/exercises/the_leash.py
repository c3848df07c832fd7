"""Exercises of notebook 04: the price of a response, the direction of KL, the optimum."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from rlhf_lab.exact import evaluate, optimum, regret
from rlhf_lab.exercises.exercise import Case, Choice, Exercise, Mistake
from rlhf_lab.kl import exact_kl
from rlhf_lab.lessons.the_leash import eta_for_budget, total_reward
from rlhf_lab.masking import masked_sum


def _numbers(seed: int, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def _distributions(seed: int, *shape: int) -> tuple[Tensor, Tensor]:
    """log π and log π_ref whose log-ratios are of size 1 to 2."""
    policy, ref = (1.5 * _numbers(seed, 2, *shape)).log_softmax(dim=-1)
    return policy, ref


def _with_penalty(
    penalty: Callable[[Tensor, Tensor], Tensor],
) -> Callable[[Tensor, Tensor, Tensor, Tensor, float], Tensor]:
    """scores − η · penalty(log-ratios, mask)."""

    def wrong(
        scores: Tensor, logprobs: Tensor, ref_logprobs: Tensor, mask: Tensor, eta: float
    ) -> Tensor:
        return scores - eta * penalty(logprobs - ref_logprobs, mask)

    return wrong


def _kept(ratios: Tensor, mask: Tensor) -> Tensor:
    return ratios.masked_fill(~mask, 0.0)


_MASK = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0]]).bool()
_LOGPROBS, _REF_LOGPROBS = -_numbers(1, 2, 3, 4).abs() - 0.5
_LOGPROBS[1, 3] = -torch.inf  # padding that a model finds impossible; 0 · ∞ is NaN
_TOKENS = (_numbers(0, 3), _LOGPROBS, _REF_LOGPROBS, _MASK)

_EXCHANGED = (_TOKENS[0], _REF_LOGPROBS, _LOGPROBS.clamp(min=-9), _MASK)

_TOTAL = Exercise(
    name="total_reward",
    section="04_the_leash: The price of one response",
    minutes=6,
    reference=total_reward,
    helpers=(masked_sum,),
    cases=(
        Case("three responses of 4, 2 and 1 tokens, η = 0.3", (*_TOKENS, 0.3)),
        Case("the same with η = 1.7", (*_TOKENS, 1.7)),
        Case("π and π_ref exchanged, η = 0.7", (*_EXCHANGED, 0.7)),
    ),
    mistakes=(
        Mistake(
            "negative penalties cut off",
            3,
            _with_penalty(lambda r, mask: _kept(r, mask).sum(dim=1).clamp(min=0)),
            "You cut off negative penalties. A single response may well have a negative log-ratio, "
            "and then it is paid.",
            "Does log π(y) − log π_ref(y) have to be positive?",
        ),
        Mistake(
            "mask turned",
            8,
            _with_penalty(lambda r, mask: r.masked_fill(mask, 0.0).sum(dim=1)),
            "masked_fill fills where its mask is True: you delete the review and keep the padding.",
            "Where should zeros stand?",
        ),
        Mistake(
            "mask turned, mean over the width",
            8,
            _with_penalty(lambda r, mask: r.masked_fill(mask, 0.0).mean(dim=1)),
            "masked_fill fills where its mask is True: you delete the review and keep the padding. "
            "And you average where a sum is meant.",
            "Where should zeros stand, and what is log π(y) in terms of its tokens?",
        ),
        Mistake(
            "plus",
            2,
            _with_penalty(lambda ratios, mask: -_kept(ratios, mask).sum(dim=1)),
            "You added the penalty. That pays the policy for leaving π_ref.",
            "A response has become likelier than under π_ref: should it gain or lose?",
        ),
        Mistake(
            "mean over tokens",
            12,
            _with_penalty(lambda r, mask: _kept(r, mask).sum(dim=1) / mask.sum(dim=1)),
            "You divided by the number of tokens. log π(y) of a response is the sum over its "
            "tokens, so η would weigh less the longer the response is.",
            "What is the probability of a response in terms of those of its tokens?",
        ),
        Mistake(
            "padding counted",
            8,
            _with_penalty(lambda ratios, mask: ratios.sum(dim=1)),
            "You summed over the padding too. The policy never chose those tokens.",
            "Which argument have you not used?",
        ),
        Mistake(
            "multiplied by the mask",
            8,
            _with_penalty(lambda ratios, mask: (ratios * mask).sum(dim=1)),
            "You multiplied by the mask. Log-probabilities in the padding may be infinite, and "
            "∞ · 0 is NaN: one such token spoils the reward.",
            "Which function of torch replaces numbers instead of multiplying them?",
        ),
        Mistake(
            "absolute values",
            3,
            _with_penalty(lambda ratios, mask: _kept(ratios.abs(), mask).sum(dim=1)),
            "You made negative log-ratios positive. A token that π says less often than π_ref "
            "has a negative log-ratio and earns a bonus.",
            "Does log π(y) − log π_ref(y) have to be positive?",
        ),
        Mistake(
            "one KL for all",
            13,
            _with_penalty(lambda r, mask: _kept(r, mask).sum(dim=1).mean().expand(len(r))),
            "Every response pays the same penalty. A penalty that does not depend on the response "
            "cannot keep the policy near π_ref.",
            "Which response left π_ref, and which did not?",
        ),
        Mistake(
            "the ratio, not its log",
            1,
            _with_penalty(lambda r, mask: _kept(r, mask).sum(dim=1).exp()),
            "You charge the ratio π(y)/π_ref(y). The price is η times its *logarithm*.",
            "What is log π(y) − log π_ref(y) the logarithm of?",
        ),
        Mistake(
            "the ratio of each token",
            1,
            _with_penalty(lambda r, mask: _kept(r.exp(), mask).sum(dim=1)),
            "You charge the ratio π/π_ref of each token. The price is η times its *logarithm*.",
            "Which of the two adds up over the tokens?",
        ),
        Mistake(
            "summed over the batch",
            13,
            _with_penalty(lambda r, mask: _kept(r, mask).sum()),
            "You add up the log-ratios of all responses, and every response pays for all of them.",
            "Over which dimension should the sum run?",
        ),
        Mistake(
            "weighted by π",
            29,
            lambda scores, lp, ref, mask, eta: (
                scores - eta * _kept(lp.exp() * (lp - ref), mask).sum(1)
            ),
            "You weigh each log-ratio by π. The tokens were sampled from π: they come as often as "
            "π says, and need no weight.",
            "Who has written these tokens?",
        ),
        Mistake(
            "penalty alone",
            18,
            lambda scores, lp, ref, mask, eta: -eta * _kept(lp - ref, mask).sum(1),
            "The scores are missing.",
            "What does a response earn before it pays?",
        ),
        Mistake(
            "half the squares",
            17,
            _with_penalty(lambda r, mask: _kept(r, mask).square().sum(dim=1) / 2),
            "You charge d²/2 (k2). The price of a response is η times the log-ratio itself.",
            "Can a response be paid for being rarer than under π_ref?",
        ),
        Mistake(
            "logprobs alone",
            18,
            lambda scores, lp, ref, mask, eta: scores - eta * _kept(lp, mask).sum(1),
            "π_ref is missing: you charge log π(y) alone, which is an entropy bonus.",
            "Where do the ref_logprobs come in?",
        ),
        Mistake(
            "sum over the responses",
            13,
            _with_penalty(
                lambda r, mask: functional.pad(
                    _kept(r, mask).sum(0), (0, max(0, len(r) - len(r[0])))
                )[: len(r)]
            ),
            "Your sum runs over the responses instead of over the tokens.",
            "Which dimension counts the tokens of one response?",
        ),
    ),
)


def _jeffreys(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    return (exact_kl(logprobs, ref_logprobs) + exact_kl(ref_logprobs, logprobs)) / 2


_KL = Exercise(
    name="exact_kl",
    section="04_the_leash: KL has a direction",
    minutes=5,
    reference=exact_kl,
    over_logits=(0,),
    cases=(
        Case("one distribution over 4 tokens", _distributions(2, 4), (0,)),
        Case("a batch of 3 over 5 tokens", _distributions(3, 3, 5), (0,)),
    ),
    mistakes=(
        Mistake(
            "directions swapped",
            1,
            lambda logprobs, ref_logprobs: exact_kl(ref_logprobs, logprobs),
            "That is KL(π_ref ‖ π): the mean is taken under π_ref. The text comes from π.",
            "Whose probabilities are the weights?",
        ),
        Mistake(
            "weights of π_ref",
            1,
            lambda lp, ref: (ref.exp() * (lp - ref)).sum(dim=-1),
            "The log-ratio is right, the weights are not: under π_ref its mean is "
            "−KL(π_ref ‖ π), which is negative.",
            "A KL can never be negative. Which policy writes the samples?",
        ),
        Mistake(
            "minus",
            2,
            lambda logprobs, ref_logprobs: -exact_kl(logprobs, ref_logprobs),
            "You have −KL(π ‖ π_ref). Subtracted from the reward, it would push away from π_ref.",
            "Where π says more than π_ref, is your log-ratio positive?",
        ),
        Mistake(
            "a distance",
            23,
            _jeffreys,
            "You averaged the two directions. That is symmetric, as a distance is, but it is not "
            "KL(π ‖ π_ref).",
            "The formula has one weight per token. Which?",
        ),
        Mistake(
            "mean over the vocabulary",
            12,
            lambda lp, ref: (lp.exp() * (lp - ref)).mean(dim=-1),
            "You divided by the size of the vocabulary. The probabilities are weights already.",
            "What do the weights add up to?",
        ),
        Mistake(
            "brackets forgotten",
            1,
            lambda lp, ref: (lp.exp() * lp - ref).sum(dim=-1),
            "Only log π is weighted; log π_ref is subtracted without a weight. Brackets are "
            "missing around the difference.",
            "What do the weights multiply?",
        ),
        Mistake(
            "logs as weights",
            29,
            lambda lp, ref: (lp * (lp - ref)).sum(dim=-1),
            "Your weights are log-probabilities. Weights are probabilities: positive, 1 in sum.",
            "What turns a log-probability into a probability?",
        ),
        Mistake(
            "weights detached",
            14,
            lambda lp, ref: (lp.exp().detach() * (lp - ref)).sum(dim=-1),
            "Your value is right, but the weights are detached. What is left of the gradient is "
            "Σ π·∇log π, which is 0 for every policy.",
            "Does π change only the log-ratio, or the weights, too?",
        ),
        Mistake(
            "plain sum",
            12,
            lambda lp, ref: (lp - ref).sum(dim=-1),
            "You add up the log-ratios without weights. A token that is never said would count as "
            "much as one that is always said.",
            "How often does π say each token?",
        ),
        Mistake(
            "plain average",
            12,
            lambda lp, ref: (lp - ref).mean(dim=-1),
            "You average the log-ratios without weights. A token that is never said would count as "
            "much as one that is always said.",
            "How often does π say each token?",
        ),
        Mistake(
            "over all rows",
            12,
            lambda lp, ref: (lp.exp() * (lp - ref)).sum(),
            "You sum over all rows. Each row has a KL of its own.",
            "Over which dimension does the vocabulary run?",
        ),
        Mistake(
            "cross-entropy",
            1,
            lambda lp, ref: -(lp.exp() * ref).sum(dim=-1),
            "That is the cross-entropy −Σ π·log π_ref, which is not 0 where the two are equal.",
            "What is missing of log π − log π_ref?",
        ),
        Mistake(
            "the ratio, not its log",
            1,
            lambda lp, ref: (lp.exp() * (lp - ref).exp()).sum(dim=-1),
            "You average the ratio π/π_ref. The KL is the mean of its logarithm.",
            "What is log π − log π_ref the logarithm of?",
        ),
        Mistake(
            "the ratio of the logs",
            1,
            lambda lp, ref: (lp.exp() * (lp / ref)).sum(dim=-1),
            "You divide one logarithm by the other. The log of a ratio is a difference of logs.",
            "What is log(a/b)?",
        ),
        Mistake(
            "difference of probabilities",
            1,
            lambda lp, ref: (lp.exp() * (lp.exp() - ref.exp())).sum(dim=-1),
            "You average the difference of the probabilities. The KL is the mean of the difference "
            "of their logarithms.",
            "Which quantity adds up over tokens?",
        ),
    ),
)

_SAME = Choice(
    name="same_objective",
    section="04_the_leash: KL has a direction",
    minutes=2,
    answer="b",
    reason="Same formula, other letters: their β is our η. Names and letters differ from text to "
    "text, the formula does not.",
    mistakes=(
        Mistake(
            "the letter η",
            23,
            "a",
            "The letter is ours, the weights are not: this mean is taken under π_SFT.",
            "Whose probabilities are the weights?",
        ),
        Mistake(
            "the letter β",
            23,
            "c",
            "That is an entropy bonus: π_SFT does not occur in it.",
            "What would hold the policy near π_SFT?",
        ),
        Mistake(
            "a distance",
            23,
            "d",
            "This one is symmetric. KL(π ‖ π_SFT) is not, which is why its direction is written.",
            "Exchange π and π_SFT: does our penalty stay the same?",
        ),
    ),
)


def _from_logits(
    logits: Callable[[Tensor, Tensor, float], Tensor],
) -> Callable[[Tensor, Tensor, float], tuple[Tensor, Tensor]]:
    """Normalised logits and η·log Z."""

    def wrong(ref_logprobs: Tensor, scores: Tensor, eta: float) -> tuple[Tensor, Tensor]:
        z = logits(ref_logprobs, scores, eta)
        return z.log_softmax(dim=0), eta * z.logsumexp(dim=0)

    return wrong


_REVIEWS = (_numbers(4, 5).log_softmax(dim=0), _numbers(5, 5))


def _optimal(ref_logprobs: Tensor, scores: Tensor, eta: float) -> tuple[Tensor, Tensor]:
    logits = ref_logprobs + scores / eta
    log_z = torch.logsumexp(logits, dim=0)
    return logits - log_z, eta * log_z


def _lost(logprobs: Tensor, ref_logprobs: Tensor, scores: Tensor, eta: float) -> Tensor:
    best = optimum(ref_logprobs, scores, eta)
    value = logprobs.exp() @ (scores - eta * (logprobs - ref_logprobs))
    return best.value - value


_OPTIMAL = Exercise(
    name="optimal_policy",
    section="04_the_leash: The best policy there is",
    minutes=7,
    reference=optimum,
    simple=_optimal,
    outputs=("log π*", "J*"),
    cases=(
        Case("five responses, η = 0.4", (*_REVIEWS, 0.4)),
        Case("the same, η = 1.7", (*_REVIEWS, 1.7)),
        Case("the same, η = 0.001", (*_REVIEWS, 0.001), edge=True),  # e^(r/η) overflows
    ),
    mistakes=(
        Mistake(
            "Z without π_ref",
            18,
            lambda ref, r, eta: (
                ref + r / eta - (r / eta).logsumexp(0),
                eta * (r / eta).logsumexp(0),
            ),
            "Your Z does not know π_ref: it is Σ π_ref·e^(r/η), and π_ref is missing in it.",
            "What must Σ exp of your first result be?",
        ),
        Mistake(
            "overflow",
            31,
            lambda ref, r, eta: (
                (ref.exp() * (r / eta).exp() / (ref.exp() @ (r / eta).exp())).log(),
                eta * (ref.exp() @ (r / eta).exp()).log(),
            ),
            "Your formula is right, and it overflows at a small η: e^(r/η) is ∞ in floats.",
            "Which function adds up exponentials without computing them?",
        ),
        Mistake(
            "log Z missing",
            13,
            lambda ref, r, eta: (ref + r / eta, eta * (ref + r / eta).logsumexp(dim=0)),
            "J* is right, but your π* lacks − log Z. It is the same number for every response, "
            "so the odds are right, and yet the probabilities do not add up to 1.",
            "What must Σ exp of your first result be?",
        ),
        Mistake(
            "η multiplied",
            23,
            _from_logits(lambda ref, r, eta: ref + eta * r),
            "You multiplied the score by η. A large η is a short leash: it has to make the score "
            "count for less.",
            "What should happen to π* as η grows?",
        ),
        Mistake(
            "π_ref left out",
            18,
            _from_logits(lambda ref, r, eta: r / eta),
            "Your π* does not know π_ref. Rare and common responses with the same score come out "
            "equally likely.",
            "For a very large η, what should π* be?",
        ),
        Mistake(
            "minus",
            2,
            _from_logits(lambda ref, r, eta: ref - r / eta),
            "Your π* prefers low scores.",
            "Which response should gain, one with a high score or one with a low score?",
        ),
        Mistake(
            "log Z for J*",
            12,
            lambda ref, r, eta: (optimum(ref, r, eta).logprobs, (ref + r / eta).logsumexp(dim=0)),
            "π* is right. Your second result is log Z, in nats; J* is in units of score.",
            "Which factor turns nats into score?",
        ),
        Mistake(
            "E[r] for J*",
            18,
            lambda ref, r, eta: (
                optimum(ref, r, eta).logprobs,
                optimum(ref, r, eta).logprobs.exp() @ r,
            ),
            "π* is right. Your second result is E[r] under it; J* also pays η·KL.",
            "What does J subtract from E[r]?",
        ),
        Mistake(
            "Z for J*",
            12,
            lambda ref, r, eta: (
                optimum(ref, r, eta).logprobs,
                (ref + r / eta).logsumexp(dim=0).exp(),
            ),
            "π* is right. Your second result is Z; J* is η times its logarithm.",
            "J* = η·log Z: which two steps are missing?",
        ),
        Mistake(
            "log Z divided by η",
            12,
            lambda ref, r, eta: (
                optimum(ref, r, eta).logprobs,
                (ref + r / eta).logsumexp(dim=0) / eta,
            ),
            "π* is right. Your second result is log Z / η; J* is η·log Z.",
            "Which factor turns nats into score?",
        ),
        Mistake(
            "best score for J*",
            18,
            lambda ref, r, eta: (optimum(ref, r, eta).logprobs, r.max()),
            "π* is right. Your second result is the highest score, which π* reaches only for "
            "η → 0.",
            "What does π* pay for leaving π_ref?",
        ),
        Mistake(
            "log Z missing, log Z for J*",
            13,
            lambda ref, r, eta: (ref + r / eta, (ref + r / eta).logsumexp(dim=0)),
            "Your policy lacks log Z, so its probabilities do not add up to 1, and your J* is "
            "log Z, in nats.",
            "What must Σ exp of your first result be, and which factor turns nats into score?",
        ),
        Mistake(
            "E[r] of π_ref",
            18,
            lambda ref, r, eta: (optimum(ref, r, eta).logprobs, ref.exp() @ r),
            "π* is right. Your second result is E[r] under π_ref.",
            "Whose value is J*?",
        ),
        Mistake(
            "probabilities for logs",
            29,
            lambda ref, r, eta: _from_logits(lambda ref, r, eta: ref.exp() * (r / eta).exp())(
                ref, r, eta
            ),
            "You put probabilities where logarithms belong, and normalise these.",
            "What is the log of π_ref·e^(r/η)?",
        ),
    ),
)

_POLICIES = tuple((1.5 * _numbers(seed, 6)).log_softmax(dim=0) for seed in (6, 7))

_REGRET = Exercise(
    name="regret",
    section="04_the_leash: What is left on the table",
    minutes=6,
    reference=regret,
    simple=_lost,
    cases=(
        Case("six responses, η = 0.3", (*_POLICIES, _numbers(8, 6), 0.3)),
        Case("the same, η = 1.7", (*_POLICIES, _numbers(8, 6), 1.7)),
    ),
    mistakes=(
        Mistake(
            "optimum around π",
            22,
            lambda lp, ref, r, eta: (
                optimum(lp, r, eta).value - (lp.exp() @ r - eta * exact_kl(lp, ref))
            ),
            "You compute the best policy around π itself. The leash is tied to π_ref.",
            "Which policy stands in Z?",
        ),
        Mistake(
            "both without penalty",
            18,
            lambda lp, ref, r, eta: r.max() - lp.exp() @ r,
            "You compare the highest score with E[r]. J* is less than the highest score, and J(π) "
            "pays for its KL.",
            "What is J, in full, and which policy is best at it?",
        ),
        Mistake(
            "directions swapped",
            1,
            lambda lp, ref, r, eta: eta * exact_kl(optimum(ref, r, eta).logprobs, lp),
            "You took η·KL(π* ‖ π): its mean is over what π* says. Regret is about what π says.",
            "Whose samples does π earn its reward with?",
        ),
        Mistake(
            "distance to π_ref",
            22,
            lambda lp, ref, r, eta: eta * exact_kl(lp, ref),
            "That is η·KL(π ‖ π_ref), the penalty. A policy that never moved would have no regret.",
            "Which policy has regret 0?",
        ),
        Mistake(
            "penalty left out",
            18,
            lambda lp, ref, r, eta: optimum(ref, r, eta).value - lp.exp() @ r,
            "You compared J* with E[r]. J(π) also pays for its KL.",
            "What is J(π), in full?",
        ),
        Mistake(
            "η left out",
            12,
            lambda lp, ref, r, eta: exact_kl(lp, optimum(ref, r, eta).logprobs),
            "You have KL(π ‖ π*), in nats. The regret is in units of score.",
            "Which factor turns nats into score?",
        ),
        Mistake(
            "turned round",
            2,
            lambda lp, ref, r, eta: -regret(lp, ref, r, eta),
            "You have J(π) − J*, which is never positive. The regret is never negative.",
            "Which of the two is larger?",
        ),
        Mistake(
            "J* alone",
            30,
            lambda lp, ref, r, eta: optimum(ref, r, eta).value,
            "That is J*. The regret is what π lacks of it.",
            "What must be subtracted?",
        ),
        Mistake(
            "J alone",
            30,
            lambda lp, ref, r, eta: lp.exp() @ r - eta * exact_kl(lp, ref),
            "That is J(π). The regret is what it lacks of J*.",
            "From what must it be subtracted?",
        ),
        Mistake(
            "KL without η",
            12,
            lambda lp, ref, r, eta: optimum(ref, r, eta).value - (lp.exp() @ r - exact_kl(lp, ref)),
            "Your J(π) subtracts the KL without its η.",
            "In which units is a KL, and in which a score?",
        ),
        Mistake(
            "penalty added",
            2,
            lambda lp, ref, r, eta: (
                optimum(ref, r, eta).value - (lp.exp() @ r + eta * exact_kl(lp, ref))
            ),
            "Your J(π) adds η·KL. A policy pays for its distance.",
            "What does π earn for staying at π_ref?",
        ),
        Mistake(
            "scores compared",
            18,
            lambda lp, ref, r, eta: optimum(ref, r, eta).logprobs.exp() @ r - lp.exp() @ r,
            "You compare E[r] of the two policies. Both also pay for their KL.",
            "What is J, in full?",
        ),
        Mistake(
            "best score",
            18,
            lambda lp, ref, r, eta: r.max() - (lp.exp() @ r - eta * exact_kl(lp, ref)),
            "You compare with the highest score. No policy reaches it: to leave π_ref costs η·KL.",
            "What is the best that J can be?",
        ),
        Mistake(
            "weights of π*",
            1,
            lambda lp, ref, r, eta: (
                eta * (optimum(ref, r, eta).logprobs.exp() @ (lp - optimum(ref, r, eta).logprobs))
            ),
            "Your mean is over what π* says. Regret is about what π says.",
            "Whose samples does π earn its reward with?",
        ),
        Mistake(
            "divided by η",
            12,
            lambda lp, ref, r, eta: exact_kl(lp, optimum(ref, r, eta).logprobs) / eta,
            "You divide the KL by η. A nat costs η: which operation turns nats into score?",
            "Which factor turns nats into score?",
        ),
    ),
)


def _within(
    cost: Callable[[Tensor, Tensor, float], Tensor],
) -> Callable[[Tensor, Tensor, Sequence[float], float], float]:
    """The smallest η whose cost(log π*, log π_ref, η) is within the budget."""

    def wrong(ref: Tensor, scores: Tensor, etas: Sequence[float], budget: float) -> float:
        return min(
            eta for eta in etas if cost(optimum(ref, scores, eta).logprobs, ref, eta) <= budget
        )

    return wrong


def _spent(ref: Tensor, scores: Tensor, eta: float) -> float:
    return exact_kl(optimum(ref, scores, eta).logprobs, ref).item()


def _until_too_dear(ref: Tensor, scores: Tensor, etas: Sequence[float], budget: float) -> float:
    best = etas[0]
    for eta in etas:
        if _spent(ref, scores, eta) > budget:
            break
        best = eta
    return best


def _largest(ref: Tensor, scores: Tensor, etas: Sequence[float], budget: float) -> float:
    policies = {eta: optimum(ref, scores, eta).logprobs for eta in etas}
    return max(e for e, p in policies.items() if evaluate(p, ref, scores, scores).kl <= budget)


_ETAS = (5.0, 2.0, 1.0, 0.5, 0.3, 0.2, 0.1)

_BUDGET = Exercise(
    name="eta_for_budget",
    section="04_the_leash: What a nat buys",
    curious=True,
    minutes=6,
    reference=eta_for_budget,
    cases=(
        Case("five responses and a budget of 0.55 nats", (*_REVIEWS, _ETAS, 0.55)),
        Case("the same list turned round and 1.4 nats", (*_REVIEWS, _ETAS[::-1], 1.4)),
        Case("a list that ends at η = 0.3 and 0.35 nats", (*_REVIEWS, _ETAS[:5], 0.35)),
        Case("a shuffled list and 0.9 nats", (*_REVIEWS, (0.5, 0.2, 2.0, 0.1, 0.3), 0.9)),
        Case("a dear one in the middle and 0.7 nats", (*_REVIEWS, (2.0, 0.1, 0.5), 0.7)),
        Case("a shuffled list and 0.2 nats", (*_REVIEWS, (1.0, 0.5, 2.0, 0.3, 5.0), 0.2)),
    ),
    mistakes=(
        Mistake(
            "the score, not the η",
            30,
            lambda ref, scores, etas, budget: max(
                (optimum(ref, scores, eta).logprobs.exp() @ scores).item()
                for eta in etas
                if _spent(ref, scores, eta) <= budget
            ),
            "You return the score. We want the η that reaches it.",
            "What does max(etas, key=…) return?",
        ),
        Mistake(
            "stops at the first that costs too much",
            25,
            _until_too_dear,
            "You stop at the first η that costs too much. The list need not be sorted.",
            "What if the list is shuffled?",
        ),
        Mistake(
            "place among the affordable",
            30,
            lambda ref, scores, etas, budget: etas[
                (kept := [e for e in etas if _spent(ref, scores, e) <= budget]).index(min(kept))
            ],
            "You look for the place in the list of those that fit, and use it in the whole list.",
            "To which list does your index belong?",
        ),
        Mistake(
            "the largest η",
            25,
            _largest,
            "Your η keeps the budget, but so does a smaller one, and it scores higher.",
            "A short leash or a long one: which spends more nats?",
        ),
        Mistake(
            "directions swapped",
            1,
            _within(lambda policy, ref, eta: exact_kl(ref, policy)),
            "You charged KL(π_ref ‖ π*). The budget is for KL(π* ‖ π_ref).",
            "Which of the two policies is sampled from?",
        ),
        Mistake(
            "the penalty for the KL",
            23,
            _within(lambda policy, ref, eta: eta * exact_kl(policy, ref)),
            "You compared η·KL with the budget. The budget is in nats, the penalty in units of "
            "score.",
            "Does the budget mention η?",
        ),
        Mistake(
            "budget left out",
            18,
            lambda ref, scores, etas, budget: min(etas),
            "Your function always returns the smallest η. Its optimum scores highest, but it is "
            "farther from π_ref than the budget allows.",
            "Which argument have you not used?",
        ),
        Mistake(
            "nearest to the budget",
            25,
            lambda ref, scores, etas, budget: min(
                etas, key=lambda eta: abs(_spent(ref, scores, eta) - budget)
            ),
            "You take the η whose KL is nearest to the budget. It may lie above it.",
            "May the budget be exceeded a little?",
        ),
        Mistake(
            "the first that fits",
            25,
            lambda ref, scores, etas, budget: next(
                eta for eta in etas if _spent(ref, scores, eta) <= budget
            ),
            "You take the first η of the list that keeps the budget. The list need not be sorted.",
            "Of all that keep the budget, which scores highest?",
        ),
        Mistake(
            "the last that fits",
            25,
            lambda ref, scores, etas, budget: [
                eta for eta in etas if _spent(ref, scores, eta) <= budget
            ][-1],
            "You take the last η of the list that keeps the budget. The list need not be sorted.",
            "Of all that keep the budget, which scores highest?",
        ),
        Mistake(
            "above the budget",
            25,
            lambda ref, scores, etas, budget: max(
                (eta for eta in etas if _spent(ref, scores, eta) >= budget), default=max(etas)
            ),
            "You take an η whose KL is at or above the budget.",
            "Is the budget a floor or a ceiling?",
        ),
        Mistake(
            "the KL, not the η",
            30,
            lambda ref, scores, etas, budget: _spent(
                ref, scores, eta_for_budget(ref, scores, etas, budget)
            ),
            "You return the KL. We want the η that has it.",
            "What does min(etas, key=…) return?",
        ),
        Mistake(
            "the index, not the η",
            30,
            lambda ref, scores, etas, budget: etas.index(eta_for_budget(ref, scores, etas, budget)),
            "You return the place in the list. We want the η that stands there.",
            "Which η has that index?",
        ),
    ),
)

EXERCISES = (_TOTAL, _KL, _SAME, _OPTIMAL, _REGRET, _BUDGET)
