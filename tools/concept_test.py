"""Write the questions into docs/concept_test.md, and into the pages of other languages.

    python tools/concept_test.py

Their one source is `rlhf_lab/classroom/concept_test.toml`; a test holds the pages to it.
"""

from pathlib import Path

from rlhf_lab import translation
from rlhf_lab.classroom.concept import markdown, questions
from rlhf_lab.translation import LANGUAGES, set_language

DOCS = Path(__file__).resolve().parent.parent / "docs"
BEGIN = "<!-- the questions: tools/concept_test.py writes them -->\n\n"
END = "\n\n<!-- end of the questions -->"


def up_to_date(text: str) -> str:
    """The page with the questions as they are now, in the language that is spoken.

    Raises:
        ValueError: the marks around the questions are gone.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END.lstrip())
    if not begin or not end:
        raise ValueError(f"the page has lost its marks: {BEGIN.strip()} and {END.strip()}")
    return before + BEGIN + markdown(questions()) + END + after


def page() -> Path:
    """The page in the language that is spoken now."""
    return DOCS / ("" if (now := translation.language()) == "en" else now) / "concept_test.md"


def main() -> None:
    for language in LANGUAGES:
        set_language(language)
        if not page().exists():
            continue  # a language may lack this page
        text = page().read_text(encoding="utf-8")
        page().write_text(up_to_date(text), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
