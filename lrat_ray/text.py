"""Text from outside that Python holds but neither UTF-8 nor Arrow can: half characters, made whole where they come in."""

from __future__ import annotations

import json
from typing import TypeVar

Json = TypeVar("Json")


def without_lone_surrogates(data: Json) -> Json:
    """A text, or any data read from JSON, in which half a character (where a tool or a model cut a text) is U+FFFD."""
    text = json.dumps(data, ensure_ascii=False)
    return json.loads(text.encode("utf-16", "surrogatepass").decode("utf-16", "replace"))
