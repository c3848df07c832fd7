"""The questions of notebook 07: what the entropy of one word is good for, and what β does alone."""

from rlhf_lab.exercises.exercise import Choice, Mistake

SAMPLED = Choice(
    name="sampled_entropy",
    section="07_entropy_bonus: Loss − β·H",
    minutes=3,
    answer="b",
    reason="Its mean is H, so it is a fair number to watch. As a reward it stands before ∇log π, "
    "and the mean of that product is ∇H. As a loss its mean gradient is 0.",
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

ALONE = Choice(
    name="beta_alone",
    section="07_entropy_bonus: What is commonly said",
    minutes=3,
    answer="c",
    reason="With η = 0 nothing in exp(r/β) knows which reviews people write. The optimum is "
    "varied, and nearly all that there is to vary among is word salad.",
    mistakes=(
        Mistake(
            "varied and sensible",
            26,
            "a",
            "β pays for variety, not for sense. Only π_SFT knows the grammar, and η = 0 mutes it.",
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
