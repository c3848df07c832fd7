"""Write data.js: what a page needs of the course's world, from the package itself.

A classic script instead of a file to be fetched, because a page opened from a USB stick may not
fetch. π_SFT's weights are exact, and the page reads all responses with them; the reward model's
scores are rounded to 16 bits (an error of at most 3.1e-5), and the gold scores have few values.
"""

import base64
import json
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rlhf_lab import GPT2Config, World, language, load_world
from rlhf_lab.ui import Cockpit, Explorer
from rlhf_lab.ui.charts import chart, to_json
from rlhf_lab.ui.optima import SCORES

SIZES = GPT2Config(vocab_size=14, n_positions=6, n_embd=32, n_layer=2, n_head=2, eos_token_id=0)
"""What engine/sizes.h is written for."""
WASM = Path(__file__).resolve().parent / "engine" / "world.wasm"


def packed(numbers: np.ndarray) -> str:
    """Deflated, all lowest bytes first, which saves a tenth; in base64."""
    planes = numbers.view(np.uint8).reshape(-1, numbers.itemsize).T
    return base64.b64encode(zlib.compress(np.ascontiguousarray(planes).tobytes(), 9)).decode()


def in_steps(scores: np.ndarray) -> dict[str, Any]:
    """65,536 equal steps from the lowest to the highest."""
    low, step = float(scores.min()), float(np.ptp(scores)) / 65535
    return {"low": low, "step": step, "data": packed(np.round((scores - low) / step).astype("<u2"))}


def in_levels(golds: np.ndarray) -> dict[str, Any]:
    """The few values there are, and which of them each response has."""
    levels, index = np.unique(golds, return_inverse=True)
    return {"levels": levels.tolist(), "data": packed(index.astype("<u2"))}


def data(world: World) -> dict[str, Any]:
    """Everything, ready for JSON.

    Raises:
        ValueError: the world has other sizes than the engine.
    """
    if (world.sft.config, language.RESPONSE_LENGTH) != (SIZES, 5):
        raise ValueError(
            f"site/engine/sizes.h is written for {SIZES} and 5 tokens, but the world has "
            f"{world.sft.config} and {language.RESPONSE_LENGTH}: change sizes.h and export.py"
        )
    weights = torch.cat([p.detach().flatten() for p in world.sft.parameters()]).numpy()
    padded = np.zeros(-(-(len(weights) + SIZES.n_embd + 1) // 4) * 4, "<f4")  # the value head's: 0
    padded[: len(weights)] = weights
    tables = [world.tables(prompt) for prompt in language.PROMPTS]
    return {
        "wasm": base64.b64encode(WASM.read_bytes()).decode(),
        "words": language.WORDS,
        "prompts": language.PROMPTS,
        "responses": len(tables[0].scores),
        "policy_size": len(weights),
        "weights": packed(padded),
        "score": [in_steps(t.scores.numpy()) for t in tables],
        "gold": [in_levels(t.golds.numpy()) for t in tables],
        "explorer": Explorer(world).constants,
        "cockpit": Cockpit(world).constants,
        "charts": {
            prompt: {score: to_json(chart(world, prompt, score)) for score in SCORES}
            for prompt in language.PROMPTS
        },
    }


def script(world: World) -> str:
    """data.js."""
    return f"window.RLHF_DATA = {json.dumps(data(world), separators=(',', ':'))};\n"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(script(load_world()), encoding="utf-8")
