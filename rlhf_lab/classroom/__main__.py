"""The teachers' commands: `python3 course.py handout`, `… materials`, `… grade` and so on."""

import argparse
import os
import sys
from pathlib import Path

import rlhf_lab
from rlhf_lab.classroom import grading, handout, materials, nbgrader
from rlhf_lab.classroom.collect import collect
from rlhf_lab.classroom.key import key
from rlhf_lab.classroom.report import report
from rlhf_lab.command_line import Parser
from rlhf_lab.files import write_whole
from rlhf_lab.translation import LANGUAGES, language, set_language


def main(argv: list[str] | None = None) -> int:
    """Run a command; returns the exit status: 2 if there is nothing to work on, 130 for Ctrl-C."""
    try:
        arguments = _parser().parse_args(argv)
        set_language(arguments.language)
        return int(arguments.command(arguments) or 0)
    except KeyboardInterrupt:
        print("\nStopped; nothing was written.", file=sys.stderr)
        return 130
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python3 course.py", description=__doc__)
    commands = parser.add_subparsers(required=True)
    students = commands.add_parser("handout", help="the students' edition, as a folder and a zip")
    students.add_argument("folder", type=Path, help="a folder that is not there yet")
    students.add_argument(
        "--address", default=handout.ADDRESS, help="of the course's repository, for the README"
    )
    students.add_argument(
        "--nbgrader", action="store_true", help="the sources of assignments for nbgrader instead"
    )
    students.set_defaults(command=_handout)
    grade = commands.add_parser("grade", help="check all exercises of a class, write two tables")
    grade.add_argument("folder", type=Path, help="one folder or notebook for each student")
    grade.set_defaults(command=_grade)
    homes = commands.add_parser("collect", help="copy what students have in their homes")
    homes.add_argument("homes", type=Path, help="one folder for each student, such as /home")
    homes.add_argument("folder", type=Path, help="for report and grade; gets what is new")
    homes.add_argument("--place", default="rlhf_lab", help="the course's folder in each home")
    homes.set_defaults(command=_collect)
    guesses = commands.add_parser("report", help="a page with all guesses of a class")
    guesses.add_argument(
        "folder", type=Path, help="one folder or predictions.json for each student"
    )
    guesses.set_defaults(command=_report)
    answers = commands.add_parser("key", help="a page with the answers to all that is asked")
    answers.add_argument("file", type=Path, nargs="?", default=Path("answer-key.html"))
    answers.set_defaults(command=_key)
    printed = commands.add_parser("materials", help="concept test, slides and two pages")
    printed.add_argument("folder", type=Path, help="a folder that is not there yet")
    printed.set_defaults(command=_materials)
    for command in commands.choices.values():
        command.add_argument(
            "--language", choices=LANGUAGES, default=language(), help="of what is written"
        )
    return parser


def _beside(folder: Path, ending: str) -> Path:
    """A file beside a class's folder: what was handed in stays as it is."""
    folder = folder.resolve()
    return folder.with_name(f"{folder.name}-{ending}")


def _handout(arguments: argparse.Namespace) -> None:
    if arguments.nbgrader:
        handout.write(arguments.folder, nbgrader.files(rlhf_lab.__version__), zipped=False)
        print(f"written: {arguments.folder.resolve()}; its README.md says what next")
        return
    for path in handout.write(arguments.folder, handout.files(arguments.address)):
        print(f"written: {path}")
    if arguments.address == handout.ADDRESS:
        print(
            f"In its README.md write the course's address for {handout.ADDRESS}, or use --address."
        )


def _materials(arguments: argparse.Namespace) -> None:
    browser = materials.find_browser()
    handout.write(arguments.folder, materials.files(browser), zipped=False)
    print(f"written: {arguments.folder.resolve()}")
    if browser is None:
        print("No PDFs: there is no Chromium, Chrome or Edge here. Any browser prints the pages.")


def _grade(arguments: argparse.Namespace) -> None:
    if not os.access(arguments.folder.resolve().parent, os.W_OK):  # grading takes minutes
        raise OSError(f"the tables go beside {arguments.folder}, where you may not write: copy it")
    grades = grading.grade(arguments.folder, lambda line: print(line, flush=True))
    head = ["exercise", *grading.STATUSES, "commonest mistake", "times"]
    summary = grading.summary(grades.rows)
    tables = {
        _beside(arguments.folder, "grades.csv"): grading.table(grades.rows, grading.Grade._fields),
        _beside(arguments.folder, "summary.csv"): grading.table(summary, head),
    }
    for line in grades.left_out:
        print(line)
    for row in summary:
        often = f", {row[-1]} × {row[-2]}" if row[-1] else ""
        print(f"{row[0]}: {row[1]} right{often}")
    _write(tables)


def _collect(arguments: argparse.Namespace) -> None:
    done = collect(arguments.homes, arguments.folder, arguments.place)
    for line in done.left_out:
        print(line)
    print(f"{done.students} students, {done.files} new files: {arguments.folder.resolve()}")


def _report(arguments: argparse.Namespace) -> None:
    made = report(arguments.folder)
    for line in made.left_out:
        print(line)
    _write({_beside(arguments.folder, "predictions.html"): made.page})


def _key(arguments: argparse.Namespace) -> None:
    _write({arguments.file: key()})


def _write(files: dict[Path, bytes]) -> None:
    for path, content in files.items():
        write_whole(path, content)
        print(f"written: {path}")


if __name__ == "__main__":
    sys.exit(main())
