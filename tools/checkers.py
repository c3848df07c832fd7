"""Write docs/checkers.md: how many natural answers the checks understand, by exercise.

The answers lie in tests/answers/. With --check it changes nothing, and ends with exit code 1 where
the page is out of date.
"""

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from answers import Answer, newcomers, reviews, students  # noqa: E402

from rlhf_lab.exercises import EXERCISES, check  # noqa: E402
from rlhf_lab.exercises.verdict import Verdict  # noqa: E402

PAGE = "docs/checkers.md"
HEAD = """\
# How many natural answers the checks understand

A check is worth what it says about a wrong answer. This page counts answers that people wrote as
students would: **right** ones that are accepted, and **wrong** ones that are told what is wrong,
by a named mistake or by a general slip (the columns "wrong" count these). Each diagnosis that
counts was judged by hand to be true of its answer. `python tools/checkers.py` writes the page from
`tests/answers/`, and a test holds it.

*Reviews* are answers that two reviewers tried on an earlier version. The checks were extended with
these in sight. *Students* are answers that other people wrote from the notebooks alone. *Newcomers*
are a third set, written in the same way when all rules stood: it is the blind measure.

Before there were general slips, 96 of the students' 267 wrong answers (36 %) were told what is
wrong, and 14 were accepted. Then the slips and the reviews' mistakes were written, and the
students' answers tried before anybody had read one: 217 were given a diagnosis, of which 206 (77 %)
were true and 11 were not; 13 were accepted; none of 68 right ones was refused. The table is what
holds since they have been read, so its students' columns are no longer a blind measure.

The newcomers' columns are. When their 98 wrong answers were tried first, 86 were given a diagnosis,
of which 83 (85 %) were true and 3 were not; none was accepted, and none of 34 right ones refused.
Since then nothing was changed but what was said falsely of those three. The newcomers' answers to
notebooks 11 and 12 were written later, when those checks stood: of 37 wrong ones 34 were given a
diagnosis (92 %), all of them true; none was accepted, and none of 11 right ones refused.

Four answers that their authors took for wrong count as right: numbers in float32, padding filled
with 0, which is `<eos>`, and twice a softmax of log-probabilities that are normalised already: its
gradient by the logits is right. One that its author took for right counts as wrong: the log of a
sigmoid, which is −∞ for a pair that is very wrong.

| exercise | reviews: right | wrong | students: right | wrong | newcomers: right | wrong |
|---|---|---|---|---|---|---|
"""


Judged = Sequence[tuple[Answer, Verdict]]


def judged(answers: Sequence[Answer]) -> Judged:
    """Each answer with what the check says of it."""
    return [(answer, check(answer.attempt, answer.exercise)) for answer in answers]


def counted(verdicts: Judged) -> dict[str, Counter[str]]:
    """By exercise: right answers and those accepted, wrong ones and those diagnosed."""
    found: dict[str, Counter[str]] = {name: Counter() for name in [*EXERCISES, "all"]}
    for answer, verdict in verdicts:
        if answer.accepts:
            events = ["wrong"] + ["diagnosed"] * (verdict.mistake in answer.accepts)
        else:
            events = ["right"] + ["accepted"] * (verdict.status == "right")
        for name in (answer.exercise, "all"):
            found[name].update(events)
    return found


def page(*verdicts: Judged) -> str:
    """The page as it should be, for the answers of reviews, students and newcomers."""
    sets = [counted(found) for found in verdicts]
    rows = []
    for name in [*EXERCISES, "all"]:
        if any(found[name] for found in sets):
            cells = [
                f"{found[name][part]} of {found[name][whole]}" if found[name][whole] else "–"
                for found in sets
                for part, whole in (("accepted", "right"), ("diagnosed", "wrong"))
            ]
            shown = f"`{name}`" if name != "all" else "**all**"
            rows.append(f"| {shown} | {' | '.join(cells)} |")
    return HEAD + "\n".join(rows) + "\n"


def main(args: list[str], root: Path = ROOT) -> int:
    """Write the page, or with --check only compare it; returns the exit code."""
    path = root / PAGE
    text = page(*(judged(part.ANSWERS) for part in (reviews, students, newcomers)))
    if args == ["--check"]:
        stale = not path.exists() or path.read_text(encoding="utf-8") != text
        if stale:
            print(f"{PAGE} is out of date: run python tools/checkers.py", file=sys.stderr)
        return int(stale)
    path.write_text(text, encoding="utf-8", newline="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
