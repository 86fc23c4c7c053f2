"""The report: complete, honest, safe with the text of runs, and self-contained (in a real browser, where there is one)."""

from __future__ import annotations

import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from lrat_ray.evaluation.compare import summarize
from lrat_ray.evaluation.example import Example, find_change
from lrat_ray.evaluation.records import Outcome
from lrat_ray.evaluation.report import render_report
from lrat_ray.schema import SearchResult, Step, StepKind, Trajectory
from tests.evaluation.made import outcome, question, trajectory

_ATTACK = "<script>document.title='owned'</script><img src=x onerror=alert(1)>"
_CURVES = {"lrat-1": [{"step": step, "loss": 4.0 / step} for step in range(1, 5)]}


def _outcomes() -> list[Outcome]:
    arms = (("base", None), ("control", 1), ("lrat", 1))
    return [
        outcome(arm, f"q{i}", training_seed=seed, success=arm == "lrat" or i > 3, source="real" if i % 2 else "made")
        for arm, seed in arms
        for i in range(8)
    ]


def _page(rows: list[Outcome], after: Trajectory | None = None, **protocol: Any) -> str:
    summary = summarize(rows, samples=100, seed=0)
    summary["protocol"] = {"agents": ["V"], "simulated": [], "unjudged": [], **protocol}
    summary["timings_s"] = {"index base": 12.34}
    change = find_change(rows, baseline="base", arm="lrat")
    example = Example(question=question("q0"), before=trajectory("q0", "Rome"), after=after or trajectory("q0", "Paris"))
    return render_report(summary, curves=_CURVES, change=change, example=example if change.shown else None)


class _Tags(HTMLParser):
    """Every tag and attribute of a page, checked to be closed in order."""

    _VOID = frozenset({"meta", "link", "rect", "line", "circle", "polyline"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self._VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self._VOID:
            assert self.open.pop() == tag


def _text(page: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page.split("</style>")[1]))


def test_the_page_says_what_was_found_and_how() -> None:
    page = _page(_outcomes(), rollout_seeds=[1], hash="abc123")
    text = _text(page)
    assert "LRAT answers 100.0% of questions, base 50.0% (difference +50.0 points" in text
    assert "Against control" in text
    assert "hash abc123" in text
    assert "index base 12.3" in text
    assert "With LRAT, 4 runs that failed with base are solved, and 0 that were solved fail (training seed 1)." in text
    for part in ("By agent and by source", "source real", "✗ not solved : “Rome”", "✓ correct : “Paris”", "evidence"):
        assert part in text
    tags = _Tags(page)
    assert tags.open == []
    assert sum(tag == "h1" for tag, _ in tags.tags) == 1
    assert all(attrs.get("aria-label") for tag, attrs in tags.tags if tag == "svg")


def test_the_page_asks_nobody_for_anything() -> None:
    tags = _Tags(_page(_outcomes())).tags
    assert not {tag for tag, _ in tags} & {"script", "img", "iframe", "object", "form"}
    urls = [value for _, attrs in tags for name, value in attrs.items() if name in ("src", "href", "action", "xlink:href")]
    assert urls == ["data:,"]
    assert "url(" not in _page(_outcomes())


def test_text_of_runs_is_escaped_wherever_it_is_shown() -> None:
    results = [SearchResult(docid=_ATTACK, rank=1, title=_ATTACK)]
    kinds: tuple[StepKind, ...] = ("reasoning", "search", "browse", "other", "answer")
    steps = [
        Step(turn=0, kind=kind, text=_ATTACK, executed_query=_ATTACK, results=results, docid=_ATTACK, error=_ATTACK)
        for kind in kinds
    ]
    run = trajectory("q0", _ATTACK, steps=steps, status=_ATTACK)
    page = _page(_outcomes(), after=run, note=_ATTACK)
    assert not {tag for tag, _ in _Tags(page).tags} & {"script", "img"}
    assert page.count("&lt;script&gt;") >= 10


def test_long_thoughts_are_shortened_and_kept_whole() -> None:
    thought = " ".join(f"word{i}" for i in range(100))
    page = _page(_outcomes(), after=trajectory("q0", "Paris", steps=[Step(turn=0, kind="reasoning", text=thought)]))
    summary, rest = re.search(r'<details class="thought"><summary>(.*?) <span>.*?</summary>(.*?)</details>', page).groups()  # type: ignore[union-attr]
    assert summary + rest == thought
    assert len(summary) <= 220


def test_simulation_and_missing_verdicts_are_labelled() -> None:
    assert "rule-based stand-ins" not in _text(_page(_outcomes()))
    page = _text(_page(_outcomes(), simulated=["simulated-V"], unjudged=[{"arm": "lrat", "query_id": "q1"}]))
    assert "rule-based stand-ins (simulated-V), not language models" in page
    assert "tests the plumbing, not the paper’s claim" in page
    assert "1 answer could not be judged" in page


def test_without_a_gain_no_question_is_shown() -> None:
    rows = [outcome("base", "q1"), outcome("lrat", "q1", training_seed=1, success=False)]
    page = _text(_page(rows))
    assert "There is no question that base fails and LRAT solves" in page
    assert "0 runs that failed with base are solved, and 1 that was solved fails" in page
    assert "The interval lies below zero: on these questions LRAT did worse than base." in page


def test_base_alone_is_reported_without_a_comparison() -> None:
    rows = [outcome("base", "q1", evidence_recall=None)]
    assert "base answers 100.0% of questions" in _text(_page(rows))


def _browse(page: str, folder: Path) -> tuple[str, str]:
    """(DOM after loading, console and log) of a page in headless Chromium, which is kept from reaching any host."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("needs Chromium: no chromium, chromium-browser or google-chrome on the path")
    file = folder / "report.html"
    file.write_text(page, encoding="utf-8")
    quiet = ["--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
    offline = ["--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={folder / 'profile'}"]
    wanted = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--dump-dom", file.as_uri()]
    done = subprocess.run(
        [chromium, *quiet, *offline, *wanted],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return done.stdout, done.stderr


@pytest.mark.browser
def test_a_browser_shows_it_without_requests_or_errors(tmp_path: Path) -> None:
    dom, log = _browse(_page(_outcomes()), tmp_path)
    assert "LRAT answers 100.0% of questions" in dom
    assert "CONSOLE" not in log  # a request would be refused by the page's own policy, and the refusal logged here


@pytest.mark.browser
def test_a_browser_runs_and_requests_nothing_even_where_markup_slips_through(tmp_path: Path) -> None:
    slipped = "<script>document.title='owned'</script><img src='http://127.0.0.1:9/x.png'>"
    dom, log = _browse(_page(_outcomes()).replace("</main>", slipped + "</main>"), tmp_path)
    assert "<title>owned</title>" not in dom
    assert log.count("Content Security Policy directive") >= 2
