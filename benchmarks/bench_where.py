"""Where the time of a PPO iteration goes: `python3 course.py bench where`. One torch thread.

PyTorch's profiler measures each operation without the operations that it calls. It adds a little
to every one, so small operations look slower than they are; read the shares, not the milliseconds.
"""

import argparse
import time

import torch
from common import SETTINGS
from ours import make
from torch.profiler import ProfilerActivity, profile

KINDS = {
    "matrix products": ("mm", "addmm", "addmm_", "bmm", "baddbmm"),
    "attention": ("_scaled_dot_product_flash_attention_for_cpu",),
    "GELU": ("gelu",),
    "layer norm": ("native_layer_norm",),
    "Adam": ("_fused_adam_",),
    "copies and fills": ("copy_", "cat", "fill_", "zero_", "index_select"),
    "exp, sums, softmax": ("exp", "exp_", "sum", "amax", "_log_softmax", "cumsum"),
    "adding, scaling": ("add", "add_", "sub", "sub_", "mul", "mul_", "div", "neg"),
}


def kind_of(operation: str) -> str:
    """The kind of an operation, forward or backward."""
    name = operation.removeprefix("aten::").removesuffix("_data").removesuffix("_backward")
    return next((kind for kind, names in KINDS.items() if name in names), "everything else")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("setting", nargs="?", choices=SETTINGS, default="S1")
    name = parser.parse_args().setting
    setting = SETTINGS[name]
    torch.set_num_threads(1)
    iterate, _ = make(setting)
    for _ in range(setting.warm_up):
        iterate()
    start = time.perf_counter()
    for _ in range(setting.iterations):
        iterate()
    plain = (time.perf_counter() - start) / setting.iterations
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        for _ in range(setting.iterations):
            iterate()

    times, calls = dict.fromkeys(KINDS, 0.0), dict.fromkeys(KINDS, 0)
    for event in profiler.key_averages():
        kind = kind_of(event.key)
        times[kind] = times.get(kind, 0.0) + event.self_cpu_time_total / 1e3 / setting.iterations
        calls[kind] = calls.get(kind, 0) + event.count // setting.iterations
    total = sum(times.values())
    print(f"{name}: {1e3 * plain:.1f} ms an iteration, {total:.1f} while being watched")
    for kind, ms in sorted(times.items(), key=lambda item: -item[1]):
        print(f"  {kind:20s}{ms:8.1f} ms{ms / total:6.0%}{calls[kind]:8,d} calls")


if __name__ == "__main__":
    main()
