"""Cut the font that figures write Chinese with out of Noto Sans CJK SC: locale/zh/font.otf.

    apt-get download fonts-noto-cjk && dpkg -x fonts-noto-cjk_*.deb noto
    python tools/make_font.py noto/usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc

The committed file was cut from version 2.004. It holds the 3,755 frequent characters of GB 2312,
punctuation, and what else the catalogues use; the same source and catalogues give the same bytes.
A test names the characters that a catalogue has and the font has not: then run this again.
"""

import sys
import unicodedata
from pathlib import Path

from fontTools import subset
from fontTools.ttLib import TTFont

ROOT = Path(__file__).resolve().parent.parent
FONT = ROOT / "rlhf_lab" / "locale" / "zh" / "font.otf"
FAMILY = "RLHF Lab CJK"  # a name of its own: called Noto, it would hide a complete Noto
SIMPLIFIED = 2  # in the collection, behind Japanese and Korean
PUNCTUATION = "　、。〈〉《》「」『』【】〔〕〖〗〜・！（），．／：；＜＝＞？［］～￥％＋－—…‘’“”·"
TERMS = "缰熵"  # of this course, and not frequent elsewhere
LEVEL_1 = [bytes([a, b]) for a in range(0xB0, 0xD8) for b in range(0xA1, 0xFF)]
KEPT_NAMES = (0, 1, 2, 3, 4, 5, 6, 8, 13, 14)  # copyright and licence among them, no trademark


def wanted() -> set[str]:
    """All characters that the font must have."""
    frequent = b"".join(LEVEL_1[:-5]).decode("gb2312")  # its last five places are empty
    return {*frequent, *PUNCTUATION, *TERMS, *catalogued()}


def catalogued() -> set[str]:
    """The wide letters of all catalogues; matplotlib's own font has none of them."""
    files = [file for name in ("rlhf_lab", "notebooks", "docs") for file in _catalogues(name)]
    text = "".join(file.read_text(encoding="utf-8") for file in files)
    return {letter for letter in text if unicodedata.east_asian_width(letter) in "WF"}


def _catalogues(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.po"))


def cut(source: str, letters: set[str]) -> TTFont:
    """The font with these letters only, under its own name."""
    font = TTFont(source, fontNumber=SIMPLIFIED, recalcTimestamp=False)
    options = subset.Options(hinting=False, layout_features=[], name_IDs=list(KEPT_NAMES))
    options.drop_tables += ["BASE", "GPOS", "GSUB", "VORG", "vhea", "vmtx"]
    subsetter = subset.Subsetter(options)
    subsetter.populate(unicodes=map(ord, letters))
    subsetter.subset(font)
    short = FAMILY.replace(" ", "")
    for record in font["name"].names:
        if record.nameID in (1, 3, 4, 6):
            record.string = short if record.nameID == 6 else FAMILY
    outlines = font["CFF "].cff
    outlines.fontNames[0] = short
    outlines.topDictIndex[0].FullName = outlines.topDictIndex[0].FamilyName = FAMILY
    return font


if __name__ == "__main__":
    font = cut(sys.argv[1], wanted())
    font.save(FONT)
    missing = wanted() - set(map(chr, font.getBestCmap()))
    print(f"{FONT}: {len(font.getBestCmap()):,} characters, {FONT.stat().st_size:,} bytes")
    if missing:
        sys.exit(f"Not in the source: {''.join(sorted(missing))}")
