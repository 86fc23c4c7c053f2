"""Counts that add up: what is counted in the parts of a log is the same in any order and in any number of parts.

Beside the plain counts, a tally keeps some of them as a bootstrap would have counted them: in each of B draws every question,
with all its runs, stands as often as a Poisson(1) variable says, which depends on the question alone (the Poisson bootstrap:
Chamandy et al., Estimating uncertainty for massive data streams, 2012). So intervals that are clustered by question need
neither the trajectories nor the questions in one place.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

Key = tuple[str | int, ...]
"""What is counted: a name, then what it is broken down by."""

SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("count", pa.int64(), nullable=False),
        pa.field("draws", pa.list_(pa.int64())),
        pa.field("questions", pa.list_(pa.uint64())),
    ]
)
_QUESTIONS = "questions"


@dataclass(frozen=True)
class Drawn:
    """A question, by its hash, and how often each draw holds it: [B] int64."""

    question: int
    times: np.ndarray


@dataclass(kw_only=True)
class Tally:
    """Counts by key, the draws of some keys, and which questions were counted, by hash.

    Questions are kept by kind ("all" of them, "annotated" ones ...) and by the name of what was counted with draws, so that
    each statistic knows how many questions it rests on.

    `samples` is the number of draws B, `seed` what they are drawn with.
    """

    samples: int
    seed: int = 0
    counts: Counter[Key] = field(default_factory=Counter)
    draws: dict[Key, np.ndarray] = field(default_factory=dict)  # each (B,) int64
    questions: dict[str, set[int]] = field(default_factory=dict)

    def question(self, query_id: str, *kinds: str) -> Drawn:
        """How often each draw holds a question; notes that the question was counted as one of these kinds."""
        digest = hashlib.blake2b(query_id.encode(), digest_size=8, salt=self.seed.to_bytes(8, "little")).digest()
        number = int.from_bytes(digest, "little")
        for kind in kinds:
            self.questions.setdefault(kind, set()).add(number)
        return Drawn(number, np.random.default_rng(number).poisson(1.0, self.samples).astype(np.int64))

    def add(self, *key: str | int) -> None:
        """Count `key` once."""
        self.counts[key] += 1

    def add_drawn(self, drawn: Drawn, *key: str | int) -> None:
        """Count `key` once, and in each draw as often as it holds the question; notes the question under the key's name."""
        self.counts[key] += 1
        self.questions.setdefault(str(key[0]), set()).add(drawn.question)
        draws = self.draws.get(key)
        if draws is None:
            self.draws[key] = drawn.times.copy()
        else:
            draws += drawn.times

    def update(self, other: Tally) -> None:
        """Add another tally to this one. Raises ValueError when its draws are others."""
        if (self.samples, self.seed) != (other.samples, other.seed):
            raise ValueError(
                f"tallies of different draws do not add up: {self.samples} with seed {self.seed}, "
                f"{other.samples} with seed {other.seed}"
            )
        self.counts.update(other.counts)
        for kind, numbers in other.questions.items():
            self.questions[kind] = self.questions.get(kind, set()) | numbers
        for key, draws in other.draws.items():
            self.draws[key] = self.draws[key] + draws if key in self.draws else draws.copy()

    def select(self, *prefix: str | int) -> Iterator[tuple[Key, int]]:
        """(rest of the key, count) of every key that begins with `prefix`, in order of the keys."""
        size = len(prefix)
        found = [(key[size:], count) for key, count in self.counts.items() if key[:size] == prefix]
        yield from sorted(found, key=lambda row: [(isinstance(part, str), part) for part in row[0]])

    def drawn(self, *key: str | int) -> np.ndarray:
        """[B + 1] int64: the count of a key that was counted with draws, and after it those draws."""
        none = np.zeros(self.samples, dtype=np.int64)
        return np.concatenate([[self.counts[key]], self.draws.get(key, none)])

    def num_questions(self, kind: str) -> int:
        """How many questions of a kind, or under the name of what was counted with draws, were counted."""
        return len(self.questions.get(kind, ()))

    def to_table(self) -> pa.Table:
        """The tally as it is stored (SCHEMA); a key stands there as a JSON list."""
        keys = sorted(self.counts, key=json.dumps)
        rows: list[tuple[Key, int, Any, list[int] | None]] = [
            (key, self.counts[key], self.draws.get(key), None) for key in keys
        ]
        rows += [((_QUESTIONS, kind), len(of), None, sorted(of)) for kind, of in sorted(self.questions.items())]
        names, counts, draws, questions = zip(*rows, strict=True) if rows else ((), (), (), ())
        columns = [[json.dumps(name, ensure_ascii=False) for name in names], counts, draws, questions]
        return pa.Table.from_arrays([pa.array(c, t) for c, t in zip(columns, SCHEMA.types, strict=True)], schema=SCHEMA)

    @classmethod
    def from_table(cls, table: pa.Table, *, samples: int, seed: int) -> Tally:
        """The tally that `to_table` gave."""
        tally = cls(samples=samples, seed=seed)
        for name, count, draws, questions in zip(*(table[column].to_pylist() for column in SCHEMA.names), strict=True):
            key: Key = tuple(json.loads(name))
            if key[0] == _QUESTIONS:
                tally.questions[str(key[1])] = set(questions)
                continue
            tally.counts[key] = count
            if draws is not None:
                tally.draws[key] = np.array(draws, dtype=np.int64)
        return tally
