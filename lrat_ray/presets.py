"""Training recipes by name: what `train.preset` fills in, under whatever a configuration says itself."""

from __future__ import annotations

from typing import Any

_WEB_SEARCH = "Given a web search query, retrieve relevant passages that answer the query"

# LRAT, section "Implementation details": FlagEmbedding, 2 epochs, 32 queries on each of 8 GPUs with negatives across all of
# them, groups of 10 resampled with replacement, 512 tokens, tau 0.02, bf16 under DeepSpeed. Weight decay and clipping are what
# the Hugging Face trainer under FlagEmbedding does when nothing is said.
_PUBLISHED: dict[str, Any] = {
    "epochs": 2,
    "batch_size": 256,
    "group_size": 10,
    "fill_negatives": "resample",
    "learning_rate": 1e-6,
    "validation_share": 0.01,  # about 900 of the published 91,713 pairs
    "warmup_ratio": 0.1,
    "decay": "linear",
    "weight_decay": 0.0,
    "max_grad_norm": 1.0,
    "temperature": 0.02,
    "query_max_tokens": 512,
    "passage_max_tokens": 512,
    "freeze_layers": 0,
    "dropout": None,
    "precision": "bf16",
    "bf16_parameters": True,
    "gradient_checkpointing": True,
    "num_workers": 8,
    "use_gpu": True,
    "checkpoint_every_steps": 100,
}

PRESETS: dict[str, dict[str, Any]] = {
    "qwen3-embedding-0.6b": {**_PUBLISHED, "base_model": "Qwen/Qwen3-Embedding-0.6B", "zero_stage": 1},
    "qwen3-embedding-4b": {**_PUBLISHED, "base_model": "Qwen/Qwen3-Embedding-4B", "zero_stage": 2, "gradient_caching": True},
    "qwen3-embedding-8b": {**_PUBLISHED, "base_model": "Qwen/Qwen3-Embedding-8B", "zero_stage": 3, "gradient_caching": True},
    "multilingual-e5-large-instruct": {
        **_PUBLISHED,
        "base_model": "intfloat/multilingual-e5-large-instruct",
        # Its files name no prompts; the model card gives this form.
        "query_prompt": f"Instruct: {_WEB_SEARCH}\nQuery: ",
        "passage_prompt": "",
        "zero_stage": 1,
    },
    "all-minilm-l6-v2": {
        "base_model": "sentence-transformers/all-MiniLM-L6-v2",
        "epochs": 1,
        "batch_size": 16,
        "group_size": 5,
        "learning_rate": 5e-5,
        "query_max_tokens": 128,
        "passage_max_tokens": 96,
        "freeze_layers": 3,
        "dropout": 0.0,
        "precision": "bf16",
        "use_gpu": False,
        "num_workers": 1,
    },
}
"""Recipe name -> keys of section `train`. The published figures are those of LRAT (arXiv 2604.04949)."""
