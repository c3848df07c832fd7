"""Results in files come back as they were written; other files are refused."""

from typing import NamedTuple

import pytest

from rlhf_lab.lessons.rows import read_rows, write_rows


class Seen(NamedTuple):
    n: int
    score: float
    says: str


KINDS = (int, float, str)
HEAD = "n,score,says\n"


def test_a_file_gives_back_what_was_written(tmp_path):
    file = tmp_path / "rows.csv"
    odd = [Seen(3, 1 / 3, "a, b ."), Seen(0, -1e-300, 'say "c"'), Seen(1, 0.1, "")]
    write_rows(file, Seen, odd)
    assert read_rows(file, Seen, KINDS) == odd


@pytest.mark.parametrize(
    ("text", "message"),
    [("", "names other columns"), ("a,b\n", "names other columns"),
     (HEAD + "0,0\n", "a line that is no such row"),
     (HEAD + "x,1,great .\n", "a line that is no such row")],
)  # fmt: skip
def test_another_file_is_refused(tmp_path, text, message):
    file = tmp_path / "other.csv"
    file.write_text(text, "utf-8")
    with pytest.raises(ValueError, match=message):
        read_rows(file, Seen, KINDS)
