"""Search in languages without spaces: the index holds each two neighbouring characters.

A word of three characters is found where both of its pairs are, so no dictionary is needed.
"""

import re

from sphinx.application import Sphinx
from sphinx.search.en import SearchEnglish

_RUN = re.compile(r"[\u3400-\u9fff]+|[^\W\u3400-\u9fff]+")


class SearchChinese(SearchEnglish):
    """English words as in English, Chinese ones as pairs of characters."""

    lang = "zh"
    js_splitter_code = r"""
var splitQuery = (query) =>
  (query.match(/[\u3400-\u9fff]+|(?:(?![\u3400-\u9fff])[\p{Letter}\p{Number}_])+/gu) ?? [])
    .flatMap((run) =>
      run.length < 2 || !/[\u3400-\u9fff]/.test(run)
        ? [run]
        : Array.from({ length: run.length - 1 }, (_, k) => run.slice(k, k + 2)));
"""

    def split(self, input: str) -> list[str]:
        """Words of a text, as `splitQuery` finds those of a question.

        >>> SearchChinese({}).split("奖励模型 r(x, y)：熵")
        ['奖励', '励模', '模型', 'r', 'x', 'y', '熵']
        """
        return [word for run in _RUN.findall(input) for word in _pairs(run)]


def _pairs(run: str) -> list[str]:
    if len(run) < 2 or run[0] < "\u3400" or run[0] > "\u9fff":
        return [run]
    return [run[k : k + 2] for k in range(len(run) - 1)]


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_search_language(SearchChinese)
    return {"parallel_read_safe": True}
