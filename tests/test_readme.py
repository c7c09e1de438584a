"""The README is true to the letter: every command in it runs, or runs tiny where it would take long."""

import re
import shlex
import shutil
import subprocess
import tomllib

import pytest

from distilbert_jax.cli.commands import distill
from distilbert_jax.cli.main import main
from distilbert_jax.cli.parser import make_parser
from distilbert_jax.config import experiment_file
from distilbert_jax.devices import processes
from distilbert_jax.hub import smoke
from distilbert_jax.io import remote_folder
from tests.conftest import ROOT, tiny_config

README = (ROOT / "README.md").read_text()
PYTHON = ".venv/bin/python -m distilbert_jax "


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


COMMANDS = [line for block in blocks("sh") for line in block.splitlines()]


def test_it_opens_with_the_two_commands():
    assert COMMANDS[:2] == ["make quickstart", "make test"]


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("make ")])
def test_make(command):
    """What make would run names files and commands that there are; the longest of them run in other tests."""
    done = subprocess.run([*shlex.split(command), "-n", "--always-make"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    steps = [shlex.split(line) for line in done.stdout.replace("\\\n", " ").splitlines()]
    distils = [step[3:] for step in steps if step[1:3] == ["-m", "distilbert_jax"]]
    for _, file, *overrides in distils:
        experiment_file.apply_overrides(experiment_file.load_experiment(ROOT / file), overrides)
    assert len(distils) == {"make quickstart": 2}.get(command, "TEACHER=" in command)


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("pip ")])
def test_pip(command):
    """Every extra and pin that is named is one."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    words = shlex.split(command)
    if "-e" in words:
        extras = re.findall(r"\w+", words[-1].partition("[")[2])
        assert set(extras) <= set(project["optional-dependencies"])
        return
    assert " ".join(words[2:]) in (ROOT / "Makefile").read_text()


TASKS = [
    c for c in COMMANDS if c.startswith(tuple(f"{PYTHON}{name} " for name in ("finetune", "evaluate", "retention")))
]

SEVERAL = [c for c in COMMANDS if "--process" in c or "--cluster" in c]


@pytest.mark.parametrize("command", SEVERAL)
def test_several_processes(command):
    """That they make one run, or one corpus, is tested in tests/devices/test_processes.py, in
    tests/runtime/test_remote_run.py and in tests/data/shards/test_ray_engine.py, with the same commands on tiny models.
    """
    args = make_parser().parse_args(shlex.split(command.removeprefix(PYTHON)))
    experiment = experiment_file.apply_overrides(experiment_file.load_experiment(ROOT / args.file), args.overrides)
    remote_folder.open_remote_folder(experiment.workdir)
    if args.run is distill.run:
        processes.parse_process(args.process)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a tiny quickstart."""
    folder = tmp_path_factory.mktemp("finished")
    main(["distill", str(ROOT / "experiments" / "quickstart.py"), "--smoke", str(folder)])
    return folder / "run"


def stands_at(folder, run):
    folder.parent.mkdir(exist_ok=True)
    folder.symlink_to(run)


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith(PYTHON) and c not in [*TASKS, *SEVERAL]])
def test_distilbert_jax(command, tmp_path, monkeypatch, capsys, bert_folder, finished):
    """As written, but tiny and in a folder of the test."""
    name, *words = shlex.split(command.removeprefix(PYTHON))
    monkeypatch.chdir(tmp_path)
    if "--help" in words:
        with pytest.raises(SystemExit):
            main([name, *words])
        assert "NAME=VALUE" in capsys.readouterr().out
        return
    if name == "plan":
        assert main([name, str(ROOT / words[0]), *words[1:]]) == 0
        assert "an update" in capsys.readouterr().out
        return
    if name == "report":
        stands_at(tmp_path / words[0], finished)
        assert main([name, *words]) == 0
        assert "accuracy" in capsys.readouterr().out
        return
    if name == "replay":
        stands_at(tmp_path / words[0], finished)
        assert main([name, words[0], "4"]) == 0  # of four steps
        assert "nothing turned at step 4" in capsys.readouterr().out
        return
    words[0] = str(ROOT / words[0])
    (tmp_path / "texts").mkdir()
    pieces = (f"The {'old ' * (i % 9)}dog {'runs ' * (i % 7)}to the tree and the cat." for i in range(400))
    (tmp_path / "texts" / "a.txt").write_text("\n\n".join(pieces))
    words = [w.replace("google-bert/bert-base-uncased", str(bert_folder)) for w in words]
    experiment_file.apply_overrides(experiment_file.load_experiment(words[0]), [w for w in words[1:] if "=" in w])
    if name == "prepare":
        words += [f"teacher={bert_folder}", "corpus.sources.wikipedia=texts", "corpus.sources.books=texts"]
        words += ["corpus.sequence_length=64", "corpus.held_out=0.2"]
    elif any(w.startswith("corpus.sources") for w in words):
        words += ["corpus.sequence_length=64", "corpus.held_out=0.2", "steps=2", "global_batch_size=8"]
        words += [] if any(w.startswith("student.init_from") for w in words) else ["student.layers=(0, 2)"]
    elif "--smoke" not in words:
        words += ["--smoke", "."]
    assert main([name, *words]) == 0
    if name == "distill":
        assert list(tmp_path.glob("**/export/model.safetensors"))


