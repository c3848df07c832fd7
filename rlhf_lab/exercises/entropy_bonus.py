"""Exercises of notebook 07: entropy, its bonus, and the optimum for η and β together."""

import math
from typing import Any

import torch
from torch import Tensor

from rlhf_lab import exact
from rlhf_lab.entropies import entropy, entropy_bonus
from rlhf_lab.exercises.exercise import Attempt, Case, Choice, Exercise, Mistake

_NOTEBOOK = "07_entropy_bonus"
_GENERATOR = torch.Generator().manual_seed(7)


def _random(*shape: int) -> Tensor:
    return 1.5 * torch.randn(*shape, generator=_GENERATOR, dtype=torch.float64)


_FORBIDDEN = torch.tensor([[0.3, -torch.inf, 1.2, -0.4], [0.0, 0.7, -1.1, 2.0]]).double()

_ENTROPY = Exercise(
    name="token_entropy",
    section=f"{_NOTEBOOK}: Entropy",
    minutes=6,
    reference=entropy,
    cases=(
        Case("three rows of logits", (_random(3, 5),), (0,)),
        Case("a batch (2, 3, V)", (_random(2, 3, 4),), (0,)),
        Case("two rows, one with a forbidden word", (_FORBIDDEN,), (0,), edge=True),
    ),
    mistakes=(
        Mistake(
            "softmax over the first dimension",
            12,
            lambda logits: -(logits.softmax(0) * _safe(logits, 0)).sum(-1),
            "Your softmax runs over the first dimension. The words are the last.",
            "Which numbers should add up to 1?",
        ),
        Mistake(
            "softmax over the first dimension, in bits",
            12,
            lambda logits: -(logits.softmax(0) * _safe(logits, 0)).sum(-1) / math.log(2),
            "Your softmax runs over the first dimension, while the words are the last; and your "
            "unit is bits, not nats.",
            "Which numbers should add up to 1?",
        ),
        Mistake(
            "sign lost",
            19,
            lambda logits: -entropy(logits),
            "Your entropy is negative. Each log π is at most 0, so −Σ π log π is at least 0.",
            "How varied is a policy that always says the same word?",
        ),
        Mistake(
            "the likeliest word alone",
            20,
            lambda logits: -logits.log_softmax(dim=-1).amax(dim=-1),
            "You took −log π of one word, its surprise. The entropy is the mean surprise of all.",
            "Which words can π say, and how often does it say each?",
        ),
        Mistake(
            "words not weighted",
            20,
            lambda logits: -logits.log_softmax(dim=-1).mean(dim=-1),
            "You averaged −log π(v) as if every word were equally likely: rare words count most.",
            "Which policy says the words over which the mean is taken?",
        ),
        Mistake(
            "0 · log 0",
            8,
            lambda logits: -(logits.log_softmax(-1).exp() * logits.log_softmax(-1)).sum(-1),
            "Right, until a word is forbidden: 0 · (−∞) is NaN in floats. It should add 0.",
            "What could stand in place of log π where π is 0?",
        ),
        Mistake(
            "NaN in the gradient",
            8,
            lambda logits: torch.special.entr(logits.softmax(-1)).sum(-1),
            "Your values are right, but where a word is forbidden the gradient is NaN: the "
            "derivative of log π at 0 is infinite, and ∞ · 0 is NaN. One step of it ends a run.",
            "What could you replace before the product, and not after it?",
        ),
        Mistake(
            "logs as weights",
            29,
            lambda logits: -(_safe(logits) ** 2).sum(-1),
            "Your weights are log-probabilities. Weights are probabilities: positive, 1 in sum.",
            "What turns log π into π?",
        ),
        Mistake(
            "weights not normalised",
            29,
            lambda logits: -(logits.exp() * _safe(logits)).sum(-1),
            "Your weights are e^logits. They do not add up to 1.",
            "What turns logits into probabilities?",
        ),
        Mistake(
            "logits for logs",
            29,
            lambda logits: (
                -(logits.softmax(-1) * logits.masked_fill(logits == -torch.inf, 0.0)).sum(-1)
            ),
            "You average the logits. Only after log-softmax are they log-probabilities.",
            "Add 5 to all logits: should the entropy change?",
        ),
        Mistake(
            "logits masked where they are 0",
            8,
            lambda logits: (
                -(logits.softmax(-1) * logits.log_softmax(-1).masked_fill(logits == 0, 0.0)).sum(-1)
            ),
            "You replace log π where a logit is 0. A logit of 0 is an ordinary word; the forbidden "
            "one has a logit of −∞.",
            "Where is π equal to 0?",
        ),
        Mistake(
            "mean over the words",
            12,
            lambda logits: -(logits.softmax(-1) * _safe(logits)).mean(-1),
            "You divide by the size of the vocabulary. The probabilities are weights already.",
            "What do the weights add up to?",
        ),
        Mistake(
            "weights detached",
            21,
            lambda logits: -(logits.softmax(-1).detach() * _safe(logits)).sum(-1),
            "Your value is right, but the weights are detached, and the rest of the gradient is 0 "
            "on average.",
            "Through which of its two places does π act?",
        ),
        Mistake(
            "exp H",
            20,
            lambda logits: entropy(logits).exp(),
            "That is exp H, the number of equally likely words. We want H, in nats.",
            "What is its logarithm?",
        ),
        Mistake(
            "in bits",
            20,
            lambda logits: entropy(logits) / math.log(2),
            "Your entropy is in bits: log2 for log. Here it is in nats.",
            "Which logarithm is used in this course?",
        ),
    ),
)


