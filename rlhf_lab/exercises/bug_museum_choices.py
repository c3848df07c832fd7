"""The questions of notebook 10: which bug does this dashboard belong to?"""

from rlhf_lab.exercises.exercise import Choice, Mistake

_SECTION = "10_bug_museum: Read the dashboards"

CHOICES = (
    Choice(
        name="exhibit_a",
        section=_SECTION,
        minutes=3,
        answer="b",
        reason="The reference moves along: each rollout is compared with the policy before the "
        "last update, so log-ratio and penalty stay 0 while the policy goes anywhere it likes.",
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
                "distance from π_SFT, and that KL would rise for all to see.",
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
        section=_SECTION,
        minutes=3,
        answer="c",
        reason="The sign is turned: the trainer pays η for every nat of distance, and logs the "
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
        section=_SECTION,
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
                "What did the clip mean to limit: distance from which policy?",
            ),
        ),
    ),
    Choice(
        name="exhibit_k",
        section=_SECTION,
        minutes=3,
        answer="a",
        reason="Padding counts: every response is 4 tokens long by definition, and what π says "
        "of the padding enters the KL, which is therefore not KL(π ‖ π_SFT).",
        mistakes=(
            Mistake(
                "score on every token",
                11,
                "b",
                "Pay for every token makes responses long too, and takes the score far above the "
                "clean run's. Its logged KL would be the true one.",
                "Is the length of 4.00 something the policy does, or something the log counts?",
            ),
            Mistake(
                "score in the last column",
                9,
                "c",
                "A score that waits in the last column makes the policy speak until there. But "
                "then its log would be true: solid and dashed KL would agree.",
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
        section=_SECTION,
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
                "Then the KL would come to rest near 3 nats. It rests near 6.",
                "1.5 nats per what?",
            ),
        ),
    ),
)
