"""Exercises of notebook 06: the rewards, the KL as a loss, and the controller of η."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from rlhf_lab.exercises.exercise import Attempt, Case, Exercise, Mistake
from rlhf_lab.kl import k1, k2, k3, kl_loss, kl_penalty
from rlhf_lab.masking import masked_mean, masked_sum
from rlhf_lab.rewards import AdaptiveKLController, compute_rewards

_LOGPROBS = torch.tensor(
    [
        [-1.617, -0.403, -2.129, -0.311],
        [-0.709, -2.437, -0.113, -0.227],
        [-0.307, -0.131, -0.139, -0.149],
    ],
    dtype=torch.float64,
)
_REF = torch.tensor(
    [
        [-0.521, -1.951, -2.633, -1.153],
        [-1.811, -0.907, -0.419, -3.167],
        [-1.723, -2.293, -0.617, -2.939],
    ],
    dtype=torch.float64,
)
_RIGHT = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0]], dtype=torch.bool)
_LEFT = torch.tensor([[1, 1, 1, 1], [0, 0, 1, 1], [0, 1, 1, 1]], dtype=torch.bool)
_GAPS = torch.tensor([[0, 1, 0, 1], [1, 1, 0, 0], [0, 0, 1, 0]], dtype=torch.bool)
_SCORES = torch.tensor([2.53, -1.07, 0.71], dtype=torch.float64)
_ALL = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]], dtype=torch.float64).log()
_ALL_REF = torch.tensor([[0.2, 0.3, 0.5], [0.5, 0.4, 0.1]], dtype=torch.float64).log()


def _all_modes(attempt: Attempt, *inputs: Tensor) -> Any:
    """The three modes on sampled tokens, and "full" on whole distributions."""
    logprob, ref_logprob, every, every_ref = inputs
    outputs = [attempt(logprob, ref_logprob, mode) for mode in ("kl", "abs", "mse")]
    outputs.append(attempt(every, every_ref, "full"))
    return None if any(x is None or x is ... for x in outputs) else outputs


def _unless_full(wrong: Attempt) -> Attempt:
    """A mistake in mode "full" alone."""
    return lambda p, q, mode: wrong(p, q) if mode == "full" else kl_penalty(p, q, mode)


def _modes(logprob: Tensor, ref_logprob: Tensor, mode: str) -> Tensor:
    d = logprob - ref_logprob
    if mode == "full":
        return (logprob.exp() * d).sum(dim=-1)
    return {"kl": d, "abs": d.abs(), "mse": 0.5 * d.square()}[mode]


_KL_PENALTY = Exercise(
    name="kl_penalty",
    section="06_compute_rewards: Four modes as numbers",
    minutes=8,
    reference=kl_penalty,
    simple=_modes,
    run=_all_modes,
    over_logits=(2,),
    outputs=('mode "kl"', 'mode "abs"', 'mode "mse"', 'mode "full"'),
    arguments=("logprob", "ref_logprob", "logprob of all words", "ref_logprob of all words"),
    cases=(
        Case("all four modes, |d| up to 2.9", (_LOGPROBS, _REF, _ALL, _ALL_REF), (0, 2)),
        Case("one token in all four modes", (_LOGPROBS[0, 0], _REF[0, 0], _ALL[1], _ALL_REF[1])),
    ),
    mistakes=(
        Mistake(
            "weights detached in full",
            14,
            _unless_full(lambda p, q: (p.exp().detach() * (p - q)).sum(-1)),
            'The value of your mode "full" is right. Its weights are detached, so half of its '
            "gradient is missing.",
            "Through which of its two places does π act?",
        ),
        Mistake(
            "arguments swapped",
            1,
            lambda p, q, mode: kl_penalty(q, p, mode),
            'You exchanged π and π_ref. Mode "full" becomes KL(π_ref ‖ π), and "kl" pays the '
            "policy for leaving.",
            "The token was sampled from π. Which log-probability comes first?",
        ),
        Mistake(
            "full weighted by π_ref",
            1,
            _unless_full(lambda p, q: (q.exp() * (p - q)).sum(-1)),
            "Your weights are π_ref's. The mean of d under π_ref is −KL(π_ref ‖ π), the other "
            "direction with its sign turned.",
            "Which policy samples the tokens?",
        ),
        Mistake(
            "F.kl_div without log_target",
            1,
            _unless_full(lambda p, q: functional.kl_div(q, p, reduction="none").sum(-1)),
            "F.kl_div takes its target for probabilities unless log_target=True; the log of a "
            "negative number is NaN.",
            "What does the target hold here, probabilities or their logs?",
        ),
        Mistake(
            "full as a plain mean",
            12,
            _unless_full(lambda p, q: (p - q).mean(-1)),
            "You gave every word of the vocabulary the same weight. A word that π never says "
            "would count as much as one that it says all the time.",
            "With which weights is a mean under π formed?",
        ),
        Mistake(
            "half forgotten",
            17,
            lambda p, q, mode: kl_penalty(p, q, mode) * (2 if mode == "mse" else 1),
            "Your mse is d², twice k2. Near home its mean is 2·KL(π ‖ π_ref).",
            "Expand E[d] to second order: which multiple of E[d²] is it?",
        ),
        Mistake(
            "negative numbers cut off",
            3,
            lambda p, q, mode: kl_penalty(p, q, mode).clamp(min=0),
            'You cut mode "kl" at 0. Its negative values raise a token again whose probability '
            "fell below that of π_ref.",
            "What is the mean of d if its negative half is missing?",
        ),
        Mistake(
            "full in the other direction",
            1,
            _unless_full(lambda p, q: (q.exp() * (q - p)).sum(-1)),
            'Your mode "full" is KL(π_ref ‖ π). F.kl_div(input, target) is KL(target ‖ input): its '
            "second argument gives the weights.",
            "Which policy samples the tokens?",
        ),
        Mistake(
            "logs as weights",
            29,
            _unless_full(lambda p, q: (p * (p - q)).sum(-1)),
            'In mode "full" you weigh with log-probabilities. Weights are probabilities.',
            "What turns a log-probability into a probability?",
        ),
        Mistake(
            "full as a plain sum",
            12,
            _unless_full(lambda p, q: (p - q).sum(-1)),
            'In mode "full" you add up d without weights.',
            "With which weights is a mean under π formed?",
        ),
        Mistake(
            "full not added up",
            12,
            _unless_full(lambda p, q: p.exp() * (p - q)),
            'In mode "full" the sum over the vocabulary is missing.',
            "How many numbers should a token have?",
        ),
        Mistake(
            "full averaged over the words",
            12,
            _unless_full(lambda p, q: (p.exp() * (p - q)).mean(-1)),
            'In mode "full" you divide by the size of the vocabulary. Probabilities are weights '
            "already, with sum 1.",
            "What do the weights add up to?",
        ),
        Mistake(
            "mse as one number",
            12,
            lambda p, q, mode: (
                functional.mse_loss(p, q) if mode == "mse" else kl_penalty(p, q, mode)
            ),
            "F.mse_loss averages over all tokens, and has no ½. Each token has its own penalty.",
            "How many numbers does the mode return for a batch (B, T)?",
        ),
        Mistake(
            "mse as one number, halved",
            12,
            lambda p, q, mode: (
                functional.mse_loss(p, q) / 2 if mode == "mse" else kl_penalty(p, q, mode)
            ),
            "F.mse_loss averages over all tokens. Each token has its own penalty.",
            "How many numbers does the mode return for a batch (B, T)?",
        ),
        Mistake(
            "full with squares",
            17,
            _unless_full(lambda p, q: (p.exp() * (p - q) ** 2).sum(-1) / 2),
            'Your mode "full" is the mean of d²/2. It is the mean of d itself.',
            "Which of the two is KL(π ‖ π_ref)?",
        ),
    ),
)


def _only_rewards(attempt: Attempt, *inputs: Any) -> Any:
    """The rewards alone, whether the attempt returns them or all that the package returns."""
    output = attempt(*inputs)
    return output[0] if isinstance(output, tuple) else output


def _place(scores: Tensor, mask: Tensor, shift: int = 0) -> Tensor:
    """The score on the last token of each row, `shift` positions further on."""
    last = (mask.shape[1] - 1 - mask.flip(1).int().argmax(1) + shift) % mask.shape[1]
    return torch.zeros_like(mask, dtype=scores.dtype).scatter(1, last[:, None], scores[:, None])


def _wrong(
    kls: Attempt = lambda d, m: d * m, score: Attempt = _place, sign: float = -1.0
) -> Attempt:
    """`compute_rewards` with one part exchanged."""
    return lambda scores, p, q, mask, eta: (
        sign * eta * kls((p - q).detach(), mask) + score(scores, mask)
    )


def _rewarded(
    scores: Tensor, logprobs: Tensor, ref_logprobs: Tensor, mask: Tensor, eta: float
) -> Tensor:
    rewards = -eta * (logprobs - ref_logprobs).detach() * mask
    for row, score in enumerate(scores):
        last = mask[row].nonzero()[-1]
        rewards[row, last] += score
    return rewards


_COMPUTE_REWARDS = Exercise(
    name="compute_rewards",
    section="06_compute_rewards: What TRL does, in four lines",
    minutes=12,
    reference=compute_rewards,
    simple=_rewarded,
    run=_only_rewards,
    cases=(
        Case("reviews of 4, 2 and 1 tokens", (_SCORES, _LOGPROBS, _REF, _RIGHT, 0.3), (1, 2)),
        Case("the same reviews, padded on the left", (_SCORES, _LOGPROBS, _REF, _LEFT, 0.45), (1,)),
        Case("a mask with gaps", (_SCORES, _LOGPROBS, _REF, _GAPS, 0.17), (1,)),
        Case(
            "a mask of the integers 0 and 1",
            (_SCORES, _LOGPROBS, _REF, _GAPS.long(), 0.23), (1,), edge=True,
        ),
    ),
    mistakes=(
        Mistake(
            "score on the last column", 9,
            _wrong(score=lambda s, m: functional.pad(s[:, None], (m.shape[1] - 1, 0))),
            "The score of a short review lands on its padding, where a mask removes it later: "
            "that review is never rewarded.",
            "Which is the last token that the policy chose?",
        ),
        Mistake(
            "score one token late", 9, _wrong(score=lambda s, m: _place(s, m, 1)),
            "Your index is the number of tokens. Positions count from 0, so the score lands "
            "behind the review, or at the start of a full one.",
            "A review of 2 tokens: which position is its last?",
        ),
        Mistake(
            "score on every token", 11, _wrong(score=lambda s, m: s[:, None] * m),
            "Your rewards add up to length · score. The reward model gives one number for the "
            "whole review; with γ = 1 every token's return holds it already.",
            "What should the rewards of a review add up to?",
        ),
        Mistake(
            "padding penalised", 8, _wrong(kls=lambda d, m: d),
            "You penalise the padding. TRL leaves those numbers in and must remember the mask "
            "later; here the reward off the mask is 0.",
            "What is the reward of a token that nobody chose?",
        ),
        Mistake(
            "penalty with a plus", 2, _wrong(sign=1.0),
            "You add η·kl: the policy is paid for leaving π_ref, and the more so the larger η.",
            "π says a token with d > 0 more often than π_ref does. Should the policy be paid?",
        ),
        Mistake(
            "not detached", 15,
            lambda s, p, q, mask, eta: -eta * (p - q) * mask + _place(s, mask),
            "Your values are right, but a gradient flows through the reward. PPO treats a reward "
            "as a number and differentiates log π alone; yours adds a second gradient.",
            "Compare rewards.requires_grad with what a reward from outside would have.",
        ),
        Mistake(
            "one KL for the whole batch", 13,
            _wrong(kls=lambda d, m: masked_mean(d, m) * m),
            "Each token gets the same penalty, whatever it is. A penalty that does not depend on "
            "the action acts like a baseline: it does not keep the policy near π_ref.",
            "Whose log-ratio should a token pay for?",
        ),
        Mistake(
            "mean over tokens", 12,
            _wrong(kls=lambda d, m: d * m / m.sum(1, keepdim=True)),
            "You divided the penalty by the length: the longer the review, the weaker the leash.",
            "What should the penalties of a review add up to?",
        ),
        Mistake(
            "KL applied twice", 18,
            lambda s, p, q, mask, eta: compute_rewards(
                s - eta * masked_sum(k1(p, q), mask, dim=1).detach(), p, q, mask, eta
            ).rewards,
            "You took the KL off the score and off the tokens: the leash is 2η.",
            "How often does η·kl of one token appear in the sum of the rewards?",
        ),
        Mistake(
            "no penalty at all", 18, _wrong(kls=lambda d, m: 0 * d),
            "Only the score is left: nothing holds the policy, whatever η is.",
            "Which token should pay −η·kl?",
        ),
        Mistake(
            "last token by its count", 9,
            lambda s, p, q, mask, eta: (
                -eta * (p - q).detach() * mask
                + torch.zeros_like(p).detach().scatter(1, mask.sum(1, keepdim=True) - 1, s[:, None])
            ),
            "Your index is the number of tokens minus 1. That is the last token only of a review "
            "that begins at place 0 and has no gap.",
            "How can you find the last place at which the mask is true?",
        ),
        Mistake(
            "penalty overwritten", 9,
            lambda s, p, q, mask, eta: torch.where(
                _place(torch.ones_like(s), mask) > 0, s[:, None], -eta * (p - q).detach() * mask
            ),
            "You write the score over the penalty of the last token: `=` where `+=` is meant. The "
            "choice to stop then costs nothing.",
            "What should stand on the last token: the score, or the score minus η·kl?",
        ),
        Mistake(
            "weighted by π", 29,
            lambda s, p, q, mask, eta: (
                -eta * (p.exp() * (p - q)).detach() * mask + _place(s, mask)
            ),
            "You weigh each log-ratio by π. The tokens were sampled from π: they come as often as "
            "π says, and need no weight.",
            "Who has written these tokens?",
        ),
        Mistake(
            "whole KL at the end", 9,
            lambda s, p, q, mask, eta: _place(
                s - eta * ((p - q).detach() * mask).sum(1), mask
            ),
            "You pay the whole KL at the end, with the score. The sum is right, and with γ = λ = 1 "
            "so is the mean gradient; but no token is told which of them has left π_ref. Here each "
            "token pays for itself.",
            "Which token should pay −η·kl?",
        ),
        Mistake(
            "whole KL on every token", 13,
            _wrong(kls=lambda d, m: (d * m).sum(1, keepdim=True) * m),
            "Every token pays for the whole review.",
            "Whose log-ratio should a token pay for?",
        ),
        Mistake(
            "absolute values", 3, _wrong(kls=lambda d, m: d.abs() * m),
            'You made negative log-ratios positive: that is mode "abs". Mode "kl" pays a token '
            'that '
            "has become rarer.",
            "Does log π − log π_ref have to be positive?",
        ),
        Mistake(
            "k2 for k1", 17, _wrong(kls=lambda d, m: d**2 / 2 * m),
            'You charge d²/2: that is mode "mse".',
            'Which of the modes is "kl"?',
        ),
        Mistake(
            "k3 for k1", 17, _wrong(kls=lambda d, m: ((-d).exp() - 1 + d) * m),
            'You charge k3. Mode "kl" is d itself.',
            'Which of the modes is "kl"?',
        ),
        Mistake(
            "the ratio, not its log", 1, _wrong(kls=lambda d, m: d.exp() * m),
            "You charge the ratio π/π_ref. The penalty is its logarithm.",
            "What is the penalty of a token on which both agree?",
        ),
        Mistake(
            "penalty alone", 18, _wrong(score=lambda s, m: torch.zeros_like(m, dtype=s.dtype)),
            "The scores are missing.",
            "Where does each review's score go?",
        ),
        Mistake(
            "score times η", 18, 
            lambda s, p, q, mask, eta: eta * (_place(s, mask) - (p - q).detach() * mask),
            "You multiply the score by η, too. η is the price of a nat alone.",
            "What does η multiply?",
        ),
        Mistake(
            "score spread over the tokens", 11,
            _wrong(score=lambda s, m: s[:, None] * m / m.sum(1, keepdim=True)),
            "You divide the score among the tokens. It is known only at the end.",
            "When is the score known?",
        ),
    ),
)  # fmt: skip


def _per_review(estimator: Attempt) -> Attempt:
    """A loss with another estimator than k2."""
    return lambda p, q, mask: masked_sum(estimator(p, q), mask, dim=1).mean()


_KL_LOSS = Exercise(
    name="kl_loss",
    section="06_compute_rewards: The missing half",
    minutes=8,
    reference=kl_loss,
    cases=(
        Case("two reviews of 4 and 2 tokens", (_LOGPROBS[:2], _REF[:2], _RIGHT[:2]), (0,)),
        Case("one review of 4 tokens", (_LOGPROBS[:1], _REF[:1], _RIGHT[:1]), (0,)),
        Case("three reviews padded on the left", (_LOGPROBS, _REF, _LEFT), (0,)),
    ),
    mistakes=(
        Mistake(
            "k3 as a loss, mean over the tokens of each review",
            17,
            lambda p, q, mask: ((k3(p, q) * mask).sum(1) / mask.sum(1)).mean(),
            "You use k3, whose gradient is that of the other direction, and average over the "
            "tokens of each review where their sum is asked for.",
            "Which derivative by d has the mean of d·∇log π? Sum over the tokens, and then what?",
        ),
        Mistake(
            "k3 as a loss, mean over tokens",
            17,
            lambda p, q, mask: masked_mean(k3(p, q), mask),
            "You use k3, whose gradient is that of the other direction, and average over all "
            "tokens where their sum in each review is asked for.",
            "Which derivative by d has the mean of d·∇log π? Sum over the tokens, and then what?",
        ),
        Mistake(
            "k1 as a loss",
            16,
            _per_review(k1),
            "You differentiate k1. Its mean is the KL, too, but its gradient is not: log π_ref is "
            "a constant and drops out, and E[∇log π] = 0. On average nothing happens.",
            "Exchange π_ref for another model: does the gradient of your loss change?",
        ),
        Mistake(
            "the KL as a constant",
            14,
            lambda p, q, mask: kl_loss(p.detach(), q, mask),
            "The number is right, but it has no gradient: a constant in the loss moves nothing, "
            "whatever the log shows.",
            "Where does the path from the loss back to log π end?",
        ),
        Mistake(
            "k3 as a loss",
            17,
            _per_review(k3),
            "As a loss, k3 has the mean gradient of KL(π_ref ‖ π), the other direction.",
            "Write the derivative by d of each candidate. Which one has the mean of d·∇log π?",
        ),
        Mistake(
            "half forgotten",
            17,
            lambda p, q, mask: 2 * kl_loss(p, q, mask),
            "Your loss is d², so its gradient is twice that of the KL, and η counts double.",
            "What is the derivative of d² by d?",
        ),
        Mistake(
            "padding counted",
            8,
            lambda p, q, mask: k2(p, q).sum(1).mean(),
            "The padding pulls on the policy: tokens that nobody chose get a gradient.",
            "Which positions does the mask select?",
        ),
        Mistake(
            "mean over tokens",
            12,
            lambda p, q, mask: masked_mean(k2(p, q), mask),
            "You averaged k2 over all tokens. That is TRL's default for GRPO, and what notebook "
            "10 asks for. Here the text asks for KL per review: a sum over its tokens, then the "
            "mean over reviews. Per token, the same η would pull less on a batch of longer "
            "reviews.",
            "Sum over the tokens of a review, and then what?",
        ),
        Mistake(
            "sign turned",
            2,
            lambda p, q, mask: -kl_loss(p, q, mask),
            "A loss is minimised. With your sign the optimiser drives π away from π_ref.",
            "Should the loss of a policy far from home be large or small?",
        ),
        Mistake(
            "square of the sum",
            17,
            lambda p, q, mask: (((p - q) * mask).sum(1) ** 2 / 2).mean(),
            "You squared the log-ratio of the whole review: k2 of the review. Its mean gradient is "
            "*exactly* ∇KL(π ‖ π_ref), also through later tokens, which this exercise's loss "
            "lacks. It is a better answer, with more noise. We want k2 of each token.",
            "Which comes first here, the square or the sum over tokens?",
        ),
        Mistake(
            "score function",
            17,
            lambda p, q, mask: ((p - q).detach() * p * mask).sum(1).mean(),
            "Your gradient is right: d·∇log π, the same as that of k2. Only the value is another, "
            "and it means nothing. We want k2, whose value can be read, too.",
            "Which function of d has d as its derivative?",
        ),
        Mistake(
            "mean over the padded width",
            12,
            lambda p, q, mask: ((p - q) ** 2 / 2 * mask).mean(),
            "You divide by all places, padding included. The loss of a review then depends on how "
            "long the longest one is.",
            "By what should the sum be divided?",
        ),
        Mistake(
            "mean over the tokens of each review",
            12,
            lambda p, q, mask: (((p - q) ** 2 / 2 * mask).sum(1) / mask.sum(1)).mean(),
            "You average over the tokens of each review. The text asks for their sum.",
            "Sum over the tokens of a review, and then what?",
        ),
        Mistake(
            "sum over the batch",
            12,
            lambda p, q, mask: ((p - q) ** 2 / 2 * mask).sum(),
            "You sum over the reviews, too. With twice the batch, η would pull twice as hard.",
            "Sum over the tokens of a review, and then what?",
        ),
        Mistake(
            "absolute values",
            17,
            lambda p, q, mask: ((p - q).abs() * mask).sum(1).mean(),
            "Your loss is |d|. Its gradient is ±∇log π, whatever the size of d.",
            "Which function of d has d as its derivative?",
        ),
        Mistake(
            "weighted by π",
            29,
            lambda p, q, mask: (p.exp() * (p - q) * mask).sum(1).mean(),
            "You weigh d by π, as in the formula of KL. These tokens were sampled from π, and need "
            "no weight; and the gradient of k1 would be 0 on average.",
            "Over what does the sum in the formula run?",
        ),
        Mistake(
            "one review's sum per batch",
            12,
            lambda p, q, mask: (((p - q) * mask).sum() ** 2 / 2) / len(p),
            "You squared the log-ratio of the whole batch.",
            "Which comes first here, the square or the sums?",
        ),
    ),
)


def _updated(
    attempt: Attempt, eta: float, target: float, horizon: float, kls: tuple[float, ...], n: int
) -> Any:
    """η after several updates; None if the attempt leaves a stub's traces and nothing else."""
    controller = AdaptiveKLController(eta, target, horizon)
    values = []
    for kl in kls:
        returned = attempt(controller, kl, n)
        values.append(controller.value)
    untouched = all(value == eta for value in values)
    if untouched and (returned is None or returned is ...):
        return returned
    return torch.tensor(values, dtype=torch.float64)


