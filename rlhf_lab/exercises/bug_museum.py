"""Exercises of notebook 10: name the bug, write the invariant that catches it, repair the line."""

import torch
from torch import Tensor

from rlhf_lab.exercises.exercise import Case, Choice, Exercise, Mistake
from rlhf_lab.kl import k1, k2, k3
from rlhf_lab.lessons.museum.invariants import reward_gap
from rlhf_lab.lessons.museum.steps import loss_penalty, next_eta
from rlhf_lab.masking import masked_mean, masked_sum, terminal_reward

_DASHBOARD_SECTION = "10_bug_museum: Read the dashboards"

_DASHBOARDS = (
    Choice(
        name="exhibit_a",
        section=_DASHBOARD_SECTION,
        minutes=3,
        answer="b",
        reason="The reference moves along: each rollout is compared with the policy that "
        "wrote it, so log-ratio and penalty stay 0 while the policy goes anywhere it likes.",
        mistakes=(
            Mistake(
                "ratio to the reference",
                22,
                "a",
                "With the ratio taken to π_ref the clip would keep the policy near π_SFT: the "
                "score could not rise above the clean run's, and here it does.",
                "Which KL can be exactly 0 in every iteration?",
            ),
            Mistake(
                "penalty forgotten",
                18,
                "c",
                "A trainer without a penalty drifts like this one, but its log still measures the "
                "distance from π_SFT, and the log would show that KL rise.",
                "What does the log compare the policy with?",
            ),
            Mistake(
                "one place off",
                6,
                "d",
                "Log-probs of the wrong token make the logged KL wrong, not 0. And a policy that "
                "is credited for its neighbours' tokens does not learn this fast.",
                "Which two policies agree on every token of every response?",
            ),
        ),
    ),
    Choice(
        name="exhibit_b",
        section=_DASHBOARD_SECTION,
        minutes=3,
        answer="c",
        reason="The sign is wrong: the trainer pays η for every nat of distance, and logs the "
        "distance as a negative number. A mean of −3 nats over 256 responses is no noise.",
        mistakes=(
            Mistake(
                "just noise",
                3,
                "a",
                "Single log-ratios may be negative, and so may the mean of a few. KL(π ‖ π_ref) "
                "may not, and this mean ends below −3 nats, batch after batch.",
                "How large is the noise of the clean run's curve?",
            ),
            Mistake(
                "k3 in the reward",
                17,
                "b",
                "k3 is never negative, so this curve could not go below 0.",
                "Which of k1, k2 and k3 can have a negative mean?",
            ),
            Mistake(
                "sampled warm",
                4,
                "d",
                "Samples that are more random than π do lower the logged KL, but their entropy "
                "rises above the clean run's. Here it falls to 0.",
                "What is the policy being paid for here?",
            ),
        ),
    ),
    Choice(
        name="exhibit_c",
        section=_DASHBOARD_SECTION,
        minutes=3,
        answer="d",
        reason="The ratio is taken to π_ref: once a token has left the band around π_SFT, the "
        "clip stops its gradient for good, instead of for one rollout. A trust region became a "
        "wall.",
        mistakes=(
            Mistake(
                "learning rate",
                22,
                "a",
                "A small step size gives the same path more slowly. This run starts at the clean "
                "one's pace and then stands still.",
                "Compare the first two iterations: does it start more slowly?",
            ),
            Mistake(
                "eta too large",
                25,
                "b",
                "A strong leash ends on the frontier: the best score for its KL, 0.7 for 0.3 "
                "nats. This run ends at 0.5.",
                "What else, besides a penalty, can hold a policy where it started?",
            ),
            Mistake(
                "entropy bonus",
                19,
                "c",
                "A bonus raises the entropy above π_SFT's 4 nats if it is strong enough to hold "
                "the score down. This policy is still π_SFT in nearly all it says.",
                "The clip should limit the distance from a policy. From which one?",
            ),
        ),
    ),
    Choice(
        name="exhibit_k",
        section=_DASHBOARD_SECTION,
        minutes=3,
        answer="a",
        reason="Padding counts: every response is 4 tokens long by definition, and log-ratios of "
        "the padding enter the KL, which is therefore not KL(π ‖ π_SFT).",
        mistakes=(
            Mistake(
                "score on every token",
                11,
                "b",
                "A score on every token makes responses long, too, but it takes the score far "
                "above the clean run's. And its logged KL would be the true one.",
                "Is the length of 4.00 something the policy does, or something the log counts?",
            ),
            Mistake(
                "score in the last column",
                9,
                "c",
                "A score in the last column makes the policy go on until that column. But then "
                "iteration 0 would still have short responses. Here every length is 4 before "
                "anything is learned.",
                "Why is the length 4 in the very first iteration?",
            ),
            Mistake(
                "discount",
                28,
                "d",
                "A discount makes a late score worth less, so responses get shorter, not longer.",
                "Why is the length 4 in the very first iteration?",
            ),
        ),
    ),
    Choice(
        name="exhibit_n",
        section=_DASHBOARD_SECTION,
        minutes=3,
        answer="c",
        reason="Nats per token against a target per response: it settles at 4 tokens × 1.5 nats. "
        "Divide the logged KL by the length, and there is the target.",
        mistakes=(
            Mistake(
                "wrong way",
                25,
                "a",
                "A controller that steers the wrong way never comes to rest: η runs to 0 or away. "
                "Here η falls while the KL is small and levels off when it is large enough.",
                "At which KL does this η stop moving?",
            ),
            Mistake(
                "no gradient",
                14,
                "b",
                "A penalty without gradient would leave η without any effect, but η itself would "
                "rise with a KL above the target. Here it falls.",
                "What does the controller believe the KL to be?",
            ),
            Mistake(
                "target too large",
                12,
                "d",
                "Then the KL would settle near 3 nats. It settles near 6.",
                "1.5 nats per what?",
            ),
        ),
    ),
)