def test_tasks(tmp_path, monkeypatch, capsys, bert_folder, distilbert_folder):
    """Fine-tuning as written, one after the other, of tiny models on a few lines."""
    monkeypatch.chdir(tmp_path)
    for run, folder in (("adapt", bert_folder), ("quickstart", distilbert_folder)):
        shutil.copytree(folder, tmp_path / "runs" / run / "export")
    texts = [(f"the {word} dog sees a cat", int(word == "red")) for word in ("red", "green") * 8]
    for split in ("train", "dev"):
        for path, header, between in (
            (f"glue/SST-2/{split}.tsv", "sentence", "\t"),
            (f"reviews/{split}.csv", "text", ","),
        ):
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            lines = [f"{header}{between}label", *(f"{text}{between}{label}" for text, label in texts)]
            (tmp_path / path).write_text("\n".join(lines) + "\n")
    for command in TASKS:
        words = shlex.split(command.removeprefix(PYTHON))
        small = ["--seeds", "1", "epochs=1", "batch=8", "max_length=16"] if words[0] == "finetune" else []
        assert main([*words, *small]) == 0, capsys.readouterr().err
    assert " ms | " in (tmp_path / "retention" / "retention.md").read_text()
    assert "prediction" in (tmp_path / "predictions" / "reviews-dev.tsv").read_text()


def test_the_rest_is_known():
    known = ("make ", "pip ", PYTHON, "python benchmarks/run.py --quick")  # the last runs in tests/torch/
    assert [c for c in COMMANDS if not c.startswith(known)] == []


def test_python(tmp_path, monkeypatch, capsys, finished):
    """The Python blocks, one after the other, after a tiny quickstart."""
    stands_at(tmp_path / "runs" / "quickstart", finished)
    (tmp_path / "experiments").symlink_to(ROOT / "experiments")
    monkeypatch.chdir(tmp_path)
    theirs, ours, heads = blocks("python")
    exec(ours, {})
    assert "losses.soft.temperature: 2.0" in capsys.readouterr().out
    config = tiny_config(num_token_types=0, attention_output_dropout=0.0)
    for name, head in (
        ("reviews", "sequence_classification"),
        ("names", "token_classification"),
        ("answers", "question_answering"),
        ("endings", "multiple_choice"),
    ):
        smoke.save_tiny_model(
            tmp_path / "models" / name,
            config,
            tokenizer=smoke.make_tiny_tokenizer(),
            family="distilbert",
            seed=0,
            head=head,
        )
    found = {}
    exec(heads, found)
    assert [found[name].shape for name in ("classes", "tags", "start", "choices")] == [(1, 2), (16, 2), (33,), (1, 2)]
    pytest.importorskip("transformers", reason="transformers is installed on Python 3.11 only")
    names = {}
    exec(theirs, names)
    assert names["logits"].shape[-1] == names["model"].config.vocab_size


@pytest.mark.parametrize("link", re.findall(r"\]\(([^)#]+)\)", README))
def test_links(link):
    assert link.startswith("https://") or (ROOT / link).exists()


def test_it_names_every_experiment():
    rows = re.findall(r"^\| `(\w+\.py)`", README, re.MULTILINE)
    assert sorted(rows) == sorted(path.name for path in (ROOT / "experiments").glob("*.py"))


def test_the_tree_is_there():
    tree = re.search(r"^distilbert_jax/\n(.*?)```", README, re.MULTILINE | re.DOTALL)[1]
    for line in tree.splitlines():
        path = line.split()[0]
        assert (ROOT / ("distilbert_jax" if line.startswith(" ") else "") / path).exists(), path
