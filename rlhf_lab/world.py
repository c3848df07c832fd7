"""Review world assembled: the language, π_SFT, the reward model, and their exact tables.

`load_world()` reads the weights that ship with the package; `build_world(seed)` makes such a world
from nothing in seconds. Nothing is downloaded, nothing is pickled, and nothing is planted: the
reward model is mostly right where π_SFT speaks and no better than a coin where it does not, because
it was trained on what π_SFT says.
"""

import copy
import dataclasses
import functools
import os
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import ClassVar, NamedTuple, Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from rlhf_lab import exact, language, table_cache
from rlhf_lab._checks import require, takes
from rlhf_lab._require import require_device, require_ids
from rlhf_lab.files import write_whole
from rlhf_lab.gpt2 import GPT2, GPT2Config, ScalarHead
from rlhf_lab.pretrain import response_scores, train_reward_model, train_sft
from rlhf_lab.sampling import Sample, sample
from rlhf_lab.tree import logits_tables, score_tables

SEED = 2
"""Of the world that ships with the package: chosen because its gold score soon falls below π_SFT's.
In the other eleven of docs/worlds.md, built the same way, it does so at a smaller η, or not down to
η = 0.005."""
MODEL = GPT2Config(
    vocab_size=len(language.WORDS),
    n_positions=1 + language.RESPONSE_LENGTH,
    n_embd=32,
    n_layer=2,
    n_head=2,
    eos_token_id=language.EOS_ID,
)


class WorldTables(NamedTuple):
    """One prompt's exact numbers, float64; N responses in the order of `exact.flatten`."""

    tree: list[Tensor]
    """log π_SFT(word | prefix), T tables."""
    ref_logprobs: Tensor
    """log π_SFT(y), (N,)."""
    scores: Tensor
    """The reward model's score, (N,)."""
    golds: Tensor
    """The gold score, (N,)."""


