"""What a teacher prints, projects and uploads, in one folder: concept test, slides, two pages."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from rlhf_lab.classroom import concept, questions, slides, two_pages

BROWSERS = (
    "chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge",
)  # fmt: skip
PRINTED = ("slides-", "two-pages", "concept-test.")
"""The beginnings of the names of those pages that become PDFs, too."""


def files(browser: str | None, course: Path = questions.COURSE) -> dict[str, bytes]:
    """All files by their names; without a browser there are no PDFs.

    Raises:
        ValueError: the course's notebooks are not there, or have no results.
        OSError: the browser has printed nothing.
    """
    found = {**concept.files(), **slides.files(course), **two_pages.files(course)}
    pages = {
        name: page
        for name, page in found.items()
        if browser and name.startswith(PRINTED) and name.endswith(".html")
    }
    return found | {
        f"{name.removesuffix('.html')}.pdf": pdf(page, str(browser)) for name, page in pages.items()
    }


def find_browser() -> str | None:
    """The program that CHROMIUM names, or Chromium, Chrome or Edge on the PATH; None if none is."""
    named = os.environ.get("CHROMIUM")
    return next(filter(None, map(shutil.which, [named] if named else BROWSERS)), None)


def pdf(page: bytes, browser: str) -> bytes:
    """A page as the browser prints it.

    Raises:
        OSError: it has printed nothing.
    """
    with tempfile.TemporaryDirectory(prefix="rlhf_lab-print-") as name:
        folder = Path(name)
        source, printed = folder / "page.html", folder / "page.pdf"
        source.write_bytes(page)
        options = ["--headless", "--disable-gpu", "--no-pdf-header-footer"]
        if hasattr(os, "geteuid") and os.geteuid() == 0:
            options.append("--no-sandbox")  # it would not start as root
        command = [
            browser, *options, f"--user-data-dir={folder / 'profile'}",
            f"--print-to-pdf={printed}", source.as_uri(),
        ]  # fmt: skip
        try:
            subprocess.run(command, capture_output=True, timeout=120)
            return printed.read_bytes()
        except (OSError, subprocess.TimeoutExpired) as error:
            raise OSError(f"{browser} has printed nothing: {error}") from error
