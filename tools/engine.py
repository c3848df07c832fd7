"""Compile site/engine/world.c, or with --check: say whether world.wasm is what it compiles to.

ziglang is a C compiler from PyPI. The same version makes the same bytes on every machine.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

ENGINE = Path(__file__).resolve().parent.parent / "site" / "engine"
FLAGS = [
    "-target", "wasm32-freestanding", "-mcpu=generic+simd128+bulk_memory", "-O3",
    "-Wall", "-Wextra", "-Werror", "-nostdlib", "-ffreestanding", "-fvisibility=hidden",
    "-fno-builtin-memset", "-fno-builtin-memcpy",  # maths.h has them, and must not call itself
    "-ffp-contract=off",  # a·b + c is rounded twice, as in torch
    "-fno-math-errno", "-Wl,--no-entry", "-Wl,--strip-all",
]  # fmt: skip


def main(args: list[str]) -> int:
    committed = ENGINE / "world.wasm"
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "world.wasm"
        command = [sys.executable, "-m", "ziglang", "cc", *FLAGS, "-o", str(made), "world.c"]
        if code := subprocess.call(command, cwd=ENGINE):
            return code
        if "--check" not in args:
            committed.write_bytes(made.read_bytes())
        elif committed.read_bytes() != made.read_bytes():
            print(
                "site/engine/world.wasm is not what world.c compiles to: python3 course.py engine"
            )
            return 1
    print(f"site/engine/world.wasm: {committed.stat().st_size:,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