_MASK = torch.tensor([[1, 1, 1, 0], [1, 1, 0, 0], [1, 1, 1, 1]], dtype=torch.bool)
_LOGPROBS = -torch.tensor(
    [[0.317, 1.913, 0.729, 5.03], [2.239, 0.421, 9.07, 3.11], [1.153, 0.229, 2.531, 0.647]],
    dtype=torch.float64,
)
_REF_LOGPROBS = -torch.tensor(
    [[1.621, 0.533, 2.117, 1.01], [0.947, 1.823, 2.039, 7.13], [2.341, 1.733, 0.829, 1.951]],
    dtype=torch.float64,
)
_GAPS = torch.tensor([[0, 1, 1, 1], [0, 0, 1, 1], [1, 0, 1, 1]], dtype=torch.bool)
_SCORES = torch.tensor([1.531, -0.719, 0.427], dtype=torch.float64)
_LOG_RATIOS = masked_sum(_LOGPROBS - _REF_LOGPROBS, _MASK, dim=1)


def _paid(extra: Tensor, eta: float) -> Tensor:
    """Rewards whose sums over the mask are right up to `extra` per response; garbage off it."""
    wanted = _SCORES - eta * _LOG_RATIOS + extra
    rewards = torch.tensor(
        [[0.2, -0.1, 0.0, 7.0], [0.4, 0.0, -8.0, 9.0], [0.1, 0.3, -0.6, 0.0]], dtype=torch.float64
    )
    return rewards + terminal_reward(wanted - masked_sum(rewards, _MASK, dim=1), _MASK)


def _gap_case(name: str, eta: float, *extra: float) -> Case:
    rewards = _paid(torch.tensor(extra, dtype=torch.float64), eta)
    return Case(name, (rewards, _SCORES, _LOG_RATIOS, _MASK, eta))


def _gaps(rewards: Tensor, scores: Tensor, log_ratios: Tensor, mask: Tensor, eta: float) -> Tensor:
    """The gap of each response."""
    return masked_sum(rewards, mask, dim=1) - scores + eta * log_ratios


