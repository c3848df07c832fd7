"""Write the table of dialects into docs/bridge.md: `python tools/bridge.py`.

Its one source is `rlhf_lab/lessons/dialects.py`, which notebook 12 shows, too; a test holds both.
"""

from pathlib import Path

from rlhf_lab.lessons.dialects import table

PAGE = Path(__file__).resolve().parent.parent / "docs" / "bridge.md"
BEGIN = "<!-- the table: tools/bridge.py writes it -->\n\n"
END = "\n\n<!-- end of the table -->"


def up_to_date(text: str) -> str:
    """The page with the table as it is now.

    Raises:
        ValueError: the marks around the table are gone.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page has lost its marks: {BEGIN.strip()} and {END.strip()}")
    return before + BEGIN + table() + END + after


def main(page: Path = PAGE) -> None:
    page.write_text(up_to_date(page.read_text(encoding="utf-8")), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
