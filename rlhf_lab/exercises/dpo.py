"""Exercises of notebook 12: the reward a policy implies, DPO's loss, and what sets its leash."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from rlhf_lab.dpo import dpo_loss, dpo_terms
from rlhf_lab.exercises.exercise import Case, Choice, Exercise, Mistake
from rlhf_lab.lessons.dpo import recovered_scores

_NOTEBOOK = "12_dpo"


def _numbers(seed: int, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def _policies(seed: int, n: int) -> tuple[Tensor, Tensor]:
    """log π and log π_ref with log-ratios of 1 to 2."""
    policy, ref = (1.5 * _numbers(seed, 2, n)).log_softmax(dim=1)
    return policy, ref


_RECOVERED = Exercise(
    name="recovered_scores",
    section=f"{_NOTEBOOK}: The optimum read backwards",
    minutes=5,
    reference=recovered_scores,
    cases=(
        Case("a policy over 5 responses, β = 0.3", (*_policies(0, 5), 0.3)),
        Case("a policy over 8 responses, β = 1.7", (*_policies(1, 8), 1.7)),
    ),
    mistakes=(
        Mistake(
            "zero left open",
            30,
            lambda p, q, beta: beta * (p - q),
            "That is the implicit reward. It is right up to a constant, and the constant depends "
            "on the policy: it is −J*.",
            "What must the mean of your result under π_ref be?",
        ),
        Mistake(
            "mean under π",
            22,
            lambda p, q, beta: beta * ((p - q) - p.exp() @ (p - q)),
            "You subtracted the mean under π. Then the zero moves with every policy, and two "
            "policies cannot be compared.",
            "Under which of the two policies was the mean of the score fixed?",
        ),
        Mistake(
            "plain mean",
            12,
            lambda p, q, beta: beta * ((p - q) - (p - q).mean()),
            "You subtracted a plain average over all responses. The mean under π_ref counts each "
            "as often as π_ref says it.",
            "How often does π_ref say each of them?",
        ),
        Mistake(
            "divided by β",
            23,
            lambda p, q, beta: ((p - q) - q.exp() @ (p - q)) / beta,
            "You divided by β. In π* the *score* is divided by it; solved for the score, it is a "
            "factor.",
            "Take log π* = log π_ref + r/β − log Z, and solve it for r.",
        ),
        Mistake(
            "β left out",
            36,
            lambda p, q, beta: (p - q) - q.exp() @ (p - q),
            "β is missing: your result is in nats. β turns nats into units of score.",
            "Take log π* = log π_ref + r/β − log Z, and solve it for r.",
        ),
        Mistake(
            "the ratio, not its log",
            1,
            lambda p, q, beta: beta * (p - q).exp(),
            "You take the ratio π/π_ref. The score is β times its *logarithm*.",
            "e^(r/β) is a factor. What turns a factor into a sum?",
        ),
        Mistake(
            "log π alone",
            18,
            lambda p, q, beta: beta * (p - q.exp() @ p),
            "π_ref is missing: you take what the policy says often for what scores high.",
            "Which responses did π_ref say often already?",
        ),
        Mistake(
            "the other way round",
            2,
            lambda p, q, beta: beta * ((q - p) - q.exp() @ (q - p)),
            "Your scores are high where the policy has fallen silent.",
            "Which response does π* say more often than π_ref: a good one or a bad one?",
        ),
        Mistake(
            "probabilities, not logarithms",
            1,
            lambda p, q, beta: beta * ((p.exp() - q.exp()) - q.exp() @ (p.exp() - q.exp())),
            "You take the difference of the probabilities. The score is β times the difference of "
            "their logarithms.",
            "e^(r/β) is a factor. What turns a factor into a sum?",
        ),
        Mistake(
            "standardised",
            24,
            lambda p, q, beta: (
                ((p - q) - q.exp() @ (p - q))
                / (q.exp() @ ((p - q) - q.exp() @ (p - q)).square()).sqrt()
            ),
            "You divided by the standard deviation. Then β has no effect, but the unit of the "
            "score is known here: only its zero is open.",
            "Which argument does your result no longer depend on?",
        ),
    ),
)


def _with_margin(
    margin: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor],
) -> Callable[[Tensor, Tensor, Tensor, Tensor, float], Tensor]:
    """DPO's loss with another margin of (chosen, rejected, reference of both)."""

    def wrong(c: Tensor, r: Tensor, rc: Tensor, rr: Tensor, beta: float) -> Tensor:
        return -F.logsigmoid(beta * margin(c, r, rc, rr)).mean()

    return wrong


def _margin(c: Tensor, r: Tensor, rc: Tensor, rr: Tensor) -> Tensor:
    return (c - rc) - (r - rr)


def _dpo_simple(
    chosen_logprobs: Tensor,
    rejected_logprobs: Tensor,
    ref_chosen_logprobs: Tensor,
    ref_rejected_logprobs: Tensor,
    beta: float,
) -> Tensor:
    chosen = chosen_logprobs - ref_chosen_logprobs
    rejected = rejected_logprobs - ref_rejected_logprobs
    return -F.logsigmoid(beta * (chosen - rejected)).mean()


