"""Write the questions into docs/concept_test.md: `python tools/concept_test.py`.

Their one source is `rlhf_lab/classroom/concept_test.toml`; a test holds the page to it.
"""

from pathlib import Path

from rlhf_lab.classroom.concept import markdown, questions

PAGE = Path(__file__).resolve().parent.parent / "docs" / "concept_test.md"
BEGIN = "<!-- the questions: tools/concept_test.py writes them -->\n\n"
END = "\n\n<!-- end of the questions -->"


def up_to_date(text: str) -> str:
    """The page with the questions as they are now.

    Raises:
        ValueError: the marks around the questions are gone.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END.lstrip())
    if not begin or not end:
        raise ValueError(f"the page has lost its marks: {BEGIN.strip()} and {END.strip()}")
    return before + BEGIN + markdown(questions()) + END + after


def main(page: Path = PAGE) -> None:
    page.write_text(up_to_date(page.read_text(encoding="utf-8")), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
