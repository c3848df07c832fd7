"""The questions of notebook 09: what a ratio and a loss can tell."""

from rlhf_lab.exercises.exercise import Choice, Mistake

LOSS_ZERO = Choice(
    name="loss_zero",
    section="09_the_ppo_loop: What the loss does not tell",
    minutes=2,
    answer="c",
    reason="Ratio 1 times advantages of mean 0 is 0, whatever the policy is worth; each token's "
    "gradient is its own advantage, and those are not 0.",
    mistakes=(
        Mistake(
            "nothing is learned",
            27,
            "a",
            "A step follows the gradient, not the loss. The cell above printed both.",
            "Two numbers add up to 0: are they 0?",
        ),
        Mistake(
            "advantages are zero",
            27,
            "b",
            "Their mean is 0, by whitening. If all were 0 the gradient would be 0 too.",
            "What does whitening set to 0: the advantages or their mean?",
        ),
        Mistake(
            "converged",
            27,
            "d",
            "The loss is 0 at the first step of every rollout, of the first as of the last one.",
            "What was the loss before any training?",
        ),
    ),
)

DROPOUT = Choice(
    name="dropout_ratio",
    section="09_the_ppo_loop: What holds before the first step",
    minutes=2,
    answer="b",
    reason="The same weights answer differently each time: the ratio compares two random "
    "sub-networks, and the clip acts on noise before anything was learned.",
    mistakes=(
        Mistake(
            "the policy has learned",
            5,
            "a",
            "No gradient step has been taken: the weights are those that sampled.",
            "How many steps lie between the two forward passes?",
        ),
        Mistake(
            "rounding",
            5,
            "c",
            "Rounding moves a ratio by 1e-6 in float32, not by several per cent.",
            "How large is the deviation that was printed?",
        ),
        Mistake(
            "the reference has moved",
            22,
            "d",
            "π_ref does not occur in PPO's ratio at all: that is π/π_old. And it is frozen.",
            "Which two policies does the ratio compare?",
        ),
    ),
)