@dataclasses.dataclass(frozen=True, eq=False)
class World:
    """π_SFT and a reward model for review world; a `rlhf_lab.Task`.

    >>> world = load_world()
    >>> len(world.tables("food").scores)
    402234
    """

    sft: GPT2
    reward_trunk: GPT2
    reward_head: ScalarHead
    prompts: Tensor
    """(n, 1)."""
    response_length: ClassVar[int] = language.RESPONSE_LENGTH
    eos_id: ClassVar[int] = language.EOS_ID
    _on_disk: bool = dataclasses.field(default=False, repr=False, kw_only=True)
    """Does it share its tables with other processes of this machine (`rlhf_lab.table_cache`)?"""
    _cache: dict[str, WorldTables] = dataclasses.field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        for name, kind in {"sft": GPT2, "reward_trunk": GPT2, "reward_head": ScalarHead}.items():
            require(name, getattr(self, name), kind)
        require("prompts", self.prompts, "integers (n, 1)")
        require_ids("prompts", self.prompts, len(language.WORDS))
        for module in (self.sft, self.reward_trunk, self.reward_head):
            module.requires_grad_(False)

    @takes(prompts="integers (B, P)", responses="integers (B, T)")
    def score(self, prompts: Tensor, responses: Tensor) -> Tensor:
        """The reward model's scalar, mean 0 and std 1 under π_SFT: (B, 1), (B, T) -> (B,)."""
        return response_scores(self.reward_trunk, self.reward_head, prompts, responses)

    @takes(prompts="integers (B, P)", responses="integers (B, T)")
    def gold(self, prompts: Tensor, responses: Tensor) -> Tensor:
        """The gold score, for measuring only: (B, P), of which the first counts, (B, T) -> (B,)."""
        return language.gold_scores(prompts[:, 0], responses)

    @takes(word=str)
    def prompt(self, word: str) -> Tensor:
        """The token of a prompt, (1,).

        Raises:
            ValueError: it is not a prompt of this world.
        """
        if word not in language.PROMPTS:
            raise ValueError(f"{word!r} is not a prompt; choose one of {language.PROMPTS}")
        return torch.tensor(language.encode(word), device=self.prompts.device)

    @takes(prompt=str, n="count 1..1000000", generator="generator", policy=GPT2 | None)
    def sample(
        self, prompt: str, n: int, generator: torch.Generator, policy: GPT2 | None = None
    ) -> Sample:
        """`n` responses of a policy (default: π_SFT) to one prompt."""
        return sample(
            policy or self.sft, self.prompt(prompt).expand(n, 1), self.response_length,
            generator=generator, eos_id=self.eos_id,
        )  # fmt: skip

    @takes(prompt=str)
    def tables(self, prompt: str) -> WorldTables:
        """Everything about one prompt, exact; computed once and kept.

        Those of the world that ships are also kept on disk. They lie there until the models, the
        code, torch or the kind of processor change, and a change that you make to a table stays
        in your process.
        """
        if prompt not in self._cache:
            path = self._file(prompt) if self._on_disk else None
            named = table_cache.cached(path, lambda: _by_name(self._computed(prompt)))
            self._cache[prompt] = _from_names(named)
        return self._cache[prompt]

    def _file(self, prompt: str) -> Path | None:
        models = {"sft": self.sft, "trunk": self.reward_trunk, "head": self.reward_head}
        self.prompt(prompt)  # refuses a word that is none
        return table_cache.file_of(prompt, models)

    @torch.no_grad()
    def _computed(self, prompt: str) -> WorldTables:
        tokens = self.prompt(prompt)
        tree = policy_tables(self.sft, tokens, self.response_length)
        scores = exact.flatten(
            score_tables(self.reward_trunk, self.reward_head, tokens, self.response_length)
        ).double()
        responses = _responses().to(tokens.device)
        golds = language.gold_scores(tokens.expand(len(scores)), responses)
        return WorldTables(tree, exact.sequence_logprobs(tree), scores, golds)

    @takes(policy=GPT2, prompt=str)
    def logprobs(self, policy: GPT2, prompt: str) -> Tensor:
        """log π(y) of every response to a prompt, (N,), float64; differentiable.

        The policy may live on another device than the world; the answer is on the world's.
        """
        if policy.config.vocab_size != len(language.WORDS):
            raise ValueError(
                f"policy has {policy.config.vocab_size} tokens; review world has "
                f"{len(language.WORDS)}"
            )
        tokens = self.prompt(prompt).to(policy.transformer.wte.weight.device)
        tables = policy_tables(policy, tokens, self.response_length)
        return exact.sequence_logprobs(tables).to(self.prompts.device)

    @takes(policy=GPT2, prompt=str)
    def evaluate(self, policy: GPT2, prompt: str) -> exact.Evaluation:
        """E[score], E[gold], KL(π ‖ π_SFT) and H(π) over every response to a prompt."""
        _, ref_logprobs, scores, golds = self.tables(prompt)
        return exact.evaluate(self.logprobs(policy, prompt), ref_logprobs, scores, golds)

    @takes(logprobs="distribution (N,)", k="count")
    def top(self, logprobs: Tensor, k: int = 5) -> list[tuple[str, float, int]]:
        """The k most probable responses: text, probability, and number among all responses."""
        N = len(_responses())
        if len(logprobs) != N or k > N:
            raise ValueError(
                f"logprobs must have shape (N,) = ({N},), one number per response, got "
                f"({len(logprobs)},), and k must lie in 1..{N}, got {k}"
            )
        best = logprobs.topk(k)
        return [
            (response_text(i), p, i)
            for i, p in zip(best.indices.tolist(), best.values.exp().tolist(), strict=True)
        ]

    def to(self, device: torch.device, dtype: torch.dtype) -> Self:
        """A copy on another device or in another precision."""
        device = require_device(device)
        if not isinstance(dtype, torch.dtype) or dtype not in (torch.float32, torch.float64):
            raise ValueError(f"dtype must be torch.float32 or torch.float64, got {dtype}")
        return type(self)(
            copy.deepcopy(self.sft).to(device, dtype),
            copy.deepcopy(self.reward_trunk).to(device, dtype),
            copy.deepcopy(self.reward_head).to(device, dtype),
            self.prompts.to(device),
        )

    @takes(directory=str | os.PathLike)
    def save(self, directory: str | Path) -> None:
        """Write `sft/` and `reward/` as Hugging Face folders, and the reward head beside them."""
        directory = Path(directory)
        self.sft.save_pretrained(directory / "sft")
        self.reward_trunk.save_pretrained(directory / "reward")
        head = {name: t.detach().cpu() for name, t in self.reward_head.state_dict().items()}
        write_whole(directory / "reward_head.safetensors", save(head))


@takes(policy=GPT2, prompt="integers (P,)", depth="count 1..10000", result="finite")
def policy_tables(policy: GPT2, prompt: Tensor, depth: int) -> list[Tensor]:
    """log π(word | prefix) at every prefix, T tables, float64."""
    return [t.double().log_softmax(dim=1) for t in logits_tables(policy, prompt, depth)]


