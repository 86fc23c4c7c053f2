from pathlib import Path

import numpy as np
import pytest

from lrat_ray.config import ConfigError
from lrat_ray.documents import passage
from lrat_ray.models import prompt, resolve_model
from lrat_ray.retrieval.encoder import _batches, encode_texts, load_encoder
from lrat_ray.schema import Document
from lrat_ray.sections import QUICKSTART_ENCODER
from tests.retrieval.conftest import corpus_rows

TEXTS = [passage(Document(**row)) for row in corpus_rows()] + ["one", "word " * 400]


@pytest.fixture(scope="module")
def encoder():
    return load_encoder(resolve_model(QUICKSTART_ENCODER), precision="fp32")


def test_vectors_are_those_of_sentence_transformers(encoder) -> None:
    vectors = encode_texts(encoder, TEXTS, role="passage", tokens_per_batch=300)
    expected = encoder.encode(TEXTS, normalize_embeddings=True, show_progress_bar=False)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, expected, atol=2e-6)


def test_bf16_has_cosine_above_999_to_fp32(encoder) -> None:
    exact = encode_texts(encoder, TEXTS, role="passage")
    rounded = encode_texts(load_encoder(resolve_model(QUICKSTART_ENCODER), precision="bf16"), TEXTS, role="passage")
    np.testing.assert_allclose(np.linalg.norm(rounded, axis=1), 1, atol=1e-5)
    assert (exact * rounded).sum(axis=1).min() >= 0.999


def test_no_texts_give_no_vectors(encoder) -> None:
    assert encode_texts(encoder, [], role="query").shape == (0, 384)


def test_prompts_come_from_the_model(encoder) -> None:
    assert prompt(encoder, "query") == prompt(encoder, "passage") == ""
    encoder.prompts = {"query": "find: ", "document": ""}
    try:
        asked = encode_texts(encoder, ["a violin"], role="query")
        np.testing.assert_allclose(asked, encode_texts(encoder, ["find: a violin"], role="passage"), atol=1e-6)
    finally:
        encoder.prompts = {}


def test_max_tokens_cuts_but_never_raises_the_models_limit() -> None:
    folder = resolve_model(QUICKSTART_ENCODER)
    assert load_encoder(folder, precision="fp32", max_tokens=32).max_seq_length == 32
    assert load_encoder(folder, precision="fp32", max_tokens=4096).max_seq_length == 256


def test_batches_fit_the_budget_with_their_padding() -> None:
    lengths = np.array([5, 90, 10, 30, 30, 200])
    batches = list(_batches(lengths, 100))
    # 200 is alone although it is over the budget; 90 with 30 would be padded to 180; 3 x 30 = 90 fits, a fourth would not.
    assert [lengths[rows].tolist() for rows in batches] == [[200], [90], [30, 30, 10], [5]]


def test_a_folder_that_is_no_encoder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no modules.json"):
        load_encoder(str(tmp_path), precision="fp32")
