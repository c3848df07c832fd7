"""The claims of docs/claims.md, checked by code that shares none with the package's own.

The checks stand in `claims_world.py` and `claims_words.py`, under the names of the table.
"""

import re
from pathlib import Path

import claims_words  # noqa: F401
import claims_world  # noqa: F401
import pytest
from claims import CHECKS

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "docs" / "claims.md").read_text(encoding="utf-8")


def table():
    return re.findall(r"^\| `(\w+)` \| (.+?) \| (\d\d(?:, \d\d)*) \| (.+?) \|$", TEXT, re.MULTILINE)


def test_every_claim_has_its_check_and_every_check_its_claim():
    own = [name for name, _, _, evidence in table() if evidence == "own code"]
    assert sorted(own) == sorted(CHECKS)
    assert len({name for name, *_ in table()}) == len(table())


def test_other_evidence_is_a_test_that_exists():
    for name, _, _, evidence in table():
        if evidence != "own code":
            file, test = re.fullmatch(r"`(tests/\w+\.py)`: `(\w+)`", evidence).groups()
            assert f"def {test}(" in (ROOT / file).read_text(encoding="utf-8"), name


def test_the_notebooks_of_a_claim_exist():
    for _, _, numbers, _ in table():
        for number in numbers.split(", "):
            assert list((ROOT / "notebooks").glob(f"{number}_*.ipynb"))


@pytest.mark.parametrize("name", CHECKS)
def test_claim(name):
    CHECKS[name]()
