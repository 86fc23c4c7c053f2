"""Progress speaks every few seconds, not at every step."""

import logging

from lrat_ray import progress
from lrat_ray.progress import Progress


def test_lines_come_every_few_seconds_with_rate_and_time_left(caplog, monkeypatch):
    now = 100.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    with caplog.at_level(logging.INFO, logger="lrat_ray"):
        meter = Progress("encode", 1000, "documents")
        for second in range(1, 12):
            now = 100.0 + second
            meter.update(10 * second)
    assert [record.getMessage() for record in caplog.records] == [
        "encode: 50 of 1000 documents, 10.0/s, 95 s left",
        "encode: 100 of 1000 documents, 10.0/s, 90 s left",
    ]