_GAP = Exercise(
    name="reward_gap",
    section="10_bug_museum: What would have caught it",
    minutes=7,
    reference=reward_gap,
    cases=(
        _gap_case("a correct trainer's rewards", 0.3, 0.0, 0.0, 0.0),
        _gap_case("a batch whose errors cancel", 0.17, 0.813, -0.507, -0.306),
        _gap_case("a trainer that pays too little", 0.45, -0.241, -0.929, -0.113),
        _gap_case("a trainer that pays the last response too much", 0.3, 0.0, -0.131, 0.647),
    ),
    mistakes=(
        Mistake(
            "mean over tokens, no absolute value",
            12,
            lambda rewards, scores, log_ratios, mask, eta: (
                masked_mean(rewards, mask, dim=1) - scores + eta * log_ratios
            ).max(),
            "You average the rewards over the tokens where their sum is meant, and your gap keeps "
            "its sign.",
            "What does a reward of 0, 0, 1 add up to, and in which direction may a trainer be "
            "wrong?",
        ),
        Mistake(
            "mean over the batch",
            13,
            lambda rewards, scores, log_ratios, mask, eta: (
                (masked_sum(rewards, mask, dim=1) - scores + eta * log_ratios).mean().abs()
            ),
            "You compare the mean over the batch. One KL subtracted from every sample keeps that "
            "mean and still regularises nothing, so your test would pass exhibit G.",
            "Must the sum be right on average, or for each response?",
        ),
        Mistake(
            "no absolute value",
            2,
            lambda rewards, scores, log_ratios, mask, eta: (
                masked_sum(rewards, mask, dim=1) - scores + eta * log_ratios
            ).max(),
            "Your gap keeps its sign, so a trainer that pays too little has a gap below 0 and "
            "passes.",
            "In which direction may a trainer be wrong?",
        ),
        Mistake(
            "penalty added",
            2,
            lambda rewards, scores, log_ratios, mask, eta: (
                (masked_sum(rewards, mask, dim=1) - scores - eta * log_ratios).abs().max()
            ),
            "You expect score + η·log-ratio. That pays for leaving π_ref: your test fails the "
            "clean trainer and passes exhibit B.",
            "What does a response lose that π says more often than π_ref?",
        ),
        Mistake(
            "padding included",
            8,
            lambda rewards, scores, log_ratios, mask, eta: (
                (rewards.sum(1) - scores + eta * log_ratios).abs().max()
            ),
            "You add up the padding too. Its numbers are never used, so a correct trainer may "
            "fail your test.",
            "Which positions does the mask select?",
        ),
        Mistake(
            "mean over tokens",
            12,
            lambda rewards, scores, log_ratios, mask, eta: (
                (masked_mean(rewards, mask, dim=1) - scores + eta * log_ratios).abs().max()
            ),
            "You average the rewards over the tokens. The score is paid once per response, so "
            "it is the sum that must equal score − η·log-ratio.",
            "What does a reward of 0, 0, 1 add up to?",
        ),
        Mistake(
            "sum over the batch",
            13,
            lambda *inputs: _gaps(*inputs).abs().sum(),
            "You add up the gaps. We want the largest: a sum grows with the batch.",
            "What should twice the batch do to your number?",
        ),
        Mistake(
            "mean of the gaps",
            13,
            lambda *inputs: _gaps(*inputs).abs().mean(),
            "You average the gaps. One response that is paid wrongly nearly vanishes in a large "
            "batch.",
            "Must a trainer be right on average, or for each response?",
        ),
        Mistake(
            "absolute value of the largest",
            2,
            lambda *inputs: _gaps(*inputs).max().abs(),
            "You take the largest first and its absolute value then. The most negative gap is "
            "overlooked.",
            "Which comes first?",
        ),
        Mistake(
            "the smallest",
            2,
            lambda *inputs: _gaps(*inputs).abs().min(),
            "You take the smallest gap.",
            "Which response breaks the invariant?",
        ),
        Mistake(
            "squared",
            2,
            lambda *inputs: (_gaps(*inputs) ** 2).max(),
            "You square the gap. We want its absolute value, in units of score.",
            "What is a gap of 0.1 squared?",
        ),
        Mistake(
            "sum of all",
            13,
            lambda *inputs: _gaps(*inputs).sum().abs(),
            "You add up the gaps before you take the absolute value, so that errors cancel.",
            "Must the sum be right for the batch, or for each response?",
        ),
        Mistake(
            "penalty left out",
            18,
            lambda rewards, scores, log_ratios, mask, eta: (
                (masked_sum(rewards, mask, dim=1) - scores).abs().max()
            ),
            "You compare with the score alone. A trainer also subtracts η·log-ratio.",
            "Which argument have you not used?",
        ),
        Mistake(
            "η left out",
            18,
            lambda rewards, scores, log_ratios, mask, eta: (
                (masked_sum(rewards, mask, dim=1) - scores + log_ratios).abs().max()
            ),
            "You subtract the log-ratio without its η.",
            "Which argument have you not used?",
        ),
    ),
)

