"""Two DeepSpeed workers have the gradients of one process that holds the whole batch, at any ZeRO stage, in one pass or two."""

from __future__ import annotations

import itertools
import os
import socket
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing
from torch import Tensor

from lrat_ray.config import ConfigError, Train
from lrat_ray.documents import DocumentStore
from lrat_ray.training import prepare
from lrat_ray.training.batches import plan_batch
from lrat_ray.training.encoder import load_encoder
from lrat_ray.training.engine import Stopwatch, backward, build_engine, deepspeed_config
from lrat_ray.training.loss import weighted_info_nce
from lrat_ray.training.tokens import TrainingTable
from tests.training.conftest import pair, write_pairs

KEY_BIAS = "attention.self.key.bias"
"""Adding one vector to all keys changes no attention weight, so this gradient is zero but for rounding."""

TOKENS_PER_FORWARD = 40  # several sub-batches a batch

CUT_UP = {"zero_optimization": {"stage3_param_persistence_threshold": 0}}
"""ZeRO-3 leaves weights of fewer than 100,000 numbers whole, which all of a tiny model's are, unless it is told not to."""

CASES: dict[str, dict[str, Any]] = {
    f"zero {stage}, {'two passes' if cached else 'one pass'}{', dropout' * (dropout > 0)}": {
        "zero_stage": stage,
        "deepspeed": CUT_UP,
        "gradient_caching": cached,
        "dropout": dropout,
    }
    for stage, cached, dropout in itertools.product((0, 1, 2, 3), (False, True), (0.0, 0.3))
    if dropout == 0 or stage == 0
}
CASES["gradient checkpointing"] = {"gradient_checkpointing": True}
CASES["offload"] = {"zero_stage": 2, "cpu_offload": True, "gradient_caching": True}
CASES["accumulation"] = {"accumulation_steps": 2, "zero_stage": 2}
CASES["accumulation, two passes"] = {"accumulation_steps": 2, "gradient_caching": True, "zero_stage": 3, "deepspeed": CUT_UP}
CASES["checkpointing, weights cut up"] = {"gradient_checkpointing": True, "zero_stage": 3, "deepspeed": CUT_UP}
CASES["batch-normalised weights"] = {"weighting": "batch_normalised"}
CASES["negatives of the same worker"] = {"cross_worker_negatives": False}
CASES["own negatives"] = {"in_batch_negatives": False, "gradient_caching": True}
BF16 = {"precision": "bf16", "bf16_parameters": True, "deepspeed": CUT_UP}
CASES |= {f"bf16, zero {stage}, one pass": {"zero_stage": stage, **BF16} for stage in (1, 2, 3)}
CASES |= {f"bf16, zero {stage}, two passes": {"zero_stage": stage, "gradient_caching": True, **BF16} for stage in (1, 2, 3)}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory, tiny_encoder: str, store_uri: str) -> tuple[Train, str]:
    """Section train of a tiny BERT on 16 pairs, and where its training table lies."""
    output = tmp_path_factory.mktemp("engine")
    train = Train(
        base_model=tiny_encoder,
        pairs=write_pairs(output / "pairs", [pair(i) for i in range(16)]),
        validation_share=0,
        batch_size=8,
        group_size=5,
        freeze_layers=1,
        precision="fp32",
        temperature=0.1,
    )
    prepare.write_table(str(output), train, DocumentStore.open(store_uri))
    return train, f"{output}/{prepare.TABLE}"


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _gradients(train: Train, table: str, rank: int, workers: int) -> dict[str, Tensor]:
    """What a worker's engine is about to step with, gathered where ZeRO cut it up."""
    from deepspeed.utils import safe_get_full_grad

    training_table = TrainingTable(table)
    engine = build_engine(load_encoder(train, device="cpu"), train, workers=workers)
    plans = [plan_batch(training_table, train, seed=1, epoch=0, place=i) for i in range(train.accumulation_steps)]
    torch.manual_seed(100 + rank)
    backward(engine, [p.take(training_table, rank, workers, TOKENS_PER_FORWARD) for p in plans], train, stopwatch=Stopwatch())
    named = {name: p for name, p in engine.module.named_parameters() if p.requires_grad}
    gradients = {name: (p.grad if train.zero_stage == 0 else safe_get_full_grad(p)).clone() for name, p in named.items()}
    engine.destroy()
    return gradients


