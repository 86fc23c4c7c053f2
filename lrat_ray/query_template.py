"""How a search becomes the text that the encoder reads: the query alone, or with what the agent wanted and thought.

The agent's reasoning before a search says what it is after (reasoning-aware retrieval, AgentIR, arXiv 2603.04384). The template
belongs to the encoder and is stored in its folder, so that training and serving render alike. The query comes first: a plain
query is the same text under both templates, and what is too long for the encoder loses its reasoning first.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from typing import Literal, get_args

from lrat_ray.config import ConfigError
from lrat_ray.models import model_file

FILE = "query_template.json"
TemplateName = Literal["query", "reasoning"]

VARIANTS = ("query", "query and question", "query and reasoning", "query, question and reasoning")
"""What `variants` returns: entry question + 2 * reasoning, each 0 or 1."""


@dataclass(frozen=True, slots=True)
class QueryTemplate:
    name: TemplateName = "query"
    reasoning_words: int = 200
    """Reasoning is cut to its last words, this many: what stands nearest to the search says most about it. 200 words and a long
    question fit 512 tokens."""


def render(
    template: QueryTemplate | TemplateName, query: str, question: str | None = None, reasoning: str | None = None
) -> str:
    """The text of a search, without the encoder's own prompt.

    question: what the agent was asked; reasoning: what it thought just before it searched. Either may be missing or blank.

    >>> render("reasoning", "castle river", question="Which painter?", reasoning="It is  old.")
    'castle river\\nQuestion: Which painter?\\nReasoning: It is old.'
    >>> render("query", "castle river", question="Which painter?")
    'castle river'
    """
    template = QueryTemplate(template) if isinstance(template, str) else template
    if template.name == "query":
        return query
    words = (reasoning or "").split()[-template.reasoning_words :]
    parts = {"Question": (question or "").strip(), "Reasoning": " ".join(words)}
    return "\n".join([query, *(f"{label}: {text}" for label, text in parts.items() if text)])


def variants(
    template: QueryTemplate | TemplateName, query: str, question: str | None = None, reasoning: str | None = None
) -> list[str]:
    """The four texts of a search in the order of `VARIANTS`; training draws one of them.

    Without question or reasoning, or under template "query", some are equal.
    """
    return [render(template, query, q, r) for r in (None, reasoning) for q in (None, question)]


def write(folder: str, template: QueryTemplate) -> None:
    """Store the template beside the files of an encoder."""
    with open(os.path.join(folder, FILE), "w", encoding="utf-8") as file:
        json.dump(asdict(template), file, indent=2)


def read(model: str) -> QueryTemplate:
    """The template of an encoder (a folder or hub name); of any model but ours it is "query".

    Raises ConfigError if its file says something else than a template.
    """
    file = model_file(model, FILE)
    if file is None:
        return QueryTemplate()
    with open(file, encoding="utf-8") as stream:
        try:
            template = QueryTemplate(**json.load(stream))
        except (ValueError, TypeError) as error:
            raise ConfigError(f"{file}: no query template ({error}); copy the file of the trained encoder again") from error
    words = template.reasoning_words
    if template.name not in get_args(TemplateName) or not isinstance(words, int) or words <= 0:
        raise ConfigError(
            f"{file}: no query template: name {template.name!r}, reasoning_words {words!r}; name is query or "
            "reasoning, and reasoning_words above 0"
        )
    return template
