"""The README.md of a trained encoder: how to use it, what it was trained on and how, and what held-out pairs say about it."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from lrat_ray import __version__
from lrat_ray.config import Train

_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
_SAYS_NOTHING = ("encoder", "model")
"""Folder names that say less than the folder around them."""
_ENDS = 10
"""Steps at either end of training whose mean loss is reported."""

_USAGE = """\
```python
from sentence_transformers import SentenceTransformer

model = SentenceTransformer("path/to/this/folder")
queries = model.encode_query([{query}])
passages = model.encode_document(["Title of a passage\\nIts text"])
print(model.similarity(queries, passages))
```

`encode_query` and `encode_document` put the stored prompts before the texts."""

_CITATION = """\
```bibtex
@misc{lrat,
  title = {Learning to Retrieve from Agent Trajectories},
  year = {2026},
  eprint = {2604.04949},
  archivePrefix = {arXiv}
}
```"""


def model_card(
    train: Train,
    *,
    counts: Mapping[str, float],
    curve: Sequence[Mapping[str, float]],
    validations: Sequence[Mapping[str, float]],
) -> str:
    """Markdown with YAML front matter, which holds nothing of the machine's paths but their last names.

    counts: pairs, trained, held_out, held_out_questions, ... as the selection of pairs counted them; curve: step and loss of
    each optimizer step; validations: held-out metrics and the step after which they were measured, the first at step 0.
    """
    parts = [
        "---\n" + yaml.safe_dump(_front_matter(train), sort_keys=False, allow_unicode=True) + "---",
        f"# {code(display_name(train.base_model))}, trained on the trajectories of search agents",
        "A bi-encoder for the queries that search agents write. It was trained with LRAT: what an agent opened after a search, "
        "and how long it then thought about it, says which results were useful.",
        "## Usage",
        _USAGE.format(query=_example_query(train)),
        "## Training",
        _table(("setting", "value"), _recipe(train)),
        _table(("pairs", "number"), [(name.replace("_", " "), _number(value)) for name, value in counts.items()]),
        _losses(curve),
    ]
    if validations:
        parts += ["## Held-out pairs", *_held_out(train, counts, validations)]
    parts += ["## Citation", "The method, relevance intensity and weighted loss are those of", _CITATION]
    if train.query_template == "reasoning":
        parts.append("Queries with the agent's reasoning follow AgentIR (arXiv 2603.04384).")
    return "\n\n".join(parts) + "\n"


def display_name(uri: str) -> str:
    """A model or data set by its hub or package name, or by the last name of its path that says something.

    >>> display_name("Qwen/Qwen3-Embedding-0.6B"), display_name("/home/me/runs/seed-1/encoder"), display_name("s3://bucket/pairs/")
    ('Qwen/Qwen3-Embedding-0.6B', 'seed-1', 'pairs')
    """
    if _is_hub_name(uri) or uri.startswith("package:"):
        return uri
    path, name = posixpath.split(uri.replace("\\", "/").rstrip("/"))
    return posixpath.basename(path) or name if name in _SAYS_NOTHING else name


def code(text: str) -> str:
    """Text as a Markdown code span, in a table as well: nothing in it is read as Markdown or HTML.

    >>> print(code("a|b"), code("say `x`"))
    `a\\|b` `` say `x` ``
    """
    printable = "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)
    text = printable.replace("|", "\\|")
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", text)), default=0))
    pad = " " if len(fence) > 1 or not text else ""
    return f"{fence}{pad}{text}{pad}{fence}"


def _is_hub_name(uri: str) -> bool:
    return _HUB_NAME.fullmatch(uri) is not None and not uri.startswith(".")


def _front_matter(train: Train) -> dict[str, Any]:
    front: dict[str, Any] = {"library_name": "sentence-transformers", "pipeline_tag": "sentence-similarity"}
    if _is_hub_name(train.base_model):
        front["base_model"] = train.base_model
    return {**front, "tags": ["sentence-transformers", "feature-extraction", "dense-retrieval", "search-agents", "lrat"]}


def _example_query(train: Train) -> str:
    if train.query_template == "query":
        return '"what the agent searches for"'
    return '"what the agent searches for\\nQuestion: what it was asked\\nReasoning: what it thought before the search"'


def _recipe(train: Train) -> list[tuple[str, str]]:
    negatives = {
        "mined with the pair": train.trajectory_negatives,
        "of other queries of the batch": train.in_batch_negatives,
        "of all workers": train.in_batch_negatives and train.cross_worker_negatives,
    }
    queries = train.batch_size * train.accumulation_steps
    return [
        ("base model", code(display_name(train.base_model))),
        ("pairs artifact", code(display_name(train.pairs or "none"))),
        ("query prompt", _prompt(train.query_prompt)),
        ("passage prompt", _prompt(train.passage_prompt)),
        ("query template", train.query_template),
        ("longest query, passage", f"{train.query_max_tokens}, {train.passage_max_tokens} tokens"),
        ("epochs", str(train.epochs)),
        ("queries per step", f"{queries}, contrasted {train.batch_size} at a time"),
        ("documents per query", f"{train.group_size if train.trajectory_negatives else 1}, one of them positive"),
        ("negatives", ", ".join(name for name, is_used in negatives.items() if is_used)),
        ("loss", f"InfoNCE, temperature {train.temperature}, weighting {train.weighting}"),
        ("learning rate", f"{train.learning_rate}, warm-up {train.warmup_ratio:.0%} of the steps, decay {train.decay}"),
        ("weight decay, gradient norm", f"{train.weight_decay}, at most {train.max_grad_norm}"),
        ("frozen", f"embeddings and {train.freeze_layers} lowest layers" if train.freeze_layers else "nothing"),
        ("dropout", "the base model's" if train.dropout is None else str(train.dropout)),
        ("precision", train.precision + (", parameters too" if train.bf16_parameters else "")),
        ("seed", ", ".join(map(str, train.seeds))),
        ("software", f"lrat_ray {__version__}"),
    ]


def _prompt(text: str | None) -> str:
    return "the base model's" if text is None else code(text) if text else "none"


def _losses(curve: Sequence[Mapping[str, float]]) -> str:
    if not curve:
        return "No step was taken."
    count = min(_ENDS, len(curve))
    first, last = (sum(point["loss"] for point in end) / count for end in (curve[:count], curve[-count:]))
    return f"{len(curve)} steps; mean loss of the first {count}: {first:.4f}, of the last {count}: {last:.4f}."


def _held_out(train: Train, counts: Mapping[str, float], validations: Sequence[Mapping[str, float]]) -> list[str]:
    before = validations[0]
    after = max(validations, key=lambda v: v["ndcg@10"]) if train.export == "best" else validations[-1]
    metrics = [name for name in before if name not in ("step", "pairs")]
    chosen = "the best validation" if train.export == "best" else "the last step"
    return [
        f"Each of {_number(before['pairs'])} pairs of {_number(counts['held_out_questions'])} questions that were not trained "
        "on ranks its positive among the candidates that it was mined with. The weights are those of "
        f"{chosen}, step {_number(after['step'])}.",
        _table(
            ("metric", "base model", "this encoder"),
            [(name, f"{before[name]:.4f}", f"{after[name]:.4f}") for name in metrics],
        ),
    ]


def _table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in (header, ("---",) * len(header), *rows))


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) else f"{value:,.4f}"