_PENALTY = Exercise(
    name="loss_penalty",
    curious=True,
    section="10_bug_museum: Repair the line",
    minutes=6,
    reference=loss_penalty,
    cases=(
        Case("three responses of different length", (_LOGPROBS, _REF_LOGPROBS, _MASK), (0,)),
        Case("a policy far from its reference", (2 * _LOGPROBS, _REF_LOGPROBS, _MASK), (0,)),
        Case("padded on the left, and with a gap", (_LOGPROBS, _REF_LOGPROBS, _GAPS), (0,)),
        Case(
            "responses of at most three tokens",
            (_LOGPROBS[:, :3], _REF_LOGPROBS[:, :3], _MASK[:, :3]),
            (0,),
        ),
    ),
    mistakes=(
        Mistake(
            "square of the mean",
            17,
            lambda p, q, mask: masked_mean(p - q, mask).square() / 2,
            "You take the mean first and square it then: log-ratios of opposite sign cancel.",
            "Which comes first, the square or the mean?",
        ),
        Mistake(
            "k1",
            16,
            lambda logprobs, ref_logprobs, mask: masked_mean(k1(logprobs, ref_logprobs), mask),
            "You differentiate k1. Its gradient is that of log π alone: π_ref drops out of it, "
            "and its mean over samples of π is 0. This is exhibit L again.",
            "Change ref_logprobs: which gradient must change with it?",
        ),
        Mistake(
            "detached",
            14,
            lambda logprobs, ref_logprobs, mask: loss_penalty(
                logprobs.detach(), ref_logprobs, mask
            ),
            "Your value is right and your gradient is 0. A constant in the loss moves no weight: "
            "this is exhibit U again.",
            "What does loss.backward() see of it?",
        ),
        Mistake(
            "k3",
            17,
            lambda logprobs, ref_logprobs, mask: masked_mean(k3(logprobs, ref_logprobs), mask),
            "You differentiate k3. Its mean gradient is that of KL(π_ref ‖ π): it pulls towards "
            "π_ref too, but by the other divergence.",
            "Which of the three estimators has d as its derivative?",
        ),
        Mistake(
            "k3 with roles swapped",
            17,
            lambda logprobs, ref_logprobs, mask: masked_mean(k3(ref_logprobs, logprobs), mask),
            "You take k3 of π_ref against π. Its mean is χ²(π ‖ π_ref) − KL(π ‖ π_ref), and one "
            "token that π_ref finds unlikely outweighs all others.",
            "Which estimator needs no exponential at all?",
        ),
        Mistake(
            "padding included",
            8,
            lambda logprobs, ref_logprobs, mask: k2(logprobs, ref_logprobs).mean(),
            "You average over the padding too. The penalty then depends on how long the longest "
            "response of the batch is.",
            "Which tokens did the policy choose?",
        ),
        Mistake(
            "sum instead of mean",
            12,
            lambda logprobs, ref_logprobs, mask: masked_sum(k2(logprobs, ref_logprobs), mask),
            "You sum where the other losses average. Compared with them your η grows with the "
            "batch and with the length of its responses.",
            "What happens to the clipped loss when you double the batch?",
        ),
        Mistake(
            "sum per review",
            12,
            lambda p, q, mask: masked_sum(k2(p, q), mask, dim=1).mean(),
            "You summed k2 over each response and averaged over responses: KL per review, which is "
            "what notebook 06 asks for as `kl_loss`. Here the text asks for the mean over all "
            "tokens, TRL's default for GRPO, beside losses that are means over tokens, too.",
            "Over what do the other losses average?",
        ),
        Mistake(
            "half forgotten",
            17,
            lambda p, q, mask: 2 * masked_mean(k2(p, q), mask),
            "Your penalty is d², so its gradient is twice that of the KL, and η counts double.",
            "What is the derivative of d² by d?",
        ),
        Mistake(
            "square of the sum",
            17,
            lambda p, q, mask: masked_sum(p - q, mask, dim=1).square().mean() / 2,
            "You squared the log-ratio of the whole response: its mean gradient is exactly ∇KL of "
            "the response. Here the text asks for k2 of each token, averaged over the mask.",
            "Which comes first here, the square or the sum over tokens?",
        ),
        Mistake(
            "sign turned",
            2,
            lambda p, q, mask: -masked_mean(k2(p, q), mask),
            "A loss is minimised. With your sign the optimiser drives π away from π_ref.",
            "Should the penalty of a policy far from home be large or small?",
        ),
        Mistake(
            "score function",
            17,
            lambda p, q, mask: masked_mean((p - q).detach() * p, mask),
            "Your gradient is right: d·∇log π. Only the value is another. We want k2, whose "
            "value can be read, too.",
            "Which function of d has d as its derivative?",
        ),
        Mistake(
            "mean of means",
            12,
            lambda p, q, mask: masked_mean(k2(p, q), mask, dim=1).mean(),
            "You average over each response first. Here each token counts the same.",
            "How much should a token of a long response weigh?",
        ),
        Mistake(
            "absolute values",
            17,
            lambda p, q, mask: masked_mean((p - q).abs(), mask),
            "Your penalty is |d|. Its gradient is ±∇log π, whatever the size of d.",
            "Which of the three estimators has d as its derivative?",
        ),
        Mistake(
            "padding set to 0, and averaged",
            8,
            lambda p, q, mask: (k2(p, q) * mask).mean(),
            "You divide by all places, padding included.",
            "How many tokens did the policy choose?",
        ),
        Mistake(
            "weighted by π",
            29,
            lambda p, q, mask: masked_mean(p.exp() * (p - q), mask),
            "You weigh d by π, as in the formula of KL. These tokens were sampled from π, and need "
            "no weight.",
            "Over what does the sum in the formula run?",
        ),
    ),
)


