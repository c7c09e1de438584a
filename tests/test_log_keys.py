"""The keys of logged numbers: each once, and documented."""

from distilbert_jax import log_keys
from tests.conftest import ROOT


def test_the_table_in_docs(prove):
    """docs/log_keys.md is written again by `make prove`; otherwise it must be what log_keys.py says."""
    path = ROOT / "docs" / "log_keys.md"
    if prove:
        path.write_text(log_keys.format_log_keys(), encoding="utf-8")
    assert path.read_text(encoding="utf-8") == log_keys.format_log_keys()


def test_every_key_is_defined_once_and_listed():
    kinds = (log_keys.LogKey, log_keys.LogKeyFamily)
    defined = [value for value in vars(log_keys).values() if isinstance(value, kinds)]
    listed = {*log_keys.TRAIN_KEYS, *log_keys.EVAL_KEYS, *log_keys.FINETUNE_EVAL_KEYS}
    assert set(defined) == listed
    names = [key.name if isinstance(key, log_keys.LogKey) else key.pattern for key in defined]
    assert len(set(names)) == len(names)
    assert all(key.meaning.endswith(".") for key in defined)


def test_a_family_makes_keys_and_takes_them_apart():
    assert log_keys.LOSS_SHARE.name(loss="soft") == "loss_share/soft"
    assert log_keys.LOSS_SHARE.match("loss_share/soft") == {"loss": "soft"}
    assert log_keys.LOSS_SHARE.match("loss/soft") is None
    assert log_keys.LOSS_MEAN.match("loss") is None
    assert log_keys.TASK_SCORE.match("dev/f1") == {"split": "dev", "metric": "f1"}
    assert log_keys.find("loss", log_keys.TRAIN_KEYS) is log_keys.LOSS
    assert log_keys.find("loss/soft", log_keys.TRAIN_KEYS) is log_keys.LOSS_MEAN
    assert log_keys.find("accuracy", log_keys.TRAIN_KEYS) is None
