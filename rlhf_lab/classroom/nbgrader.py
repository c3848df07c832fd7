"""The course as sources for nbgrader, and what its hidden tests ask.

A task's cell becomes a solution cell, and its check a test with points. The sources hold the stubs
and no solution, so none can slip into what students get.
"""

import json
import re
from pathlib import Path
from typing import Any

from rlhf_lab.classroom import questions
from rlhf_lab.classroom.copies import Notebook, cleared
from rlhf_lab.exercises import EXERCISES, verdict_on
from rlhf_lab.exercises.exercise import Choice
from rlhf_lab.translation import tr

FUNCTION, LETTER = 2, 1
"""Points for a function, and for a question with letters."""
_NAME = re.compile(r"^(?:def )?(\w+)(?:\(| = )", re.MULTILINE)
_CHECK = re.compile(r"check\((\w+)(?:, \"\w+\")?\)$")
_NO_SOLUTION = "\n### BEGIN SOLUTION\n### END SOLUTION"
_TEST = """
### BEGIN HIDDEN TESTS
from rlhf_lab.classroom.nbgrader import require_right
require_right("{name}", {name})
### END HIDDEN TESTS"""
CONFIG = """\
c = get_config()
c.CourseDirectory.course_id = "rlhf_lab"
c.ClearSolutions.code_stub = {"python": ""}  # the course's own stubs stay: they never stop Run All
c.Execute.timeout = 300  # seconds for a cell; an endless loop ends there, and costs its own points
"""
README = """\
# For the teacher: rlhf_lab {version} in nbgrader

`source/` has an assignment for each notebook with exercises, {points} points in all: {function}
for a function, {letter} for a question with letters. Hand out 00 and the cockpit as they are, with
`python3 course.py handout`.

nbgrader and the course must be in one environment, yours and not the students'. In this folder:

```
pip install nbgrader
nbgrader generate_assignment {first}
nbgrader autograde {first}
nbgrader generate_feedback {first}
nbgrader export
```

A test gives its points if the course's checker says Right and the function is the student's own:
the package's function, bound to the name, gets none. The package that students import holds every
answer, so points say who took part. Autograding runs what students wrote, as you: use an account
that can read nothing else.
"""


def require_right(name: str, attempt: object) -> None:
    """The hidden test of an exercise.

    Raises:
        AssertionError: the attempt is not right, or is the package's own; says which.
    """
    if str(getattr(attempt, "__module__", "")).split(".")[0] == "rlhf_lab":
        raise AssertionError(f"{name} is the function of the package itself")
    verdict = verdict_on(attempt, EXERCISES[name])
    if verdict.status != "right":
        raise AssertionError(verdict.text)


def files(version: str, course: Path = questions.COURSE) -> dict[str, bytes]:
    """A folder for `nbgrader`, by the names of its files.

    Raises:
        ValueError: the course's notebooks are not there, or one is damaged.
    """
    found, points = {}, 0
    for name, notebook in questions.notebooks(course).items():
        here = _source(notebook)
        worth = sum(_points(cell) for cell in here["cells"])
        if worth:
            found[f"source/{name}/{name}.ipynb"] = cleared(here)
            points += worth
    about = {"points": points, "function": FUNCTION, "letter": LETTER, "version": version}
    readme = tr(README, first=next(iter(found)).split("/")[1], **about)
    return {**found, "nbgrader_config.py": CONFIG.encode(), "README.md": readme.encode()}


def _points(cell: dict[str, Any]) -> int:
    return int(cell["metadata"].get("nbgrader", {}).get("points", 0))


def _source(notebook: Notebook) -> Notebook:
    """The notebook with nbgrader's marks on exercises and their checks."""
    copy: Notebook = json.loads(json.dumps(notebook))
    for cell in copy["cells"]:
        if cell["cell_type"] != "code":
            continue
        text = "".join(cell["source"])
        if "exercise" in cell["metadata"].get("tags", []):
            name = _NAME.findall(text)[-1]
            cell["source"] = text + _NO_SOLUTION
            cell["metadata"]["nbgrader"] = _marks(f"write-{name}", solution=True)
        elif match := _CHECK.match(text):
            name = match[1]
            cell["source"] = text + _TEST.format(name=name)
            worth = LETTER if isinstance(EXERCISES[name], Choice) else FUNCTION
            marks = _marks(f"check-{name}", solution=False) | {"points": worth}
            cell["metadata"]["nbgrader"] = marks
    return copy


def _marks(grade_id: str, solution: bool) -> dict[str, Any]:
    test = not solution
    kind = {"grade": test, "solution": solution, "locked": test, "task": False}
    return {"schema_version": 3, "grade_id": grade_id, **kind}
