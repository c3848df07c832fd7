"""The answers of all predictions, out of the students' sight: for `reveal` and a teacher's key."""

from typing import NamedTuple


class Answer(NamedTuple):
    """What is right, and why."""

    right: int | None
    """Which of the choices, from 0; None where a cell of the notebook computes the answer."""
    reason: str
    """One sentence for teachers."""


ANSWERS = {
    "00_different": Answer(
        None,
        "Nothing but the score counts, so the policy says nearly always the one review that "
        "scores highest of those it has tried.",
    ),
    "00_reader": Answer(
        1,
        "At first a higher score is a better review; then the policy finds a sentence that the "
        "reward model likes by mistake.",
    ),
    "00_leash": Answer(
        None,
        "The penalty makes it costly to say one review much more often than π_SFT does, so "
        "several good ones share the probability.",
    ),
    "01_first_token": Answer(
        2, "With γ = 1 the return of every token is all that is still to come: the whole score."
    ),
    "01_value_error": Answer(
        None, "The scores have a standard deviation of about 1, and the mean of n has std / √n."
    ),
    "01_constant": Answer(
        1,
        "With a critic of 0 and λ < 1 <eos>, where it comes, is paid more than a word that goes "
        "on, and whitening makes the difference count.",
    ),
    "02_agree": Answer(
        None,
        "The wrong labels point in no direction, so they average out, and the fitted model is "
        "more often right than its teacher.",
    ),
    "02_triple": Answer(
        2, "Only r/η counts, so three times the score acts as a third of the η: a longer leash."
    ),
    "02_random_words": Answer(
        None,
        "About text that π_SFT never writes the reward model has learned nothing, so it is "
        "right about half of the time.",
    ),
    "03_peak": Answer(
        2,
        "At η = 0.06 one review of food in nine is a trick, but only one of staff in 46: there the "
        "gold score still rises, and is highest.",
    ),
    "03_tricks": Answer(
        None,
        "π* multiplies by e^(r/η)/Z, and the tricks score highest: their probability grows from "
        "1 in 7,140 to nearly a third, while the other reviews stay good.",
    ),
    "03_clip": Answer(
        None,
        "A trick can now only tie with the best common reviews, and of equal scores π* keeps the "
        "proportions of π_SFT, which hardly ever says a trick.",
    ),
    "03_best_of_4096": Answer(
        None,
        "Among 4,096 reviews there is often one that the reward model overrates, and it wins the "
        "round.",
    ),
    "04_kl": Answer(
        None,
        "Scores have a ceiling: a policy that says mostly the best reviews of π_SFT has little "
        "left to buy with more nats.",
    ),
    "04_spread": Answer(
        2,
        "If one review had a higher total than another under π*, saying it more often would raise "
        "J, and π* would not be the best.",
    ),
    "04_gap": Answer(
        None,
        "With η = 0.3 the gap is wide in units of score, so thirty iterations close most of it, "
        "although the noise of 128 reviews keeps the policy some 0.2 nats from π*.",
    ),
    "05_negative": Answer(
        None,
        "π must say less often whatever it does not say more often; near home that is nearly half "
        "of what it writes.",
    ),
    "05_minimum": Answer(
        None,
        "π is short, so it says long reviews more rarely than π_SFT does: k1 is negative on most "
        "of what is sampled, although KL(π ‖ π_SFT) is 1.89.",
    ),
    "05_spread": Answer(
        None,
        "Far from home k3 contains π_SFT/π, which is huge for reviews that π has nearly given up.",
    ),
    "06_home": Answer(
        3,
        "In the reward only k1 has the gradient of the KL: from many starts abs and mse push down "
        "the rare word, and full is the same for every word of a place.",
    ),
    "06_scale": Answer(
        2,
        "The controller moves η until the KL is at its target, and the optimum depends on r/η "
        "only, so η grows tenfold, too.",
    ),
    "07_sampled": Answer(
        2,
        "The mean of ∇log π(a) over a ~ π is the gradient of the sum of all probabilities, which "
        "is always 1.",
    ),
    "07_flatter": Answer(
        1,
        "The penalty pulls the entropy to that of π_SFT, from above as well as from below.",
    ),
    "07_empty": Answer(
        2,
        "The entropy of whole reviews is highest if all 402,234 of them are equally likely, and "
        "one of them is the empty one.",
    ),
    "07_alone": Answer(
        1,
        "Fewer than one review in a hundred is grammatical, so variety without π_SFT is word "
        "salad at any β.",
    ),
    "07_border": Answer(
        2,
        "Whitening divides what the score gives by σ_A, the spread of the advantages, but not the "
        "bonus in the loss. So β counts as β·σ_A, and here σ_A is below 1.",
    ),
    "08_ties": Answer(
        2,
        "The gradient of a logit has the factor π(a), so what is said more often is pushed harder "
        "although it deserves no more.",
    ),
    "08_luck": Answer(
        None,
        "Whatever is said is reinforced and nothing pushes back, so chance carries nearly every "
        "run to one side.",
    ),
    "08_trap": Answer(
        None,
        "A policy that starts at 10 % A says B more often, and makes it likelier still; in about "
        "a quarter of the runs A dies before it is said often enough.",
    ),
    "08_equal": Answer(
        2,
        "The critic is never exactly right, and whitening makes whatever it gets wrong as large as "
        "any signal, so PPO moves although there is nothing to learn.",
    ),
    "08_clip": Answer(
        3,
        "The lower bound protects what is falling and the upper one holds rare answers down, so "
        "the best is a lower bound with a wide upper one.",
    ),
    "08_late": Answer(
        1,
        "The penalty makes every word of the salad expensive, so the policy goes home; the bonus "
        "only makes it say anything at all.",
    ),
    "09_distance": Answer(
        None,
        "The clip and the four small steps keep each iteration short; thirty of them make the "
        "long way.",
    ),
    "09_loss": Answer(
        1,
        "With ratio 1 the loss is minus the mean of the advantages, and whitening made that 0.",
    ),
    "09_batch": Answer(
        1,
        "Near the optimum the noise of a batch decides, and four times the reviews halve the "
        "noise of a mean.",
    ),
    "09_broken": Answer(
        0,
        "A clip around π_ref holds the whole run there. With old_logprobs computed anew no clip "
        "acts, but these steps are so small that it would hardly have acted anyway.",
    ),
    "10_silent": Answer(
        None,
        "Three mistakes change so little in this language that none of five curves leaves the "
        "range of clean runs.",
    ),
    "10_better": Answer(
        None,
        "A trainer with a weaker leash scores higher than the clean one, and its regret is ten "
        "times as large.",
    ),
    "10_strongest": Answer(
        None,
        "“Update is ∇J” sees everything that enters the first update: rewards, advantages, loss "
        "and masks.",
    ),
    "11_mean": Answer(
        0,
        "The other scores know nothing of a response, so their mean is a baseline, and baselines "
        "have no mean force.",
    ),
    "11_gap": Answer(
        None,
        "Dividing by the spread of the group leaves only who is better, not by how much, as long "
        "as the spread is well above 0.0001.",
    ),
    "11_hundred": Answer(
        1,
        "Divided by the spread of its group a score has no size, so the factor moves only RLOO.",
    ),
    "11_size": Answer(
        None,
        "GRPO's push is at most (G − 1)/√G, so it is the group size that holds the balance "
        "against η.",
    ),
    "11_rest": Answer(
        None,
        "In the loss each word pays for itself alone, and the worth of a path is not reduced by "
        "what the path costs.",
    ),
    "11_tear": Answer(
        None,
        "In the reward the first word weighs the whole gain against the whole bill; in the loss "
        "the last word alone decides, and that pays much sooner.",
    ),
    "11_sampled": Answer(
        0,
        "What leads to the salad is hardly ever said, and an ordinary gradient hardly moves it. "
        "This holds the run; the leash does not.",
    ),
    "11_length": Answer(
        1,
        "The longer a wrong answer is, the less each of its tokens pays.",
    ),
    "11_clip": Answer(
        2,
        "With one gradient step per rollout every ratio is 1, in the middle of any band.",
    ),
    "12_direct": Answer(
        1,
        "The loss is that of a reward model with β·log(π/π_SFT) in the place of the score, and a "
        "reward model finds the score behind Bradley–Terry labels.",
    ),
    "12_sharp": Answer(
        0,
        "Twice as sharp labels have twice the log-odds, and a margin of β·log-ratios explains them "
        "only if the log-ratios double: η = β/s.",
    ),
    "12_certain": Answer(
        2,
        "A margin that is right can always be made a little larger, so each β ends at the best "
        "review alone; β is only a speed.",
    ),
    "12_chosen": Answer(
        None,
        "At π* the implicit reward is r − J*, and the preferred review of an ordinary pair scores "
        "below J*.",
    ),
    "12_few": Answer(
        1,
        "A review that stands in one pair has one label, which is certain, so its log-ratio runs "
        "away: only stopping early holds the policy.",
    ),
    "cockpit_first": Answer(
        1,
        "The policy learns by saying what was paid more often, so H falls from the first update; "
        "gold rises with the score until the policy has left what the reward model knows.",
    ),
    "cockpit_home": Answer(
        None,
        "Under η = 0.3 every review near π_SFT costs less than those that it says, so the policy "
        "comes home, by way of word salad.",
    ),
    "cockpit_stirred": Answer(
        None,
        "The bonus pays for saying different things, not for sensible ones, so only H rises.",
    ),
    "cockpit_held": Answer(
        None,
        "The leash keeps the policy where judge and readers agree; the rescued one ends there.",
    ),
}
"""By the name of the question."""
