"""A result is used again only for the settings, models and examples that it was made from."""

import dataclasses
import json
import pathlib
import shutil

import pytest

from distilbert_jax.cli.main import main
from distilbert_jax.config.experiment import Pretrained
from distilbert_jax.config.finetune import default_finetune_config
from distilbert_jax.data.tasks import registry
from distilbert_jax.evaluate.task import evaluate
from distilbert_jax.runtime import metrics_log
from distilbert_jax.train.finetune import loop

ROWS = [("the red dog", "pos"), ("an old tree", "neg"), ("a red cat runs", "pos"), ("the bird sleeps", "neg")]


def write_split(folder, split, rows):
    folder.mkdir(exist_ok=True)
    (folder / f"{split}.csv").write_text("text,label\n" + "".join(f"{text},{label}\n" for text, label in rows))


@pytest.fixture
def finetune(tmp_path, shallow_distilbert_folder):
    """finetune(**named): the results of one seed or more on the tables in `tmp_path`/data."""
    shutil.copytree(shallow_distilbert_folder, tmp_path / "model")
    for split in ("train", "dev"):
        write_split(tmp_path / "data", split, ROWS)

    def call(*, seeds=1, task=None, output="out"):
        task = task or registry.find_task("reviews", tmp_path / "data")
        config = default_finetune_config(
            task, task_dir=str(tmp_path / "data"), model=Pretrained(str(tmp_path / "model"))
        )
        config = dataclasses.replace(config, epochs=2, max_length=16)
        return loop.finetune(config, task, folder=tmp_path / output, seeds=seeds)

    return call


CHANGES = {
    "labels": ("dev", [*ROWS[:3], ("the bird sleeps", "pos")], "  dev: other labels"),
    "a text": ("dev", [*ROWS[:3], ("the bird runs", "neg")], "  dev: other texts"),
    "a row": ("dev", ROWS[:3], "  dev: 4 examples and 3 examples"),
    "train": ("train", [*ROWS[:3], ("the bird runs", "neg")], "  train: other texts"),
    "names": (
        "both",
        [(text, {"pos": "good", "neg": "bad"}[label]) for text, label in ROWS],
        "  train: other labels\n  dev: other labels",
    ),
}


def test_changed_inputs_are_refused(finetune, tmp_path):
    """Whether all seeds are finished or not, and the results are kept."""
    (result,) = finetune()
    assert set(result["examples"]) == {"train", "dev"}
    before = (tmp_path / "out" / "seed0.json").read_bytes()
    for split, rows, message in CHANGES.values():
        for name in ("train", "dev") if split == "both" else (split,):
            write_split(tmp_path / "data", name, rows)
        for seeds in (1, 2):
            with pytest.raises(ValueError, match=f"holds results of other examples.*:\n{message}$"):
                finetune(seeds=seeds)
        for name in ("train", "dev"):
            write_split(tmp_path / "data", name, ROWS)
    config = tmp_path / "model" / "config.json"
    original = config.read_text()
    config.write_text(original.replace("{", '{"finetuning_task": "x",', 1))
    with pytest.raises(ValueError, match=r"another config(.|\n)*sha256.model.config: .* in this folder, .* now$"):
        finetune()
    config.write_text(original)
    assert (tmp_path / "out" / "seed0.json").read_bytes() == before
    assert finetune() == [result]


def test_a_seed_from_elsewhere_is_refused(finetune, tmp_path):
    finetune()
    path = tmp_path / "out" / "seed1.json"
    stored = json.loads((tmp_path / "out" / "seed0.json").read_text())
    stored["examples"]["dev"]["labels"] = "0"
    path.write_text(json.dumps(stored))
    with pytest.raises(ValueError, match=f"^{path} holds results of other examples"):
        finetune(seeds=2)


def test_the_test_split_is_measured_once_and_gives_the_score(finetune, tmp_path, monkeypatch):
    """As for IMDb: dev chooses the epoch."""
    base = registry.find_task("reviews", tmp_path / "data")
    tests = [dataclasses.replace(example, label=1 - example.label) for example in base.read("dev")][:2]
    task = dataclasses.replace(base, test=("test",), read=lambda split: tests if split == "test" else base.read(split))
    measured, predict_split = [], loop.predict_split

    def predict(setup, params, split, *, label):
        measured.append(label)
        return predict_split(setup, params, split, label=label)

    monkeypatch.setattr(loop, "predict_split", predict)
    (result,) = finetune(task=task)
    assert measured == ["measuring dev", "measuring dev", "measuring test"]
    logged = metrics_log.read_log(tmp_path / "out" / "seed0", "eval")
    assert result["epochs"] == [entry["main_score"] for entry in logged]
    assert not any(name.startswith("test/") for entry in logged for name in entry)
    per_example = json.loads((tmp_path / "out" / "seed0" / "per_example.json").read_text())
    assert list(per_example) == ["test"]
    assert result["main_score"] == result["scores"]["test/mean"]
    assert set(result["examples"]) == {"train", "dev", "test"}
    card = (tmp_path / "out" / "seed0" / "model" / "README.md").read_text()
    assert "It was evaluated on test only once:" in card
    assert "| dev/accuracy |" in card
    assert "| test/accuracy |" in card
    model = Pretrained(str(tmp_path / "out" / "seed0" / "model"))
    assert evaluate(model, task, split="test", output_dir=tmp_path / "p")["mean"] == result["main_score"]


