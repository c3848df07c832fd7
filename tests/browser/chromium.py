"""Find a Chromium for the browser test; as a script, install one where there is none."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


def find() -> str | None:
    """The browser that CHROMIUM names, or one on the PATH, or Playwright's own; None if none is."""
    if named := os.environ.get("CHROMIUM"):
        return shutil.which(named) or sys.exit(f"CHROMIUM={named} is no program. Unset or mend it.")
    return next(filter(None, map(shutil.which, NAMES)), None) or playwrights_own()


def playwrights_own() -> str | None:
    """What `playwright install chromium` has put into its cache, if it has."""
    from playwright.sync_api import sync_playwright  # seldom needed, and slow to import

    with sync_playwright() as playwright:
        own = playwright.chromium.executable_path
    return own if Path(own).exists() else None


def install() -> None:
    """By the system's packages where we may, which bring its libraries too, else by Playwright."""
    ways = [[sys.executable, "-m", "playwright", "install", "chromium"]]
    if shutil.which("apt-get") and os.geteuid() == 0:
        ways.insert(0, ["sh", "-c", "apt-get update && apt-get install -y chromium"])
    for command in ways:
        # No questions: dpkg would wait for answers.
        subprocess.run(command, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"})
        if find():
            return


if __name__ == "__main__":
    if not find():
        install()
    if not find():
        sys.exit(
            "The browser test needs Chromium or Chrome, and installing it failed (see above).\n"
            "Install it yourself, or set CHROMIUM to the program, and run the same command again."
        )