def _moved(eta: float, error: float) -> float:
    return eta * (1 + min(0.1, max(-0.1, error)))


def _eta_case(name: str, eta: float, target: float, mask: Tensor = _MASK) -> Case:
    return Case(name, (eta, _LOGPROBS - _REF_LOGPROBS, mask, target))


_STEER = Exercise(
    name="next_eta",
    section="10_bug_museum: Repair the line",
    minutes=6,
    curious=True,
    reference=next_eta,
    cases=(
        _eta_case("a policy a little nearer than its target", 0.2, 1.3),
        _eta_case("a policy a little further than its target", 0.37, 1.2),
        _eta_case("a policy much too far", 0.13, 0.2),
        _eta_case("a policy much too near", 0.53, 6.0),
        _eta_case("a target that is nearly the KL per token", 0.29, 0.43),
        _eta_case("a target that is nearly the KL per place", 0.31, 0.32),
        _eta_case("responses padded on the left, whose KL is negative", 0.2, 0.83, _GAPS),
    ),
    mistakes=(
        Mistake(
            "wrong way",
            25,
            lambda eta, kls, mask, target: _moved(
                eta, 1 - masked_sum(kls, mask).item() / len(kls) / target
            ),
            "Your η falls when the policy is too far away. That lets it go further, which lowers "
            "η again: this is exhibit H.",
            "KL is above the target: should the leash be stronger or weaker?",
        ),
        Mistake(
            "nats per token",
            25,
            lambda eta, kls, mask, target: _moved(eta, masked_mean(kls, mask).item() / target - 1),
            "You compare nats per token with a target in nats per response. The policy then "
            "settles at length × target: this is exhibit N.",
            "The KL of a response is which sum of the KLs of its tokens?",
        ),
        Mistake(
            "no limit",
            25,
            lambda eta, kls, mask, target: eta * masked_sum(kls, mask).item() / len(kls) / target,
            "You move η by the whole error. One batch with twice the target doubles η, and a "
            "negative estimate of the KL turns η negative.",
            "By how much may one noisy batch move η?",
        ),
        Mistake(
            "padding included",
            8,
            lambda eta, kls, mask, target: _moved(eta, kls.sum().item() / len(kls) / target - 1),
            "You add up the padding, too. Its numbers then steer η.",
            "Which positions does the mask select?",
        ),
        Mistake(
            "added instead of multiplied",
            25,
            lambda eta, kls, mask, target: (
                eta - 1 + _moved(1.0, masked_sum(kls, mask).item() / len(kls) / target - 1)
            ),
            "You add the error to η. Then a small η doubles quickly, a large one hardly moves, and "
            "nothing keeps η positive.",
            "Which operation treats η = 0.01 and η = 10 alike?",
        ),
        Mistake(
            "error in nats",
            25,
            lambda eta, kls, mask, target: _moved(
                eta, masked_sum(kls, mask).item() / len(kls) - target
            ),
            "Your error is a difference in nats, not a share of the target.",
            "What is the error relative to?",
        ),
        Mistake(
            "sum over the batch",
            25,
            lambda eta, kls, mask, target: _moved(eta, masked_sum(kls, mask).item() / target - 1),
            "You compare the sum of the whole batch with a target per response.",
            "By how many must the sum be divided?",
        ),
        Mistake(
            "measured the other way round",
            25,
            lambda eta, kls, mask, target: _moved(
                eta, target / (masked_sum(kls, mask).item() / len(kls)) - 1
            ),
            "You divided the target by the KL. Above its target the KL now lowers η.",
            "At KL = target both ratios are 1. Which of them grows with the KL?",
        ),
        Mistake(
            "limited from above only",
            25,
            lambda eta, kls, mask, target: (
                eta * (1 + min(0.1, masked_sum(kls, mask).item() / len(kls) / target - 1))
            ),
            "You limit the error from above only. A batch with a KL near 0 may be wrong, too.",
            "What is the smallest error that you allow?",
        ),
        Mistake(
            "the error alone",
            30,
            lambda eta, kls, mask, target: (
                _moved(eta, masked_sum(kls, mask).item() / len(kls) / target - 1) - eta
            ),
            "You return the change alone. We want the new η.",
            "What should be returned if the error is 0?",
        ),
        Mistake(
            "mean over the padded places",
            25,
            lambda eta, kls, mask, target: _moved(eta, (kls * mask).mean().item() / target - 1),
            "You divide by all places, padding included; and the target is per response.",
            "By how many must the sum be divided?",
        ),
        Mistake(
            "another limit",
            25,
            lambda eta, kls, mask, target: (
                eta
                * (1 + min(0.2, max(-0.2, masked_sum(kls, mask).item() / len(kls) / target - 1)))
            ),
            "Your error is cut at ±0.2. Here it is ±0.1.",
            "By how much may one batch move η?",
        ),
    ),
)

EXERCISES: tuple[Exercise | Choice, ...] = (*_DASHBOARDS, _GAP, _PENALTY, _STEER)
