"""Runs the files of the front end without a browser, in V8, as the page runs them."""

import json

import numpy as np
from py_mini_racer import MiniRacer

from rlhf_lab.ui.charts import front_file

CALL = "JSON.stringify({}, (_, x) => typeof x === 'number' && !Number.isFinite(x) ? String(x) : x)"


class Scripts:
    """A page without a page: some of the front end's files, loaded in order."""

    def __init__(self, *names):
        self.v8 = MiniRacer()
        self.v8.eval("".join(front_file(name) for name in names))

    def value(self, expression):
        """The value of an expression, by way of JSON; NaN and ∞ come as text."""
        return json.loads(self.v8.eval(CALL.format(expression)))

    def array(self, name, values):
        """Make a Float32Array with these values, as the page gets them from the kernel."""
        data = np.asarray(values, dtype=np.float32).tobytes()
        buffer = self.v8.eval(f"var {name}_bytes = new ArrayBuffer({len(data)}); {name}_bytes")
        memoryview(buffer)[:] = data
        self.v8.eval(f"var {name} = new Float32Array({name}_bytes)")

    def tables(self, name, world, prompt):
        """Make the tables of a prompt, under a name."""
        tables = world.tables(prompt)
        columns = {"ref": tables.ref_logprobs, "score": tables.scores, "gold": tables.golds}
        for part, column in columns.items():
            self.array(f"{name}_{part}", column.numpy())
        fields = ", ".join(f"{part}: {name}_{part}" for part in columns)
        self.v8.eval(f"var {name} = {{ {fields} }}")