def test_predictions_of_two_models_are_both_kept(finetune, tmp_path):
    """Also of two folders with the same name, of changed examples, and with other settings."""
    finetune(seeds=2)
    task = registry.find_task("reviews", tmp_path / "data")
    models = [tmp_path / "out" / f"seed{seed}" / "model" for seed in (0, 1)]
    for repeat in (1, 2):
        for model in models:
            evaluate(Pretrained(str(model)), task, split="dev", output_dir=tmp_path / "p")
        assert len(list((tmp_path / "p").iterdir())) == 2, repeat
    evaluate(Pretrained(str(models[0])), task, split="train", output_dir=tmp_path / "p")
    evaluate(Pretrained(str(models[0])), task, split="dev", output_dir=tmp_path / "p", window_overlap=2)
    write_split(tmp_path / "data", "dev", ROWS[:3])
    evaluate(Pretrained(str(models[0])), task, split="dev", output_dir=tmp_path / "p")
    names = sorted(path.name for path in (tmp_path / "p").iterdir())
    assert len(names) == 5
    assert sum("-seed0-model-reviews-dev-" in name for name in names) == 3
    assert sum("-seed1-model-reviews-dev-" in name for name in names) == 1


def test_a_split_with_a_missing_label_says_so(finetune, tmp_path, capsys):
    finetune()
    write_split(tmp_path / "data", "part", [*ROWS, ("a dog", "")])
    task = registry.find_task("reviews", tmp_path / "data")
    assert evaluate(Pretrained(str(tmp_path / "out/seed0/model")), task, split="part", output_dir=tmp_path / "p") == {}
    assert "no metrics, because at least one example has no label" in capsys.readouterr().out


COMMANDS = {
    "finetune MODEL --task a=x --task a=y": "argument --task: the task a is given twice; name each task only once",
    "evaluate MODEL --task sst2 --task sst2": "argument --task: the task sst2 is given twice",
    "retention a=x b=y --task rte --task rte": "argument --task: the task rte is given twice",
    "finetune MODEL --task a=x --seeds 0": "argument --seeds: '0' is not a whole number of at least 1",
    "finetune MODEL --task a=x --seeds -3": "argument --seeds: '-3' is not a whole number of at least 1",
    "finetune MODEL --task a=x --seeds 1.5": "argument --seeds: '1.5' is not a whole number",
    "finetune MODEL --task a=x --window-overlap -1": "--window-overlap: '-1' is not a whole number of at least 0",
    "evaluate MODEL --task squad2=x --no-answer-threshold nan": "'nan' is not a number, such as 2.5",
}


@pytest.mark.parametrize("command", COMMANDS)
def test_wrong_usage_is_found_first(command, capsys):
    with pytest.raises(SystemExit) as ended:
        main(command.split())
    assert ended.value.code == 2
    assert COMMANDS[command] in capsys.readouterr().err


@pytest.mark.parametrize("command", ["finetune MODEL --task a=x", "evaluate {} --task a={}", "retention a=x b=y"])
def test_a_file_in_the_place_of_the_results_is_found_first(command, finetune, tmp_path, capsys, monkeypatch):
    pathlib.Path(tmp_path / "file").touch()
    words = command.format(tmp_path / "model", tmp_path / "data").split()
    assert main([*words, "--output-dir", str(tmp_path / "file")]) == 1
    assert f"error: {tmp_path}/file is not a folder, so nothing can be written to" in capsys.readouterr().err


def test_the_table_names_the_metric(finetune, tmp_path, capsys):
    command = ["finetune", str(tmp_path / "model"), "--task", f"reviews={tmp_path / 'data'}", "epochs=1"]
    assert main([*command, "max_length=16", "--output-dir", str(tmp_path / "table")]) == 0
    screen = capsys.readouterr().out
    assert "mean of accuracy and macro_f1" in screen.replace("\n", " ")
    assert "metric" in screen
