"""The trainers that tests/perf/training.py runs beside ours, each in a process that takes its turns when it is told to.

Needs nothing of this project, so that a peer may run in an environment of its own:

    PYTHON tests/perf/training_peers.py NAME FOLDER

FOLDER holds settings.json, columns.parquet (a row per example: query, positive, negative_1, ...; in the order of training) and
pairs.jsonl (the same for FlagEmbedding). Every trainer takes the rows in order, `batch_size` a step; no step is saved or
evaluated in between, the last weights go to FOLDER/models/NAME. All of them freeze what we freeze, and take our learning rates.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

Settings = dict[str, Any]


class Turns:
    """Steps in turns: says that it is ready, then for every line "N" on stdin takes N steps and answers one JSON line.

    What else the process prints goes to stderr. `start` comes before the first step, `step` after each one.
    """

    def __init__(self) -> None:
        self._answers = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)
        self._left = 0
        self._losses: list[float] = []

    def start(self) -> None:
        self._loaded_mb = peak_mb()
        self._answer({"ready": True})

    def step(self, loss: float) -> None:
        self._losses.append(loss)
        self._left -= 1
        if self._left == 0:
            self._answer(
                {
                    "wall_s": time.perf_counter() - self._began,
                    "cpu_s": time.process_time() - self._cpu_began,
                    "losses": self._losses,
                    "peak_mb": peak_mb(),
                    "loaded_mb": self._loaded_mb,
                }
            )

    def _answer(self, answer: dict[str, Any]) -> None:
        print(json.dumps(answer), file=self._answers, flush=True)
        self._left = int(sys.stdin.readline() or 1_000_000)  # at the end of stdin nobody asks any more: run out the steps
        self._losses = []
        self._began, self._cpu_began = time.perf_counter(), time.process_time()


def peak_mb() -> float:
    """The most memory that this process has held (RSS). The system's ru_maxrss would start from that of its parent."""
    with open("/proc/self/status", encoding="ascii") as status:
        fields = dict(line.split(":", 1) for line in status)
    return int(fields["VmHWM"].split()[0]) / 1024


def freeze(transformer: Any, layers: int) -> None:
    """Freeze the embeddings, the lowest layers and the pooler (which no embedding depends on) of a BERT model."""
    for module in [transformer.embeddings, *transformer.encoder.layer[:layers], transformer.pooler]:
        if module is not None:
            module.requires_grad_(False)


def save(transformer: Any, settings: Settings, folder: str) -> None:
    transformer.save_pretrained(os.path.join(folder, "models", settings["name"]))


def set_dropout(model: Any) -> None:
    import torch

    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0


def in_turns(turns: Turns, losses: list[float], rates: list[float]) -> Any:
    """A callback for transformers' Trainer; `losses` is where the loss of each step is put, `rates` are its learning rates."""
    from transformers import TrainerCallback

    class InTurns(TrainerCallback):
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            turns.start()

        def on_step_begin(self, _args: Any, state: Any, _control: Any, *, optimizer: Any, **__: Any) -> None:
            for group in optimizer.param_groups:
                group["lr"] = rates[state.global_step]

        def on_step_end(self, *_: Any, **__: Any) -> None:
            turns.step(losses.pop())

    return InTurns()


def training_arguments(settings: Settings, folder: str) -> dict[str, Any]:
    """What both peers' trainers share: transformers' TrainingArguments equal to section `train` of ours."""
    return {
        "output_dir": os.path.join(folder, "scratch"),
        "max_steps": settings["steps"],
        "per_device_train_batch_size": settings["batch_size"],
        "lr_scheduler_type": "constant",  # `in_turns` sets the rate of each step
        "weight_decay": 0.0,
        "max_grad_norm": settings["max_grad_norm"],
        "bf16": settings["precision"] == "bf16",
        "use_cpu": True,
        "save_strategy": "no",
        "logging_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "seed": 1,
    }