def _safe(logits: Tensor, dim: int = -1) -> Tensor:
    logprobs = logits.log_softmax(dim)
    return logprobs.masked_fill(logprobs == -torch.inf, 0.0)


def _masked(
    lengths: tuple[int, ...], T: int, V: int, *, left: bool = False
) -> tuple[Tensor, Tensor]:
    """Logits with garbage off each response, and the mask: (B, T, V), (B, T)."""
    mask = torch.arange(T) < torch.tensor(lengths).unsqueeze(1)
    mask = mask.flip(1) if left else mask
    logits = _random(len(lengths), T, V)
    return torch.where(mask.unsqueeze(2), logits, 5 * logits), mask


def _naive(logits: Tensor) -> Tensor:
    return -(logits.softmax(-1) * logits.log_softmax(-1)).sum(-1)


def _wild() -> tuple[Tensor, Tensor]:
    """Padding in which −∞ and NaN stand."""
    logits, mask = _masked((2, 3), 4, 3)
    logits[0, 3] = -torch.inf
    logits[1, 3, 0] = torch.nan
    return logits, mask


def _mean_entropy(logits: Tensor, mask: Tensor) -> Tensor:
    return entropy(logits)[mask].mean()


_BONUS = Exercise(
    name="bonus_loss",
    section=f"{_NOTEBOOK}: Loss − β·H",
    minutes=6,
    reference=entropy_bonus,
    cases=(
        Case("three responses of 2, 4 and 1 words", (*_masked((2, 4, 1), 4, 5), 0.3), (0,)),
        Case("two responses of 3 and 1 words", (*_masked((3, 1), 3, 4), 1.23), (0,)),
        Case("padding in which −∞ and NaN stand", (*_wild(), 0.6), (0,), edge=True),
        Case("two responses padded on the left", (*_masked((3, 1), 3, 4, left=True), 0.71), (0,)),
    ),
    mistakes=(
        Mistake(
            "multiplied by the mask",
            8,
            lambda logits, mask, beta: -beta * (_naive(logits) * mask).sum() / mask.sum(),
            "You multiply by the mask at the end. Anything may stand in the padding, also −∞, and "
            "0 · NaN is NaN.",
            "Select the tokens, or fill the padding with something harmless, before you begin.",
        ),
        Mistake(
            "selected at the end",
            8,
            lambda logits, mask, beta: -beta * _naive(logits)[mask].mean(),
            "Your values are right, but the gradient is NaN: you compute the entropy of the "
            "padding, too, and leave it out afterwards. What stands there spoils the gradient "
            "all the same.",
            "What could you select before you compute anything?",
        ),
        Mistake(
            "measured on the padding",
            8,
            lambda logits, mask, beta: -beta * (entropy(logits) * mask).sum() / mask.sum(),
            "You ask for the entropy of the padding, too, and leave it out afterwards. Anything "
            "may stand there, and `entropy` refuses NaN.",
            "What could you select before you call `entropy`?",
        ),
        Mistake(
            "padding forbidden",
            31,
            lambda logits, mask, beta: (
                -beta
                * _naive(logits.masked_fill(~mask.unsqueeze(-1), -torch.inf)).sum()
                / mask.sum()
            ),
            "You forbid every word in the padding. A row of −∞ alone has no softmax: NaN.",
            "Which logits are harmless?",
        ),
        Mistake(
            "plus β·H",
            19,
            lambda logits, mask, beta: beta * _mean_entropy(logits, mask),
            "A loss is minimised, so +β·H teaches certainty: after one step H has fallen.",
            "Which sign makes a larger H a smaller loss?",
        ),
        Mistake(
            "padding counted",
            8,
            lambda logits, mask, beta: -beta * entropy(logits).mean(),
            "You averaged over the padding too. That pays for entropy where nobody speaks.",
            "Which positions did the policy choose a word at?",
        ),
        Mistake(
            "divided by the padded length",
            8,
            lambda logits, mask, beta: -beta * (entropy(logits) * mask).sum() / mask.numel(),
            "Your sum is right, but you divide by padded positions too: short responses weaken β.",
            "How many terms does your sum have?",
        ),
        Mistake(
            "summed over tokens",
            12,
            lambda logits, mask, beta: -beta * entropy(logits)[mask].sum(),
            "The policy loss beside it is a mean over tokens: your β would grow with the batch.",
            "What would twice the batch do to your number?",
        ),
        Mistake(
            "detached",
            21,
            lambda logits, mask, beta: -beta * _mean_entropy(logits.detach(), mask),
            "The value is right and the gradient is 0: the entropy is logged and not trained.",
            "What does backward() need to find its way to the logits?",
        ),
        Mistake(
            "mask on the logits",
            8,
            lambda logits, mask, beta: -beta * entropy(logits * mask.unsqueeze(-1)).mean(),
            "You multiply the logits by the mask. Logits of 0 are the *uniform* policy: the "
            "padding now has the largest entropy there is.",
            "What is the entropy of equal logits, and what should padding add?",
        ),
        Mistake(
            "mean of means",
            12,
            lambda logits, mask, beta: (
                -beta * ((entropy(logits) * mask).sum(1) / mask.sum(1)).mean()
            ),
            "You average over each response first, then over responses. That is a common "
            "convention, too; here each *token* counts the same, as in the policy loss.",
            "How much should a token of a long response weigh?",
        ),
        Mistake(
            "summed over tokens of a response",
            12,
            lambda logits, mask, beta: -beta * (entropy(logits) * mask).sum(1).mean(),
            "You sum over the tokens of a response. The policy loss beside it is a mean over "
            "tokens, so long responses would get more of β.",
            "What is H averaged over?",
        ),
        Mistake(
            "sign of H",
            19,
            lambda logits, mask, beta: beta * entropy(logits)[mask].sum(),
            "A loss is minimised, so +β·H teaches certainty; and you sum where a mean is meant.",
            "Which sign makes a larger H a smaller loss?",
        ),
        Mistake(
            "β left out",
            21,
            lambda logits, mask, beta: -_mean_entropy(logits, mask),
            "β is missing: your bonus is the same for every β.",
            "Which argument have you not used?",
        ),
        Mistake(
            "the entropy alone",
            19,
            lambda logits, mask, beta: _mean_entropy(logits, mask),
            "You return H. We want what is added to the loss: −β·H.",
            "Which argument have you not used?",
        ),
    ),
)

