"""course.py and other scripts of the repository as modules; several test files use them."""

import importlib.util
import sys
import types
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT / "tools"))  # they import each other


def load(path: str) -> types.ModuleType:
    """A file of Python as a module, wherever it lies."""
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


course = load("course.py")
