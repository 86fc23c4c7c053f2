"""Configuration is strict: every key is known, every error names the key and the fix."""

from pathlib import Path

import pytest

from lrat_ray.config import Config, ConfigError, load_config


def test_file_then_overrides_then_flags(tmp_path):
    path = tmp_path / "experiment.yaml"
    path.write_text("train:\n  learning_rate: 1.0e-6\n  epochs: 2\ncorpus: a.parquet\n")
    config = load_config(str(path), ["train.learning_rate=2e-5", "train.seeds=[1,2]"], flags={"corpus": "b.parquet"})
    assert config.train.learning_rate == 2e-5
    assert config.train.epochs == 2
    assert config.train.seeds == (1, 2)
    assert config.corpus == str(Path.cwd() / "b.parquet")


def test_file_wins_over_defaults(tmp_path):
    path = tmp_path / "experiment.yaml"
    path.write_text("train: {max_pairs: 10}\n")
    assert load_config(str(path), defaults={"train": {"max_pairs": 640, "epochs": 3}}).train.model_dump()["max_pairs"] == 10


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.learning_rat=1", "unknown config key 'train.learning_rat'; did you mean 'train.learning_rate'"),
        ("learning_rate=1", "did you mean 'train.learning_rate'"),
        ("zzz=1", "unknown config key 'zzz'; known sections: corpus"),
        ("train.learning_rate", "'train.learning_rate' is not an override; write key=value"),
        ("train.batch_size=-1", "config key train.batch_size: .* greater than 0"),
        ("mining.protocol=windw", "config key mining.protocol: .*'window' or 'reference'"),
        ("judge.pattern=(", "judge.pattern '\\(' is not a regular expression"),
        ("flywheel.arms=[lrat]", "flywheel.arms must hold 'base'"),
        ("train=3", "config key train"),
        ("train.seeds=[]", "config key train.seeds: .*at least 1 item"),
        ("train.seeds=[1,1]", "config key train.seeds: holds a value twice"),
        ("flywheel.arms=[base,lrat,lrat]", "holds a value twice"),
    ],
)
def test_bad_overrides_are_named(override, message):
    with pytest.raises(ConfigError, match=message):
        load_config(None, [override])


def test_unknown_key_in_a_file_is_named(tmp_path):
    path = tmp_path / "experiment.yaml"
    path.write_text("mining:\n  protokol: window\n")
    with pytest.raises(ConfigError, match="unknown config key 'mining.protokol'; did you mean 'mining.protocol'"):
        load_config(str(path))


@pytest.mark.parametrize("text", ["- a\n", "a: [\n"])
def test_files_that_are_no_mapping_are_refused(tmp_path, text):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"config file .*bad.yaml"):
        load_config(str(path))


def test_missing_file():
    with pytest.raises(ConfigError, match="config file nowhere.yaml does not exist"):
        load_config("nowhere.yaml")


@pytest.mark.parametrize("text", ["s3://bucket/a:b", "no|yes", "{x}", "does(n't| not)", "12:30"])
def test_strings_that_look_like_yaml_stay_strings(text):
    assert load_config(None, [f"judge.model={text}"]).judge.model == text


def test_replace_changes_nested_keys_and_is_checked():
    config = Config().replace(train__seeds=(3,), output="s3://x")
    assert config.train.seeds == (3,)
    assert config.output == "s3://x"
    with pytest.raises(ConfigError):
        Config().replace(train__seed=(3,))


def test_local_paths_are_absolute_and_other_names_stay(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "encoder").mkdir()
    names = ["corpus=c", "output=s3://bucket/x", "index.encoder=encoder", "train.base_model=intfloat/e5"]
    config = load_config(None, names)
    assert config.corpus == str(tmp_path / "c")
    assert config.output == "s3://bucket/x"
    assert config.index.encoder == str(tmp_path / "encoder")
    assert config.train.base_model == "intfloat/e5"


def test_only_picks_what_a_stage_depends_on():
    assert Config().only("train.seeds", "corpus") == {"train": {"seeds": [1]}, "corpus": None}


def test_require_says_how_to_set_it():
    with pytest.raises(ConfigError, match="serve.release is not set: no release.*serve.release=VALUE"):
        Config().require("serve.release", "no release")
