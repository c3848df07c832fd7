"""What the scenarios do and see: a notebook, its kernel, sliders and pictures, as page objects."""

import ast
import time
from collections.abc import Callable

import psutil
from playwright.sync_api import Locator, Page, expect

MINUTE = 60_000  # Playwright counts in milliseconds


class Notebook:
    """A notebook in JupyterLab or Notebook 7, opened, with its kernel at rest.

    Args:
        page: a fresh tab.
        address: of the notebook, with token.
    """

    def __init__(self, page: Page, address: str) -> None:
        self.page = page
        page.goto(address)
        page.wait_for_function("() => jupyterReady()", timeout=MINUTE)
        page.evaluate("() => listenToKernel()")

    def command(self, name: str, **args: object) -> None:
        """One of the front end's own commands, as its menus would call it."""
        self.page.evaluate("([n, a]) => { jupyterapp.commands.execute(n, a); }", [name, args])

    def run(self, until: str | None = None) -> None:
        """Run all cells, or those until one that ends with a line; none may fail."""
        self.page.evaluate("line => runCells(line)", until)
        self.page.wait_for_function(
            "() => cellsHaveRun() || kernelErrors().length", timeout=5 * MINUTE
        )
        assert self.errors() == []

    def restart(self) -> None:
        """Restart the kernel, through the dialog that asks whether one is sure."""
        old = self.python("__import__('os').getpid()")
        self.command("kernelmenu:restart")
        self.page.locator(".jp-Dialog .jp-mod-accept").click()

        def check() -> None:
            assert not psutil.pid_exists(old)
            assert self.page.evaluate("() => jupyterReady()")

        eventually(check, seconds=60)

    def python(self, expression: str) -> object:
        """The value of a Python expression in the kernel; it must have the form of a literal."""
        return ast.literal_eval(self.page.evaluate("e => pythonValue(e)", expression))

    def wait_for(self, condition: str, seconds: float = 30) -> None:
        """Until a Python expression becomes true in the kernel."""

        def check() -> None:
            assert self.python(f"bool({condition})"), condition

        eventually(check, seconds)

    def theme(self, name: str) -> None:
        """Change to "JupyterLab Light" or "JupyterLab Dark"."""
        self.command("apputils:change-theme", theme=name)
        self.page.wait_for_function("n => document.body.dataset.jpThemeName === n", arg=name)

    def errors(self) -> list[str]:
        """Tracebacks: in outputs, from callbacks, and those that threads write to stderr."""
        return self.page.evaluate("() => kernelErrors()")


class Slider:
    """A slider of ours, with the field beside it that can be typed into."""

    def __init__(self, root: Locator, name: str) -> None:
        self.handle = root.locator(f"input[data-of={name}]")
        self.field = root.locator(f"input[data-typed={name}]")
        self.page = root.page

    def press(self, key: str, times: int = 1) -> None:
        """Arrow keys move it by one step, Home and End to its ends."""
        for _ in range(times):
            self.handle.press(key)

    def drag(self, pixels: float, moves: int) -> None:
        """Drag the handle sideways with the mouse, in `moves` small moves."""
        self.handle.scroll_into_view_if_needed()
        box = self.handle.bounding_box()
        share = self.handle.evaluate("slider => slider.value / slider.max")
        x, y = box["x"] + 12 + share * (box["width"] - 24), box["y"] + box["height"] / 2
        mouse = self.page.mouse
        mouse.move(x, y)
        mouse.down()
        mouse.move(x + pixels, y, steps=moves)
        mouse.up()

    @property
    def value(self) -> str:
        """The number beside the slider."""
        return self.field.input_value()


class Watch:
    """A stopwatch from what the user does to what the user then sees.

    Args:
        element: what changes.
        function: of page.js, which starts the watch: it says there what is measured.
    """

    def __init__(self, element: Locator, function: str) -> None:
        self.page = element.page
        self.watch = element.evaluate_handle(f"element => {function}(element)")

    def count(self) -> int:
        """How many changes have been seen since the watch began."""
        return len(self.times())

    def times(self) -> list[float]:
        """When each of them was seen, in ms."""
        return self.watch.evaluate("watch => watch.times")

    def next(self, act: Callable[[], object]) -> float:
        """Do something and wait for a change; how long after the action it was seen, in ms."""
        count = self.count()
        act()
        self.page.wait_for_function("([w, n]) => w.times.length > n", arg=[self.watch, count])
        return self.watch.evaluate("(watch, n) => watch.latencies[n]", count)


class Explorer:
    """The explorer, wherever it is shown."""

    def __init__(self, page: Page) -> None:
        self.page, self.root = page, page.locator(".rlhf-explorer").first
        expect(self.root.locator(".headline")).not_to_be_empty(timeout=MINUTE)
        self.root.scroll_into_view_if_needed()
        # Once per picture, and with it all else changes: see explorer.js.
        self.changes = Watch(self.root.locator(".bill"), "watchChanges")

    def slider(self, name: str) -> Locator:
        """The slider for "eta" or "beta"."""
        return Slider(self.root, name).handle

    def choose(self, word: str) -> None:
        """Click on a prompt, or on what π* maximises."""
        self.root.locator(f".choice [value='{word}'] + label").click()

    @property
    def state(self) -> dict:
        """What the page has drawn last."""
        return self.root.evaluate("root => root.state")


class Cockpit:
    """The cockpit, wherever it is shown."""

    def __init__(self, page: Page) -> None:
        self.page, self.root = page, page.locator(".rlhf-cockpit").first
        self.status, self.numbers = self.root.locator(".status"), self.root.locator(".numbers")
        expect(self.status).not_to_be_empty(timeout=MINUTE)
        self.root.scroll_into_view_if_needed()
        self.root.locator(".all").evaluate("details => { details.open = true; }")
        self.eta, self.beta = (Slider(self.root, name) for name in ("eta", "beta"))
        self.changes = Watch(self.root.locator(".status"), "watchChanges")

    def click(self, button: str) -> None:
        """Press "start", "pause", "step", "reset" or "fork"."""
        self.root.locator(f"button[data-do={button}]").click()

    def click_until(self, button: str, status: str) -> float:
        """Press a button and wait until the status says something; how long that took, in ms."""
        return time_to_text(self.status, status, lambda: self.click(button))

    def rows(self) -> dict[str, list[str]]:
        """The table of numbers, without its head."""
        lines = [row.inner_text().split("\t") for row in self.numbers.locator("tbody tr").all()]
        return {name.strip(): [cell.strip() for cell in cells] for name, *cells in lines}


def time_to_text(element: Locator, text: str, act: Callable[[], object]) -> float:
    """Do something and wait until an element says something; how long that took, in ms."""
    promise = element.evaluate_handle("(e, text) => ({seen: timeToText(e, text)})", text)
    act()
    return promise.evaluate("promise => promise.seen")


def eventually(check: Callable[[], None], seconds: float = 20) -> None:
    """Repeat a check until it holds: the page is always a little behind the kernel."""
    end = time.monotonic() + seconds
    while True:
        try:
            return check()
        except AssertionError:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)