_SAMPLED = Choice(
    name="sampled_entropy",
    curious=True,
    section=f"{_NOTEBOOK}: Loss − β·H",
    minutes=3,
    answer="b",
    reason="Its mean is H, so it is a good number to log. As a reward it multiplies ∇log π, and "
    "the mean of that product is ∇H. As a loss its mean gradient is 0.",
    mistakes=(
        Mistake(
            "as a loss",
            20,
            "a",
            "As a loss it pushes down whatever was sampled, and on average that is nothing.",
            "Look at the three gradients above: which of them vanishes?",
        ),
        Mistake(
            "for nothing",
            20,
            "c",
            "The mean of −log π(a) over samples from π is H exactly: not biased, only noisy.",
            "What is the mean of −log π(a) when a is drawn from π?",
        ),
    ),
)


def _only_logprobs(attempt: Attempt, *inputs: Any) -> Any:
    """`exact.optimum` also returns J*, which the exercise does not ask for."""
    output = attempt(*inputs)
    return output.logprobs if isinstance(output, exact.Optimum) else output


def _tilt(exponent: float, ref_logprobs: Tensor, scores: Tensor, tau: float) -> Tensor:
    return (exponent * ref_logprobs + scores / tau).log_softmax(dim=0)


def _tempered(ref_logprobs: Tensor, scores: Tensor, eta: float, beta: float) -> Tensor:
    tau = eta + beta
    logits = eta / tau * ref_logprobs + scores / tau
    return logits - torch.logsumexp(logits, dim=0)


