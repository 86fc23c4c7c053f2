"""The whole loop: index -> serve -> rollout -> mine -> judge -> weigh -> train -> index -> promote -> rollout -> evaluate.

Every step is a stage with an artifact of its own under the output directory, so that an interrupted run continues at the
step, and inside it at the part, where it stopped. One retriever service runs throughout; each arm's release is promoted into
it, and the agents reach it, like the LLM, over HTTP only.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from lrat_ray import artifacts, documents, questions
from lrat_ray.agents import rollout
from lrat_ray.artifacts import Manifest, join
from lrat_ray.config import Config, Run
from lrat_ray.evaluation import evaluate
from lrat_ray.memory import PeakMemory
from lrat_ray.mining import pipeline as mining
from lrat_ray.retrieval import index, service
from lrat_ray.retrieval.client import promote
from lrat_ray.training import control, loop

_SIMULATED = "simulated"
_TRAINED = ("control", "naive", "filter", "lrat")


@dataclass(frozen=True)
class Arm:
    """A retriever under comparison: the name it is reported by and, if its encoder was trained, the training seed."""

    name: str
    training_seed: int | None = None

    @property
    def release(self) -> str:
        """Name of its release, and of everything made with it."""
        return self.name if self.training_seed is None else f"{self.name}-{self.training_seed}"


def arms(config: Config) -> list[Arm]:
    """Every arm of an experiment, once per training seed where it is trained, in the order in which they are evaluated."""
    return [
        Arm(name, seed)
        for name in config.flywheel.arms
        for seed in (config.train.seeds if name.removeprefix("hybrid-") in _TRAINED else (None,))
    ]


def run(config: Config) -> Manifest:
    """One round of the flywheel on `corpus`, `questions.train` and `questions.eval`; writes summary.json and report.html.

    Raises ConfigError or ArtifactError for what is missing or unfit, before any work that depends on it.
    """
    output = config.require("output", "the experiment needs a directory to write to")
    inputs: dict[str, str | None] = {
        "corpus": config.require("corpus", "the loop needs a corpus to search"),
        "questions.train": config.require("questions.train", "agents need questions whose trajectories are mined"),
        "questions.eval": config.require("questions.eval", "arms are compared on held-out questions"),
    }
    sections = ("mining", "judge", "train", "index", "agent", "rollout", "evaluate", "flywheel", "llm")
    work = artifacts.begin(output, kind="flywheel", config=config.only(*sections), inputs=inputs, force=config.force)
    if work.manifest:
        return work.manifest
    with PeakMemory() as memory:
        round_ = _Round(config.replace(force=False), output)
        evaluation = round_.play()
    summary = {
        **artifacts.read_json(join(evaluation.uri, "summary.json")),
        "timings_s": round_.timings_s,
        "peak_memory_mb": memory.peak_mb,
    }
    work.write_json("summary.json", summary)
    evaluate.report(evaluation.uri, join(output, "report.html"), summary=summary, curves=round_.curves)
    return work.finish(
        parts=["summary.json", "report.html"],
        rows=evaluation.rows,
        metrics={"arms": len(summary["arms"]), "peak_memory_mb": memory.peak_mb},
        timings_s=round_.timings_s,
        protocol=summary["protocol"],
    )


class _Round:
    """One round: where its artifacts lie, and the two services, which start when a step first needs them."""

    def __init__(self, config: Config, output: str):
        self.config, self.output = config, output
        self.arms = arms(config)
        self.timings_s: dict[str, float] = {}
        self.curves: dict[str, list[dict[str, float]]] = {}
        self._console = Console(stderr=True, highlight=False)
        self._began = time.monotonic()
        self._retriever_url: str | None = None
        self._llm_url: str | None = None
        self._served: str | None = None

    def play(self) -> Manifest:
        """Run every step; returns the manifest of the evaluation."""
        self.documents = self._step("documents", documents.build(str(self.config.corpus), self._at("documents"))).uri
        self._import_questions()
        base = self._index(Arm("base"), encoder=self.config.train.base_model)
        trajectories = self._rollout(
            base, "train", self.train_questions, (self.config.agent.mined,), self.config.rollout.train_seeds
        )
        self._mine(trajectories)
        runs = [self._evaluate_arm(arm) for arm in self.arms]
        return self._step(
            "evaluate",
            evaluate.run(
                self._config("evaluation", questions__eval=self.eval_questions, evaluate__runs=tuple(runs), **self._llm())
            ),
        )

    def _import_questions(self) -> None:
        """Both question sets, evaluation after training: a question that shares evidence with training is rejected."""
        simulated = self.config.llm.base_url is None
        train = questions.build(
            str(self.config.questions.train),
            self._at("questions", "train"),
            documents=self.documents,
            need_subquestions=simulated,
        )
        held_out = questions.build(
            str(self.config.questions.eval),
            self._at("questions", "eval"),
            documents=self.documents,
            need_subquestions=simulated,
            disjoint_from=train.uri,
        )
        self.train_questions, self.eval_questions = train.uri, held_out.uri
        self._step("questions (train)", train)
        self._step("questions (eval)", held_out)

    def _mine(self, trajectories: str) -> None:
        """Trajectories -> browses -> verdicts -> weighted pairs."""
        self.trajectories = trajectories
        config = self._config("pairs", trajectories=trajectories, corpus=self.documents)
        self.mined = self._step("mine", mining.mine(config.replace(output=self._at("mined")))).uri
        judged = mining.judge(config.replace(output=self._at("judged"), **self._llm()), self.mined)
        self.judged = self._step("judge", judged).uri
        self.pairs = self._step("weigh", mining.weigh(config, trajectories, self.judged)).uri

    def _evaluate_arm(self, arm: Arm) -> Run:
        """Make the arm's release, promote it and let the agents answer the evaluation questions with it."""
        release = self._release(arm)
        agent, seeds = self.config.agent.names, self.config.rollout.seeds
        trajectories = self._rollout(release, arm.release, self.eval_questions, agent, seeds)
        return Run(arm=arm.name, trajectories=trajectories, training_seed=arm.training_seed)

    def _release(self, arm: Arm) -> str:
        if arm.name.startswith("hybrid-"):
            dense = self._release(Arm(arm.name.removeprefix("hybrid-"), arm.training_seed))
            output = self._at("releases", arm.release)
            return self._step(f"index {arm.release}", index.fuse(dense, self._release(Arm("bm25")), output)).uri
        if arm.name in _TRAINED:
            return self._index(arm, encoder=self._train(arm))
        return self._index(arm, encoder=self.config.train.base_model)

    def _index(self, arm: Arm, encoder: str) -> str:
        kind = "bm25" if arm.name == "bm25" else "flat"
        config = self._config("releases", arm.release, corpus=self.documents, index__kind=kind, index__encoder=encoder)
        return self._step(f"index {arm.release}", index.run(config)).uri

    def _train(self, arm: Arm) -> str:
        """The arm's encoder: the same loop and steps on the arm's pairs."""
        pairs, corpus = self._training_data(arm)
        config = self._config("encoders", arm.release, train__pairs=pairs, corpus=corpus, train__seeds=(arm.training_seed,))
        manifest = self._step(f"train {arm.release}", loop.run(config))
        self.curves[arm.release] = manifest.metrics["curve"]
        return manifest.uri

    def _training_data(self, arm: Arm) -> tuple[str, str]:
        """(pairs, documents) that the arm is trained on."""
        if arm.name == "lrat":
            return self.pairs, self.documents
        if arm.name == "control":
            rows = artifacts.read_manifest(self.pairs).metrics["relevant"]
            count = min(rows, self.config.train.max_pairs or rows)
            config = self._config("control-pairs", arm.release, corpus=self.documents)
            manifest = control.build(config, pairs=count, seed=int(arm.training_seed or 0))
            return manifest.uri, join(manifest.uri, "documents")
        # The ablation: naive takes every browse and any unbrowsed candidate, filter adds the judge; neither weighs.
        config = self._config(
            "ablation-pairs",
            arm.name,
            trajectories=self.trajectories,
            corpus=self.documents,
            mining__weights=False,
            mining__strict_negatives=self.config.mining.strict_negatives and arm.name == "filter",
        )
        browses = self.judged if arm.name == "filter" else self.mined
        return mining.weigh(config, self.trajectories, browses).uri, self.documents

    def _rollout(self, release: str, name: str, asked: str, agents: tuple[str, ...], seeds: tuple[int, ...]) -> str:
        output = self._at("rollouts", name)
        changes: dict[str, Any] = {}
        if not artifacts.exists(join(output, artifacts.MANIFEST)):
            changes = {"rollout__retriever_url": self._serve(release), **self._llm()}
        config = self._config("rollouts", name, questions__eval=asked, agent__names=agents, rollout__seeds=seeds, **changes)
        return self._step(f"rollout {name}", rollout.run(config)).uri

    def _serve(self, release: str) -> str:
        """The retriever's URL, serving this release: deployed on first use, promoted from then on."""
        if self._retriever_url is None:
            config = self.config.replace(serve__release=release)
            self._retriever_url = service.deploy(config, route_prefix="/retriever")
        elif self._served != release:
            promote(self._retriever_url, release)
        self._served = release
        return self._retriever_url

    def _llm(self) -> dict[str, str]:
        """Where the LLM answers: the configured endpoint, or the simulated LLM, started on first use."""
        if self.config.llm.base_url is not None:
            return {}
        if self._llm_url is None:
            from lrat_ray.quickstart import llm_service

            self._llm_url = llm_service.deploy(self.config, [self.train_questions, self.eval_questions])
        return {"llm__base_url": self._llm_url}

    def _at(self, *names: str) -> str:
        return join(self.output, *names)

    def _config(self, *place: str, **changes: Any) -> Config:
        return self.config.replace(output=self._at(*place), **changes)

    def _step(self, name: str, manifest: Manifest) -> Manifest:
        """Note a finished step. Its time is the stage's own, so that a continued run reports the whole of it."""
        first = name not in self.timings_s
        self.timings_s[name] = manifest.timings_s["total"]
        if first:
            rows = ", ".join(f"{count:,} {what}" for what, count in manifest.rows.items() if count)
            self._console.print(
                f"[{time.monotonic() - self._began:6.1f} s] {name}: {rows} ({manifest.timings_s['total']:.1f} s)"
            )
        return manifest
