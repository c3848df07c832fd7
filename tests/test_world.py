"""Review world: the weights that ship are what the code builds, and the stories hold in numbers."""

import shutil

import pytest
import torch

from rlhf_lab import build_world, language, load_world
from rlhf_lab.report import metrics, optimum_logprobs, policy_logprobs
from rlhf_lab.world import read_world


@pytest.fixture(scope="module")
def world():
    return load_world()


@pytest.fixture(scope="module")
def rebuilt():
    return build_world()


def test_tables_cover_the_language(world):
    for prompt in language.PROMPTS:
        tree, ref_logprobs, scores, golds = world.tables(prompt)
        assert len(ref_logprobs) == len(scores) == len(golds) == 402_234
        assert [len(table) for table in tree] == [13**t for t in range(5)]
        torch.testing.assert_close(ref_logprobs.exp().sum().item(), 1.0, rtol=0, atol=1e-10)


def test_a_table_entry_is_what_the_models_say_of_that_response(world):
    """The route through the tree against one plain forward pass per response."""
    prompt, batch = "staff", world.sample("staff", 50, torch.Generator().manual_seed(0))
    prompts = world.prompt(prompt).expand(50, 1)
    best = {text: i for text, _, i in world.top(world.tables(prompt).ref_logprobs, 20_000)}
    rows = [best.get(language.decode(response)) for response in batch.responses]
    known = [(row, i) for row, i in enumerate(rows) if i is not None]
    assert len(known) > 25
    mine, entries = torch.tensor(known).T
    table = world.tables(prompt)
    logprobs = (batch.logprobs * batch.mask).sum(1)[mine].double()
    torch.testing.assert_close(table.ref_logprobs[entries], logprobs, atol=1e-4, rtol=0)
    scores = world.score(prompts, batch.responses)[mine].double()
    torch.testing.assert_close(table.scores[entries], scores, atol=1e-4, rtol=0)
    golds = world.gold(prompts, batch.responses)[mine]
    torch.testing.assert_close(table.golds[entries], golds)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["world", "rebuilt"])
def test_scores_have_mean_0_and_std_1_under_sft(name, request):
    world = request.getfixturevalue(name)
    tables = [world.tables(prompt) for prompt in language.PROMPTS]
    p = torch.cat([t.ref_logprobs.exp() for t in tables]) / 2
    scores = torch.cat([t.scores for t in tables])
    assert (p @ scores).item() == pytest.approx(0, abs=1e-4)
    assert (p @ scores.square()).item() == pytest.approx(1, abs=1e-4)


@pytest.mark.slow
def test_shipped_weights_are_what_the_code_builds(world, rebuilt):
    """Bit for bit on the kind of processor they were built on. Another kind rounds differently:
    there π_SFT still agrees to 1e-5 nats (another seed's is 0.012 or more away), but training a
    reward model on noisy preferences is chaotic, and the mean square difference of the scores was
    0.17 to 0.19, hardly less than another seed's 0.23 to 0.27. A reward model trained on other
    preferences is far outside: 2 if they are random, 4 if they are reversed."""
    for prompt in language.PROMPTS:
        a, b = world.tables(prompt), rebuilt.tables(prompt)
        p = a.ref_logprobs.exp()
        assert (p @ (a.ref_logprobs - b.ref_logprobs)).item() < 0.002
        assert (p @ (a.scores - b.scores).square()).item() < 0.5


def test_the_reward_model_is_right_where_sft_speaks(world):
    for prompt in language.PROMPTS:
        t = world.tables(prompt)
        p = t.ref_logprobs.exp()
        score, gold = t.scores - p @ t.scores, t.golds - p @ t.golds
        correlation = (p @ (score * gold)) / ((p @ score**2) * (p @ gold**2)).sqrt()
        assert correlation > 0.75  # the rest is word salad, of which it saw little


def at(world, eta, beta=0.0):
    return metrics(world, optimum_logprobs(world, eta, beta))


def test_goodhart_the_gold_score_turns_while_the_score_rises(world):
    etas = (5, 2, 1, 0.5, 0.3, 0.2, 0.1, 0.05, 0.03, 0.02, 0.01)
    points = [at(world, eta) for eta in etas]
    scores, golds = [p.score for p in points], [p.gold for p in points]
    assert scores == sorted(scores)
    peak = golds.index(max(golds))
    assert 2 < peak < len(etas) - 3
    assert max(golds) - golds[-1] >= 2


def test_eta_keeps_diversity_and_beta_alone_is_word_salad(world):
    reference = metrics(world, {p: world.tables(p).ref_logprobs for p in language.PROMPTS})
    held = at(world, 0.3)
    assert held.entropy > 2
    assert held.gold > reference.gold + 1.5
    for beta in (0.05, 0.1, 0.2, 0.5, 1.0):
        salad = at(world, 0.0, beta)
        assert salad.gold < -1.9
        assert salad.kl > 10
        assert salad.entropy > held.entropy


def test_without_any_leash_the_optimum_is_one_hacked_sentence(world):
    collapsed = at(world, 0.0)
    assert collapsed.entropy == 0
    assert collapsed.gold == -2.0
    best = [world.tables(prompt).scores.max().item() for prompt in language.PROMPTS]
    assert collapsed.score == pytest.approx(sum(best) / len(best))


@pytest.mark.slow
def test_ppo_collapses_without_a_leash_and_stays_varied_with_one(world):
    from rlhf_lab import PPOConfig, Trainer

    trained = {}
    for eta in (0.0, 0.3):
        trainer = Trainer(world, PPOConfig(eta=eta, iterations=100))
        for _ in range(100):
            stats = trainer.step()
        trained[eta] = stats, metrics(world, policy_logprobs(world, trainer.policy))
    (free, free_exact), (held, held_exact) = trained[0.0], trained[0.3]
    assert free.distinct <= 12
    assert free.top_share > 0.85
    assert free_exact.entropy < 1
    assert held.distinct >= 15
    assert held_exact.entropy > 1.5
    assert held_exact.gold > 1.5


def test_a_saved_world_is_read_back(world, tmp_path):
    world.save(tmp_path)
    again = read_world(tmp_path)
    prompts = world.prompt("food").expand(4, 1)
    batch = world.sample("food", 4, torch.Generator().manual_seed(1))
    assert torch.equal(world.score(prompts, batch.responses), again.score(prompts, batch.responses))


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda f: shutil.rmtree(f / "sft"), "is no GPT-2 folder"),
        (lambda f: (f / "reward_head.safetensors").unlink(), "reward_head.safetensors is missing"),
        (lambda f: (f / "reward_head.safetensors").write_bytes(b"x"), "missing or broken"),
    ],
)
def test_an_incomplete_world_is_named(world, tmp_path, break_it, message):
    world.save(tmp_path)
    break_it(tmp_path)
    with pytest.raises(ValueError, match=message):
        read_world(tmp_path)


def test_unknown_prompt(world):
    with pytest.raises(ValueError, match="'soup' is not a prompt; choose one of"):
        world.tables("soup")