@takes(index="count 0..")
def response_text(index: int) -> str:
    """The text of response number `index`."""
    if index >= len(_responses()):
        raise ValueError(f"index must lie in 0..{len(_responses()) - 1}, got {index}")
    return language.decode(_responses()[index])


@functools.cache
def _responses() -> Tensor:
    return exact.enumerate_responses(len(language.WORDS), language.RESPONSE_LENGTH)


@functools.cache
def load_world() -> World:
    """The world that ships with the package: one object per process, with its tables."""
    world = read_world(Path(str(resources.files("rlhf_lab") / "weights")))
    return dataclasses.replace(world, _on_disk=True)


def keep_tables() -> bool:
    """Make the tables of the world that ships, unless they are on disk; are they there now?"""
    world = dataclasses.replace(load_world())  # one that has not asked for its tables yet
    for prompt in language.PROMPTS:
        world.tables(prompt)
    paths = [world._file(prompt) for prompt in language.PROMPTS]
    return all(path is not None and table_cache.read(path) is not None for path in paths)


@takes(directory=str | os.PathLike)
def read_world(directory: str | Path) -> World:
    """Load what `World.save` wrote.

    Raises:
        ValueError: the folder is incomplete, or its models do not speak this language.
    """
    directory = Path(directory)
    sft, trunk = (GPT2.from_pretrained(directory / name) for name in ("sft", "reward"))
    head = ScalarHead(trunk.config.n_embd)
    try:
        head.load_state_dict(load_file(directory / "reward_head.safetensors"))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise ValueError(
            f"{directory}: reward_head.safetensors is missing or broken ({error})"
        ) from error
    for model in (sft, trunk):
        if model.config.vocab_size != len(language.WORDS):
            raise ValueError(
                f"{directory} holds a model of {model.config.vocab_size} tokens; "
                f"review world has {len(language.WORDS)}"
            )
    return World(sft, trunk, head, _prompts())


@takes(seed="count 0..")
def build_world(seed: int = SEED) -> World:
    """Make a world from nothing: corpus, π_SFT, preferences, reward model.

    The reward model is trained on 8,000 pairs sampled from π_SFT, each decided by a noisy reader
    who prefers a over b with probability σ((gold(a) − gold(b)) / 2), and is then scaled to mean 0
    and std 1 under π_SFT: exactly, over all responses.

    Args:
        seed: of the one generator that everything is drawn from.
    """
    generator = torch.Generator().manual_seed(seed)
    prompts, responses = language.corpus(20_000, generator)
    sft = train_sft(MODEL, prompts.unsqueeze(1), responses, steps=400, generator=generator)
    asked = _prompts().repeat(4_000, 1)  # (8000, 1)
    a, b = (
        sample(
            sft, asked, language.RESPONSE_LENGTH, generator=generator, eos_id=language.EOS_ID
        ).responses
        for _ in range(2)
    )
    better = language.gold_scores(asked[:, 0], a) - language.gold_scores(asked[:, 0], b)
    prefers_a = (
        torch.rand(len(asked), generator=generator, dtype=torch.float64) < (better / 2).sigmoid()
    )
    chosen = torch.where(prefers_a.unsqueeze(1), a, b)
    rejected = torch.where(prefers_a.unsqueeze(1), b, a)
    trunk, head = train_reward_model(sft, asked, chosen, rejected, steps=800, generator=generator)
    world = World(sft, trunk, head, _prompts())
    _standardise(world)
    return world


def _by_name(tables: WorldTables) -> dict[str, Tensor]:
    named = tables._asdict()
    return {**{f"tree.{t}": table for t, table in enumerate(named.pop("tree"))}, **named}


def _from_names(named: Mapping[str, Tensor]) -> WorldTables:
    rest = dict(named)
    return WorldTables([rest.pop(f"tree.{t}") for t in range(language.RESPONSE_LENGTH)], **rest)


def _prompts() -> Tensor:
    return torch.tensor([language.encode(word) for word in language.PROMPTS])


def _standardise(world: World) -> None:
    """Give the scores mean 0 and variance 1 under π_SFT by rescaling the reward head."""
    tables = [world.tables(prompt) for prompt in language.PROMPTS]
    p = torch.cat([t.ref_logprobs.exp() for t in tables]) / len(tables)
    scores = torch.cat([t.scores for t in tables])
    mean = p @ scores
    std = (p @ (scores - mean).square()).sqrt()
    summary = world.reward_head.summary
    summary.weight.div_(std)
    summary.bias.sub_(mean).div_(std)
    world._cache.clear()
