"""Text in which a model marks with tags what it thinks, calls and answers, cut at the tags."""

from __future__ import annotations

import re
from collections.abc import Sequence


def segments(text: str, tags: Sequence[str]) -> list[tuple[str, str]]:
    """(tag, what stands in it) in order, with the tag "" for text outside; blank text outside is left out, the rest stripped.

    A tag that is never closed reaches to the end (the model was cut off). `</think>` without an opening counts from the
    beginning: templates of Qwen and DeepSeek put the opening tag into the prompt.
    """
    close = text.find("</think>")
    if close >= 0 and "<think>" not in text[:close]:
        text = "<think>" + text
    found: list[tuple[str, str]] = []
    end = 0
    for match in re.finditer(rf"<({'|'.join(tags)})>(.*?)(?:</\1>|\Z)", text, re.DOTALL):
        found += [("", text[end : match.start()]), (match[1], match[2])]
        end = match.end()
    found.append(("", text[end:]))
    return [(tag, inner.strip()) for tag, inner in found if tag or inner.strip()]
