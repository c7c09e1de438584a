"""Model cards: what is meant to be published says nothing about the machine."""

from distilbert_jax.hub import model_card


def test_settings_without_folders(tmp_path):
    settings = {
        "workdir": "/home/me/runs/first",
        "corpus.shard_dir": "gs://bucket/of/me/shards",
        "corpus.sources.text.paths": ["~/texts/a b.txt", "../more/*.jsonl"],
        "corpus.sources.own": "Own(folder='/home/me/own texts', limit=3)",
        "teacher.name_or_path": "google-bert/bert-base-uncased",
        "student.init_from.name_or_path": str(tmp_path),
        "model.name_or_path": "runs/first/export",
        "extra.name_or_path": "package:tiny",
        "optimizer.learning_rate": 5e-4,
        "student.layers": [0, 2],
    }
    assert model_card._format_settings(settings).splitlines() == [
        "workdir: first",
        "corpus.shard_dir: shards",
        "corpus.sources.text.paths: ('a b.txt', '*.jsonl')",
        "corpus.sources.own: Own(folder='own texts', limit=3)",
        "teacher.name_or_path: google-bert/bert-base-uncased",
        f"student.init_from.name_or_path: {tmp_path.name}",
        "model.name_or_path: export",
        "extra.name_or_path: package:tiny",
        "optimizer.learning_rate: 0.0005",
        "student.layers: (0, 2)",
    ]
