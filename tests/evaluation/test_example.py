"""The run that is shown before and after is picked by a rule."""

from __future__ import annotations

from lrat_ray.evaluation.example import find_change
from tests.evaluation.made import outcome


def test_the_largest_gain_in_recall_then_the_fewest_steps_is_shown() -> None:
    rows = [outcome("base", f"q{i}", success=i == 4, evidence_recall=0.5) for i in range(5)]
    rows += [
        outcome("lrat", "q0", training_seed=2, success=True, evidence_recall=1.0, steps=1),  # not the first training seed
        outcome("lrat", "q0", training_seed=1, success=True, evidence_recall=0.5),
        outcome("lrat", "q1", training_seed=1, success=True, evidence_recall=1.0, steps=9),
        outcome("lrat", "q2", training_seed=1, success=True, evidence_recall=1.0, steps=5),
        outcome("lrat", "q3", training_seed=1, success=None, evidence_recall=1.0),
        outcome("lrat", "q4", training_seed=1, success=False),
    ]
    change = find_change(rows, baseline="base", arm="lrat")
    assert (change.gained, change.lost) == (3, 1)
    assert change.shown is not None
    before, after = change.shown
    assert (before.arm, before.query_id, after.arm, after.query_id, after.steps) == ("base", "q2", "lrat", "q2", 5)


def test_nothing_is_shown_when_nothing_was_gained() -> None:
    change = find_change([outcome("base"), outcome("lrat", training_seed=1)], baseline="base", arm="lrat")
    assert (change.gained, change.lost, change.shown) == (0, 0, None)
