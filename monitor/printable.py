"""What users wrote, made safe to show in a terminal or a picture."""

import unicodedata

#: control, format (bidi, zero width), surrogate, private and unassigned code points, line and paragraph separators
_UNSAFE = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def printable(text: str) -> str:
    """`text` on one line, every invisible or controlling character shown as U+FFFD: no escape sequence gets through."""
    return "".join("\N{REPLACEMENT CHARACTER}" if unicodedata.category(sign) in _UNSAFE else sign for sign in text)
