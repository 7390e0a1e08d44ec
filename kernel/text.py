"""Text that comes from people and files: what of it can deceive a reader, and whether it says anything.

How results are laid out stands in the command line.
"""

from __future__ import annotations

import re
import unicodedata

# Control characters, which a terminal obeys; what turns the direction of reading; halves of characters.
UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """The text without what a terminal would obey, in one line."""
    return UNSEEN.sub("", re.sub(r"\s+", " ", text)) if UNSEEN.search(text) else text


def is_worded(text: str) -> bool:
    """Whether there is anything to read: spaces and characters without width alone are not."""
    return any(unicodedata.category(character)[0] in "LNPS" for character in text)