def _moved(factor: Attempt) -> Attempt:
    """A wrong update: η times a factor of kl, target, and n_steps / horizon."""

    def update(self: Any, kl: float, n_steps: int) -> None:
        self.value *= factor(kl, self.target, n_steps / self.horizon)

    return update


def _set(value: Attempt) -> Attempt:
    """A wrong update: η becomes some other number."""

    def update(self: Any, kl: float, n_steps: int) -> None:
        self.value = value(self, kl, n_steps)

    return update


def _clip(x: float) -> float:
    return min(max(x, -0.2), 0.2)


def _added(self: Any, kl: float, n_steps: int) -> None:
    self.value += _clip(kl / self.target - 1) * n_steps / self.horizon


_CONTROLLER = Exercise(
    name="controller_update",
    section="06_compute_rewards: For the curious: a controller for η",
    curious=True,
    minutes=6,
    reference=AdaptiveKLController.update,
    run=_updated,
    arguments=("η", "target", "horizon", "kls", "n_steps"),
    cases=(
        Case("KLs of 6.6, 12 and 6 nats", (0.2, 6.0, 10_000.0, (6.6, 12.0, 6.0), 256)),
        Case(
            "KLs of 0.95, 0.3, −0.1 and 1.9 nats", (3.1, 1.1, 2000.0, (0.95, 0.3, -0.1, 1.9), 128)
        ),
        Case("KLs of 3.1 and 0.9 nats and a short horizon", (0.5, 2.0, 100.0, (3.1, 0.9), 256)),
    ),
    mistakes=(
        Mistake(
            "min and max exchanged",
            25,
            _moved(lambda kl, target, share: 1 + max(min(kl / target - 1, -0.2), 0.2) * share),
            "Your clip always gives +0.2: min and max are exchanged. η rises whatever the KL is.",
            "Which of the two keeps a number below its upper limit?",
        ),
        Mistake(
            "turned round, not clipped",
            25,
            _moved(lambda kl, target, share: 1 - (kl / target - 1) * share),
            "Your controller loosens the leash when the policy is too far away, and you do not "
            "clip the error.",
            "The KL is twice its target: should η rise or fall, and by how much at most?",
        ),
        Mistake(
            "turned round",
            25,
            _moved(lambda kl, target, share: 1 - _clip(kl / target - 1) * share),
            "Your controller loosens the leash when the policy is too far away. Then it goes "
            "further, and η falls to 0.",
            "The KL is twice its target: should η rise or fall?",
        ),
        Mistake(
            "clipped too late",
            25,
            _moved(lambda kl, target, share: 1 + _clip((kl / target - 1) * share)),
            "You clip the step, after the error was multiplied by n/horizon. A batch is a small "
            "share of the horizon, so your clip hardly ever acts: clip the error itself.",
            "What is cut to ±0.2 in the text: the error, or the step?",
        ),
        Mistake(
            "not clipped",
            25,
            _moved(lambda kl, target, share: 1 + (kl / target - 1) * share),
            "You do not clip the error. One batch with a very wrong KL would move η as much as a "
            "hundred ordinary batches.",
            "What is the largest relative change per horizon?",
        ),
        Mistake(
            "error in nats",
            25,
            _moved(lambda kl, target, share: 1 + _clip(kl - target) * share),
            "Your error is a difference in nats, not a share of the target. The same controller "
            "would react too much at a target of 20 nats and hardly at all at 0.05.",
            "What is the error relative to?",
        ),
        Mistake(
            "batch size left out",
            25,
            _moved(lambda kl, target, share: 1 + _clip(kl / target - 1)),
            "You move by up to 20 % at every update. The formula spreads these 20 % over a "
            "horizon of responses.",
            "Which share of the horizon has this batch covered?",
        ),
        Mistake(
            "added instead of multiplied",
            25,
            _added,
            "You add to η. Then a small η doubles quickly, a large one hardly moves, and nothing "
            "keeps η positive.",
            "Which operation treats η = 0.01 and η = 10 alike?",
        ),
        Mistake(
            "measured the other way round",
            25,
            _moved(lambda kl, target, share: 1 + _clip(target / kl - 1) * share),
            "You divided the target by the KL. Above its target the KL now lowers η.",
            "At KL = target both ratios are 1. Which of them grows with the KL?",
        ),
        Mistake(
            "returned, not stored",
            30,
            lambda self, kl, n_steps: (
                self.value * (1 + _clip(kl / self.target - 1) * n_steps / self.horizon)
            ),
            "You compute the new η and return it, and self.value has not changed. The trainer "
            "reads self.value.",
            "Which line should assign to self.value?",
        ),
        Mistake(
            "only the factor stored",
            30,
            _set(lambda self, kl, n: 1 + _clip(kl / self.target - 1) * n / self.horizon),
            "You store the factor. η is to be *multiplied* by it.",
            "What does self.value hold before, and what after?",
        ),
        Mistake(
            "only the change stored",
            30,
            _set(lambda self, kl, n: self.value * _clip(kl / self.target - 1) * n / self.horizon),
            "You store the change alone. The old η is lost.",
            "What should η be if the error is 0?",
        ),
        Mistake(
            "cut on one side only",
            25,
            _moved(lambda kl, target, share: 1 + min(kl / target - 1, 0.2) * share),
            "You clip the error from above only. A batch with a KL near 0 may be wrong, too.",
            "What is the smallest error that you allow?",
        ),
        Mistake(
            "clipped at 0",
            25,
            _moved(lambda kl, target, share: 1 + min(max(kl / target - 1, 0.0), 0.2) * share),
            "Your error is never negative, so η can only rise.",
            "What should happen to η when the KL is below its target?",
        ),
        Mistake(
            "error of the ratio",
            25,
            _moved(lambda kl, target, share: 1 + _clip(kl / target) * share),
            "You clip KL/target itself. At its target the error should be 0.",
            "What should η do when the KL is at its target?",
        ),
        Mistake(
            "relative to the KL",
            25,
            _moved(lambda kl, target, share: 1 + _clip((kl - target) / kl) * share),
            "You divide the difference by the KL that was measured. It is relative to the target.",
            "What is the error relative to?",
        ),
        Mistake(
            "horizon upside down",
            25,
            _moved(lambda kl, target, share: 1 + _clip(kl / target - 1) / share),
            "You divide by n_steps/horizon. One batch then moves η as if it were many.",
            "Which share of the horizon has this batch covered?",
        ),
        Mistake(
            "another limit",
            25,
            _moved(lambda kl, target, share: 1 + min(max(kl / target - 1, -0.1), 0.1) * share),
            "Your error is cut at ±0.1. Here it is ±0.2.",
            "What is the largest relative change per horizon?",
        ),
        Mistake(
            "1 inside the share",
            25,
            _moved(lambda kl, target, share: (1 + _clip(kl / target - 1)) * share),
            "A bracket stands in the wrong place: you multiply 1 + error by n_steps/horizon. Only "
            "the error belongs to that product, so one batch makes η nearly 0.",
            "What should the factor be if the error is 0?",
        ),
        Mistake(
            "1 inside the clip",
            25,
            _moved(lambda kl, target, share: _clip(kl / target) * share),
            "You clip 1 + error, and multiply all of it by n_steps/horizon. The 1 stands before "
            "the clip, so one batch makes η nearly 0.",
            "What should the factor be if the error is 0?",
        ),
        Mistake(
            "the whole factor clipped",
            25,
            _moved(lambda kl, target, share: _clip(1 + (kl / target - 1) * share)),
            "You clip the whole factor to ±0.2, and a factor is near 1. Clip the error.",
            "Between which numbers should the factor lie?",
        ),
        Mistake(
            "divided by the horizon at the end",
            25,
            _set(
                lambda self, kl, n: (
                    self.value * (1 + _clip(kl / self.target - 1) * n) / self.horizon
                )
            ),
            "A bracket stands in the wrong place: you divide 1 + error · n_steps by the horizon. "
            "Only the error belongs to n_steps/horizon.",
            "What should the factor be if the error is 0?",
        ),
        Mistake(
            "1 taken off the target",
            25,
            _moved(lambda kl, target, share: 1 + _clip(kl / (target - 1)) * share),
            "You divide by target − 1. The 1 is taken off the ratio.",
            "What should the error be when the KL is at its target?",
        ),
        Mistake(
            "1 taken off the KL",
            25,
            _moved(lambda kl, target, share: 1 + _clip((kl - 1) / target) * share),
            "You take 1 off the KL. It is taken off the ratio KL/target.",
            "What should the error be when the KL is at its target?",
        ),
        Mistake(
            "clip around error and share",
            25,
            _moved(lambda kl, target, share: 1 + _clip(kl / target - share)),
            "A bracket is missing: n_steps/horizon multiplies only the 1 that is taken off, not "
            "the error.",
            "Which number is multiplied by n_steps/horizon?",
        ),
    ),
)

EXERCISES = (_COMPUTE_REWARDS, _KL_PENALTY, _KL_LOSS, _CONTROLLER)