_REF, _SCORES = _random(6).log_softmax(0), _random(6)
_OPTIMUM = Exercise(
    name="bonus_optimum",
    section=f"{_NOTEBOOK}: Two knobs, one formula",
    minutes=8,
    reference=exact.optimum,
    cases=(
        Case("six responses, η 0.3 and β 0.2", (_REF, _SCORES, 0.3, 0.2), (1,)),
        Case("η 0.5 and β 1.5", (_REF, _SCORES, 0.5, 1.5), (1,)),
        Case("η 1 and β 0", (_REF, _SCORES, 1.0, 0.0), (1,)),
        Case("η and β of 0.0005", (_REF, _SCORES, 5e-4, 5e-4), edge=True),
    ),
    run=_only_logprobs,
    simple=_tempered,
    mistakes=(
        Mistake(
            "overflow",
            31,
            lambda ref, r, eta, beta: (
                (w := ref.exp() ** (eta / (eta + beta)) * (r / (eta + beta)).exp()) / w.sum()
            ).log(),
            "Your formula is right, and it overflows at a small τ: e^(r/τ) is ∞ in floats.",
            "Which function normalises logarithms without computing their exponentials?",
        ),
        Mistake(
            "probability for log in π_ref, times τ",
            29,
            lambda ref, r, eta, beta: (
                ref.exp() ** (eta / (eta + beta)) + r * (eta + beta)
            ).log_softmax(0),
            "π_ref stands as a probability where its logarithm belongs, and the score is "
            "multiplied by τ instead of divided.",
            "What is the log of π_ref^a·e^b, and what should happen to π* as τ grows?",
        ),
        Mistake(
            "probability for log in π_ref",
            29,
            lambda ref, r, eta, beta: (
                ref.exp() ** (eta / (eta + beta)) + r / (eta + beta)
            ).log_softmax(0),
            "π_ref stands as a probability where its logarithm belongs.",
            "What is the log of π_ref^a·e^b?",
        ),
        Mistake(
            "β left out",
            21,
            lambda ref, r, eta, beta: _tilt(1.0, ref, r, eta),
            "Your optimum is π_ref·exp(r/η), the same for every β: notebook 04's formula.",
            "Which two coefficients stand in front of log π in J?",
        ),
        Mistake(
            "β with the wrong sign",
            19,
            lambda ref, r, eta, beta: _tilt(eta / (eta - beta), ref, r, eta - beta),
            "You used τ = η − β: a larger bonus makes the policy sharper, or even reverses it.",
            "−η·KL contains +η·H. What does +β·H add to it?",
        ),
        Mistake(
            "π_ref kept whole",
            18,
            lambda ref, r, eta, beta: _tilt(1.0, ref, r, eta + beta),
            "You raised the temperature and kept π_ref whole: the optimum for a KL penalty of "
            "weight η + β. But β pays for entropy, not for resembling π_ref.",
            "What becomes of the exponent of π_ref when β is much larger than η?",
        ),
        Mistake(
            "not normalised",
            13,
            lambda ref, r, eta, beta: (eta * ref + r) / (eta + beta),
            "log Z is missing everywhere: your probabilities do not add up to 1.",
            "What must Σ exp of your result be?",
        ),
        Mistake(
            "a log to a power",
            29,
            lambda ref, r, eta, beta: (
                ref ** (eta / (eta + beta)) * (r / (eta + beta)).exp()
            ).log(),
            "You raise log π_ref to a power. It is π_ref that has the exponent; its logarithm is "
            "multiplied by it. The root of a negative number is NaN.",
            "What is log(x^a)?",
        ),
        Mistake(
            "a log to a power, normalised",
            29,
            lambda ref, r, eta, beta: (ref ** (eta / (eta + beta)) + r / (eta + beta)).log_softmax(
                0
            ),
            "You raise log π_ref to a power. It is π_ref that has the exponent; its logarithm is "
            "multiplied by it. The root of a negative number is NaN.",
            "What is log(x^a)?",
        ),
        Mistake(
            "π_ref left out",
            18,
            lambda ref, r, eta, beta: (r / (eta + beta)).log_softmax(0),
            "π_ref does not occur in your result. That is right for η = 0 only.",
            "What is the exponent of π_ref?",
        ),
        Mistake(
            "η not divided by τ",
            18,
            lambda ref, r, eta, beta: (eta * ref + r / (eta + beta)).log_softmax(0),
            "The exponent of π_ref is η/τ; yours is η.",
            "With β = 0, which exponent should π_ref have?",
        ),
        Mistake(
            "score divided by η",
            18,
            lambda ref, r, eta, beta: (eta / (eta + beta) * ref + r / eta).log_softmax(0),
            "You divide the score by η. It is divided by τ = η + β.",
            "Which temperature selects?",
        ),
        Mistake(
            "exponents exchanged",
            18,
            lambda ref, r, eta, beta: (beta / (eta + beta) * ref + r / (eta + beta)).log_softmax(0),
            "The exponent of π_ref is η/τ; yours is β/τ.",
            "What should be left of π_ref if β = 0?",
        ),
        Mistake(
            "score not divided",
            18,
            lambda ref, r, eta, beta: (eta / (eta + beta) * ref + r).log_softmax(0),
            "You do not divide the score by τ.",
            "What should happen to π* as τ grows?",
        ),
        Mistake(
            "multiplied by τ",
            23,
            lambda ref, r, eta, beta: (eta / (eta + beta) * ref + r * (eta + beta)).log_softmax(0),
            "You multiply the score by τ. A high temperature makes the score count for less.",
            "What should happen to π* as τ grows?",
        ),
    ),
)

_ALONE = Choice(
    name="beta_alone",
    section=f"{_NOTEBOOK}: What is commonly said",
    curious=True,
    minutes=3,
    answer="c",
    reason="With η = 0 the optimum exp(r/β) does not know which reviews people write. It is "
    "varied, but nearly all responses among which it can vary are word salad.",
    mistakes=(
        Mistake(
            "varied and sensible",
            26,
            "a",
            "β pays for variety, not for sense. Only π_SFT knows the grammar; η = 0 leaves it out.",
            "What share of all reviews is grammatical?",
        ),
        Mistake(
            "home to π_SFT",
            26,
            "b",
            "That is what η does. β·H pulls to the uniform policy over all that can be said.",
            "Which term of J mentions π_SFT?",
        ),
        Mistake(
            "still one sentence",
            26,
            "d",
            "That is β near 0. With β = 0.5 the optimum has about twice the entropy of π_SFT.",
            "Look at column H of the table for β alone.",
        ),
    ),
)

EXERCISES: tuple[Exercise | Choice, ...] = (_ENTROPY, _BONUS, _SAMPLED, _OPTIMUM, _ALONE)