def _worker(rank: int, workers: int, port: int, trains: dict[str, Train], table: str, result: str) -> None:
    os.environ.update(
        MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(workers)
    )
    dist.init_process_group("gloo")
    torch.set_num_threads(1)
    found = {case: _gradients(train, table, rank, workers) for case, train in trains.items()}
    if rank == 0:
        torch.save(found, result)
    dist.barrier()
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def of_two_workers(prepared: tuple[Train, str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Tensor]]:
    """Case -> the gradients that two DeepSpeed processes have after averaging."""
    train, table = prepared
    trains = {case: train.model_copy(update=changes) for case, changes in CASES.items()}
    result = str(tmp_path_factory.mktemp("gradients") / "two.pt")
    torch.multiprocessing.spawn(_worker, (2, _free_port(), trains, table, result), nprocs=2)
    return torch.load(result)


def _of_one_process(train: Train, table: str, *, workers: int) -> dict[str, Tensor]:
    """The gradient of the mean loss over batches (and over workers that see only their own documents), by torch alone."""
    training_table = TrainingTable(table)
    encoder = load_encoder(train, device="cpu")
    plans = [plan_batch(training_table, train, seed=1, epoch=0, place=i) for i in range(train.accumulation_steps)]
    dealt = workers if not train.cross_worker_negatives else 1
    parts = [plan.take(training_table, rank, dealt, 10_000) for plan in plans for rank in range(dealt)]
    for part in parts:
        queries = encoder(part.queries, part.query_cuts)
        documents = encoder(part.documents, part.document_cuts)
        loss = weighted_info_nce(
            queries,
            documents[torch.from_numpy(part.slots)],
            torch.from_numpy(part.positives),
            torch.from_numpy(part.left_out),
            torch.from_numpy(part.weights),
            temperature=train.temperature,
        )
        (loss / len(parts)).backward()
    return {name: p.grad for name, p in encoder.named_parameters() if p.requires_grad and p.grad is not None}


@pytest.mark.parametrize("case", [case for case in CASES if "dropout" not in case and "bf16" not in case])
def test_two_workers_have_the_gradient_of_one(
    case: str, prepared: tuple[Train, str], of_two_workers: dict[str, dict[str, Tensor]]
) -> None:
    train, table = prepared
    whole = _of_one_process(train.model_copy(update=CASES[case]), table, workers=2)
    assert max(float(g.abs().max()) for g in whole.values()) > 1e-2
    assert of_two_workers[case].keys() == whole.keys()
    for name, gradient in whole.items():
        if name.endswith(KEY_BIAS):
            assert float(gradient.abs().max()) < 1e-6
        torch.testing.assert_close(of_two_workers[case][name], gradient, rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.parametrize("case", [case for case in CASES if "bf16" in case])
def test_bf16_weights_have_the_gradient_of_fp32_but_for_rounding(
    case: str, prepared: tuple[Train, str], of_two_workers: dict[str, dict[str, Tensor]]
) -> None:
    train, table = prepared
    whole = _of_one_process(train, table, workers=2)
    found = {name: gradient.float() for name, gradient in of_two_workers[case].items()}
    difference = sum(float((found[name] - gradient).square().sum()) for name, gradient in whole.items()) ** 0.5
    size = sum(float(gradient.square().sum()) for gradient in whole.values()) ** 0.5
    assert difference / size < 0.05


def test_two_passes_drop_out_what_one_pass_does(of_two_workers: dict[str, dict[str, Tensor]]) -> None:
    one, two = of_two_workers["zero 0, one pass, dropout"], of_two_workers["zero 0, two passes, dropout"]
    without = of_two_workers["zero 0, one pass"]
    for name, gradient in one.items():
        torch.testing.assert_close(two[name], gradient, rtol=1e-4, atol=1e-6, msg=name)
    assert max(float((one[name] - without[name]).abs().max()) for name in one) > 1e-2  # it does drop out


def test_keys_of_deepspeed_pass_through() -> None:
    train = Train(zero_stage=3, deepspeed={"zero_optimization": {"overlap_comm": True}, "communication_data_type": "fp32"})
    config = deepspeed_config(train, workers=2)
    assert config["zero_optimization"] == {"stage": 3, "overlap_comm": True}
    assert config["communication_data_type"] == "fp32"


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"gradient_clipping": 0.5}, r"train.deepspeed.gradient_clipping: set train.max_grad_norm instead"),
        ({"zero_optimization": {"stage": 2}}, r"train.deepspeed.zero_optimization.stage: set train.zero_stage instead"),
        ({"zero_optimization": 2}, r"train.deepspeed.zero_optimization: 2 is no mapping of keys"),
        ({"fp16": {"enabled": True}}, r"train.deepspeed.fp16: set train.precision=bf16 instead"),
    ],
)
def test_keys_that_stand_in_section_train(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        deepspeed_config(Train(deepspeed=keys), workers=1)