def _pairs(seed: int, n: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    c, r, rc, rr = -2 - 1.5 * _numbers(seed, 4, n).abs()
    return c, r, rc, rr


_FAR = tuple(torch.tensor([x], dtype=torch.float64) for x in (-900.0, -1.0, -1.0, -900.0))

_LOSS = Exercise(
    name="dpo_loss",
    section=f"{_NOTEBOOK}: A policy from comparisons",
    minutes=6,
    reference=dpo_loss,
    helpers=(dpo_terms,),
    simple=_dpo_simple,
    arguments=(
        "chosen_logprobs",
        "rejected_logprobs",
        "ref_chosen_logprobs",
        "ref_rejected_logprobs",
        "beta",
    ),
    cases=(
        Case("four pairs, β = 0.3", (*_pairs(0, 4), 0.3), gradient=(0, 1)),
        Case("three pairs, β = 1.4", (*_pairs(4, 3), 1.4), gradient=(0, 1)),
        Case("a pair that is very wrong, β = 1", (*_FAR, 1.0), gradient=(0, 1), edge=True),
    ),
    mistakes=(
        Mistake(
            "reference forgotten",
            18,
            _with_margin(lambda c, r, rc, rr: c - r),
            "π_ref is missing. Your loss asks for the preferred response to be the likelier one, "
            "even where π_ref says it hardly ever: there is no leash in it.",
            "What does the implicit reward compare log π with?",
        ),
        Mistake(
            "signs of the reference",
            2,
            _with_margin(lambda c, r, rc, rr: (c + rc) - (r + rr)),
            "You added log π_ref where it is subtracted, or compared each response with π_ref of "
            "the other: that is the same.",
            "If π = π_ref, what should every margin be?",
        ),
        Mistake(
            "chosen and rejected exchanged",
            2,
            _with_margin(lambda c, r, rc, rr: -_margin(c, r, rc, rr)),
            "Your loss is small where the *rejected* response has the higher implicit reward.",
            "Which of the two shall gain?",
        ),
        Mistake(
            "β outside the sigmoid",
            36,
            lambda c, r, rc, rr, beta: -beta * F.logsigmoid(_margin(c, r, rc, rr)).mean(),
            "You multiplied the loss by β. Then β is a learning rate, and the leash is always 1.",
            "In the reward, what does β multiply?",
        ),
        Mistake(
            "β left out",
            18,
            lambda c, r, rc, rr, beta: -F.logsigmoid(_margin(c, r, rc, rr)).mean(),
            "β is missing: your leash is always 1.",
            "Which argument have you not used?",
        ),
        Mistake(
            "divided by β",
            23,
            lambda c, r, rc, rr, beta: -F.logsigmoid(_margin(c, r, rc, rr) / beta).mean(),
            "You divided the margin by β. The implicit reward is β *times* the log-ratio.",
            "Take your first exercise: is β a factor or a divisor there?",
        ),
        Mistake(
            "β on the policy alone",
            36,
            lambda c, r, rc, rr, beta: -F.logsigmoid(beta * (c - r) - (rc - rr)).mean(),
            "You multiplied log π by β, and log π_ref not. Then the margin is not 0 where "
            "π = π_ref.",
            "If π = π_ref, what should every margin be?",
        ),
        Mistake(
            "β on the preferred one alone",
            36,
            lambda c, r, rc, rr, beta: -F.logsigmoid(beta * (c - rc) - (r - rr)).mean(),
            "β multiplies the first log-ratio only. Both responses have an implicit reward.",
            "Where do the brackets have to stand?",
        ),
        Mistake(
            "ratios, not logarithms",
            1,
            _with_margin(lambda c, r, rc, rr: (c - rc).exp() - (r - rr).exp()),
            "You subtract the ratios π/π_ref. The implicit reward is β times their *logarithm*.",
            "What is log π − log π_ref already?",
        ),
        Mistake(
            "mean before the sigmoid",
            12,
            lambda c, r, rc, rr, beta: -F.logsigmoid(beta * _margin(c, r, rc, rr).mean()),
            "You average the margins first. A pair that is right by far then makes up for one that "
            "is wrong, and the loss of each pair is gone.",
            "What is the loss of one pair?",
        ),
        Mistake(
            "hinge",
            27,
            lambda c, r, rc, rr, beta: torch.relu(1 - beta * _margin(c, r, rc, rr)).mean(),
            "That is a hinge (SLiC), which is content with a margin of 1/β. DPO has a sigmoid.",
            "Which probability model do the labels follow?",
        ),
        Mistake(
            "no logarithm",
            27,
            lambda c, r, rc, rr, beta: -(beta * _margin(c, r, rc, rr)).sigmoid().mean(),
            "That is minus the mean probability of the right choice. The loss is minus its mean "
            "*logarithm*, so that a pair that is very wrong pulls hardest.",
            "How is the loss of a reward model built (notebook 02)?",
        ),
        Mistake(
            "log of the mean",
            12,
            lambda c, r, rc, rr, beta: -(beta * _margin(c, r, rc, rr)).sigmoid().mean().log(),
            "You take the mean first and the logarithm afterwards. Each pair has a loss of its "
            "own.",
            "What is the loss of one pair?",
        ),
        Mistake(
            "each side in a sigmoid",
            30,
            lambda c, r, rc, rr, beta: (
                -(F.logsigmoid(beta * (c - rc)) + F.logsigmoid(-beta * (r - rr))).mean()
            ),
            "You ask of each response by itself whether it gained. The loss sees the difference "
            "only: both may fall.",
            "How many sigmoids has a pair?",
        ),
        Mistake(
            "the squared distance",
            27,
            lambda c, r, rc, rr, beta: (_margin(c, r, rc, rr) - 0.5 / beta).square().mean(),
            "That is IPO, which pulls every margin to 1/(2β). DPO has a sigmoid.",
            "Which probability model do the labels follow?",
        ),
        Mistake(
            "no gradient",
            14,
            _with_margin(lambda c, r, rc, rr: _margin(c, r, rc, rr).detach()),
            "The number is right and has no gradient: nothing would be learned.",
            "Which tensors must gradients flow into?",
        ),
        Mistake(
            "log of zero",
            31,
            lambda c, r, rc, rr, beta: -(beta * _margin(c, r, rc, rr)).sigmoid().log().mean(),
            "Your formula is right, and it ends at ∞ for a pair that is very wrong: σ of a very "
            "negative number is 0 in floats.",
            "Which function of torch gives log σ(x) without computing σ(x)?",
        ),
    ),
)

_BETA = Choice(
    name="two_datasets",
    section=f"{_NOTEBOOK}: What sets the leash",
    minutes=2,
    answer="b",
    reason="The labels' odds are e to s times the difference of the scores, and DPO finds the "
    "policy whose β·log(π/π_ref) explains them. So η = β/s: sharper labels, longer leash.",
    mistakes=(
        Mistake(
            "β is the leash",
            36,
            "a",
            "Both used the same β, but β multiplies a log-ratio that has to explain the labels. "
            "Team B's labels are four times as sharp.",
            "Which policy explains labels whose log-odds are four times as large?",
        ),
        Mistake(
            "noise as freedom",
            26,
            "c",
            "Readers who are not sure mean small log-odds, and a policy near π_ref explains them.",
            "What do labels by coin flip say about the reviews?",
        ),
        Mistake(
            "labels as order only",
            12,
            "d",
            "The order is the same, but DPO fits the *odds*: how often the better one wins.",
            "How often does the better one win in each data set?",
        ),
    ),
)

_FALL = Choice(
    name="both_fall",
    section=f"{_NOTEBOOK}: What happens to the preferred review?",
    minutes=3,
    answer="c",
    reason="At π* the implicit reward of a response is r − J*. What lies below J* falls, preferred "
    "or not. So falling is no sign of a bug; what it is good for, the policy's own samples show.",
    mistakes=(
        Mistake(
            "falling is a bug",
            3,
            "a",
            "At π* itself, the best policy there is, the mean of both is negative: you have "
            "computed it.",
            "What is the implicit reward of a response whose score is below J*?",
        ),
        Mistake(
            "the margin is all that counts",
            27,
            "b",
            "The margin says how well the labels are explained. It rises just as well while the "
            "probability moves to responses that nobody compared.",
            "Which responses stand in no pair, and where has the probability gone?",
        ),
        Mistake(
            "clean labels would lift them",
            3,
            "d",
            "Without noise the policy goes on until it says the best response alone. All others "
            "fall without end, preferred or not.",
            "Where does a policy end whose labels are never wrong?",
        ),
    ),
)

_TRANSLATE = Choice(
    name="translate_one",
    curious=True,
    section=f"{_NOTEBOOK}: The leash in five dialects",
    minutes=4,
    answer="c",
    reason="GRPO charges the KL in the loss, k3 times the token ratio, and divides the scores by "
    "0.5 but not the KL. Multiply all by 0.5: scores as they are, and η = 0.02.",
    mistakes=(
        Mistake(
            "in the reward",
            37,
            "a",
            "That would be TRL's RLOOTrainer. GRPOTrainer adds the KL to the loss, so a token is "
            "not charged for the KL that it leads to.",
            "What does the card say about the place?",
        ),
        Mistake(
            "the deviation forgotten",
            37,
            "b",
            "The place is right. But the scores are divided by the group's standard deviation, "
            "and the KL is not: both have to be in the same unit.",
            "Multiply advantages and KL term by 0.5. What stands before the KL now?",
        ),
        Mistake(
            "multiplied instead",
            37,
            "d",
            "You divided by the deviation a second time. The advantages were divided already: to "
            "get back to the scores' unit, multiply.",
            "Deviation 0.5: do the divided advantages look larger or smaller than the scores?",
        ),
    ),
)

EXERCISES = (_RECOVERED, _LOSS, _BETA, _FALL, _TRANSLATE)
