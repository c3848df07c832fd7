"""site/engine/world.wasm as a page loads it, without a browser: the same bytes, run by wasmtime."""

import ctypes
from pathlib import Path
from typing import Any

import numpy as np
import torch
import wasmtime

from rlhf_lab import PPOConfig, World, language
from rlhf_lab.trainer import StepStats

ENGINE = Path(__file__).parents[1] / "site" / "engine"
CONFIG = [
    "eta", "beta", "lr", "adam_eps", "cliprange", "cliprange_value", "vf_coef", "gamma", "lam",
    "batch_size", "epochs",
]  # fmt: skip
STATS = [*StepStats._fields[3:], "gold", "nodes"]  # without the iteration and its settings
RESPONSES, T, MAX_BATCH = 402_234, language.RESPONSE_LENGTH, 256


class Engine:
    """The engine with a world's weights and tables, as exact as float32 can hold them."""

    def __init__(self, world: World) -> None:
        self.store = wasmtime.Store()
        module = wasmtime.Module(self.store.engine, (ENGINE / "world.wasm").read_bytes())
        assert not module.imports  # it needs nothing of its page
        self.exports = wasmtime.Instance(self.store, module, []).exports(self.store)
        self.memory = self.exports["memory"]
        self.places = {
            self._text(self.call("place_name", i)): (
                self.call("place_at", i),
                self.call("place_bytes", i),
            )
            for i in range(self.call("place_count"))
        }
        weights = torch.cat([p.flatten() for p in world.sft.parameters()]).numpy()
        self.view("sft", "f4")[: len(weights)] = weights
        for i, prompt in enumerate(language.PROMPTS):
            tables = world.tables(prompt)
            self.view("scores", "f4").reshape(2, -1)[i, :RESPONSES] = tables.scores.numpy()
            self.view("golds", "f4").reshape(2, -1)[i, :RESPONSES] = tables.golds.numpy()
            self.call("read_reference", i)
        self.call("start")

    def call(self, name: str, *args: float) -> Any:
        return self.exports[name](self.store, *args)

    def view(self, name: str, dtype: str) -> np.ndarray:
        """The engine's own memory, as one row of numbers."""
        at, size = self.places[name]
        base = ctypes.addressof(self.memory.data_ptr(self.store).contents)
        return np.frombuffer((ctypes.c_char * size).from_address(base + at), dtype)

    def _text(self, at: int) -> str:
        return bytes(self.memory.read(self.store, at, at + 32)).split(b"\0")[0].decode()

    def configure(self, config: PPOConfig) -> None:
        self.view("config", "f8")[:] = [float(getattr(config, name)) for name in CONFIG]

    def stats(self) -> dict[str, float]:
        return dict(zip(STATS, self.view("stats", "f8").tolist(), strict=True))

    def uniforms(self, generator: torch.Generator, batch: int) -> None:
        drawn = torch.rand(T, batch, generator=generator, dtype=torch.float64)
        self.view("uniforms", "f8").reshape(T, MAX_BATCH)[:, :batch] = drawn.numpy()