def sentence_transformers(settings: Settings, folder: str, turns: Turns, *, cached: bool) -> None:
    """SentenceTransformerTrainer with MultipleNegativesRankingLoss, or its cached kind."""
    import torch
    from datasets import Dataset
    from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
    from sentence_transformers.sentence_transformer.losses import (
        CachedMultipleNegativesRankingLoss,
        MultipleNegativesRankingLoss,
    )
    from torch.utils.data import BatchSampler, SequentialSampler

    model = SentenceTransformer(
        settings["model"], device="cpu", model_kwargs={"dtype": torch.float32, "attn_implementation": settings["attention"]}
    )
    model.max_seq_length = settings["max_tokens"]
    set_dropout(model)
    freeze(model.transformers_model, settings["freeze_layers"])
    kind = CachedMultipleNegativesRankingLoss if cached else MultipleNegativesRankingLoss
    options = {"mini_batch_size": settings["mini_batch_size"]} if cached else {}
    loss = kind(model, scale=1 / settings["temperature"], **options)
    losses: list[float] = []
    loss.register_forward_hook(lambda _module, _inputs, output: losses.append(output.item()))
    trainer = SentenceTransformerTrainer(
        model=model,
        args=SentenceTransformerTrainingArguments(
            **training_arguments(settings, folder),
            batch_sampler=lambda dataset, batch_size, drop_last, **_: BatchSampler(
                SequentialSampler(dataset), batch_size, drop_last
            ),
        ),
        train_dataset=Dataset.from_parquet(os.path.join(folder, "columns.parquet"), cache_dir=os.path.join(folder, "cache")),
        loss=loss,
        callbacks=[in_turns(turns, losses, settings["rates"])],
    )
    trainer.train()
    save(model.transformers_model, settings, folder)


def flagembedding(settings: Settings, folder: str, turns: Turns) -> None:
    """FlagEmbedding's trainer for encoders (finetune.embedder.encoder_only.base), one process, no DeepSpeed."""
    from FlagEmbedding.finetune.embedder.encoder_only import base
    from torch.utils.data import SequentialSampler

    class InOrder(base.EncoderOnlyEmbedderTrainer):
        def _get_train_sampler(self, *_: Any) -> Any:
            return SequentialSampler(self.train_dataset)

    class Runner(base.EncoderOnlyEmbedderRunner):
        def load_trainer(self) -> Any:
            set_dropout(self.model)
            freeze(self.model.model, settings["freeze_layers"])
            self.model.model.set_attn_implementation(settings["attention"])
            losses: list[float] = []
            self.model.register_forward_hook(lambda _module, _inputs, output: losses.append(output.loss.item()))
            return InOrder(
                model=self.model,
                args=self.training_args,
                train_dataset=self.train_dataset,
                data_collator=self.data_collator,
                processing_class=self.tokenizer,
                callbacks=[in_turns(turns, losses, settings["rates"])],
            )

    runner = Runner(
        model_args=base.EncoderOnlyEmbedderModelArguments(model_name_or_path=settings["model"]),
        data_args=base.EncoderOnlyEmbedderDataArguments(
            train_data=[os.path.join(folder, "pairs.jsonl")],
            cache_path=os.path.join(folder, "cache"),
            train_group_size=settings["group_size"],
            query_max_len=settings["max_tokens"],
            passage_max_len=settings["max_tokens"],
        ),
        training_args=base.EncoderOnlyEmbedderTrainingArguments(
            **training_arguments(settings, folder),
            temperature=settings["temperature"],
            sentence_pooling_method="mean",
            normalize_embeddings=True,
            negatives_cross_device=False,
            sub_batch_size=settings["sub_batch_size"],
        ),
    )
    runner.trainer.train()
    save(runner.model.model, settings, folder)


PEERS: dict[str, Callable[[Settings, str, Turns], None]] = {
    "sentence_transformers": lambda *given: sentence_transformers(*given, cached=False),
    "sentence_transformers_cached": lambda *given: sentence_transformers(*given, cached=True),
    "flagembedding": flagembedding,
}


def main() -> None:
    turns = Turns()
    name, folder = sys.argv[1:]
    settings = read_settings(name, folder)
    PEERS[settings["kind"]](settings, folder, turns)


def read_settings(name: str, folder: str) -> Settings:
    """The settings of one contestant: those of all of them, and its own."""
    with open(os.path.join(folder, "settings.json"), encoding="utf-8") as file:
        settings = json.load(file)
    return {**settings["of_all"], **settings["of"][name], "name": name}


if __name__ == "__main__":
    main()
