"""Checks that the documents are correct: every command, Python block and link in them works.

Commands that would take long run with tiny models. What is special to the README is in test_readme.py.
"""

import dataclasses
import pathlib
import re
import shlex
import shutil
import subprocess
import tomllib

import pytest

from distilbert_jax.cli.commands import distill
from distilbert_jax.cli.main import main
from distilbert_jax.cli.parser import make_parser
from distilbert_jax.config import experiment_file, finetune
from distilbert_jax.devices import processes
from distilbert_jax.hub import smoke
from distilbert_jax.io import remote_folder
from tests.conftest import ROOT, tiny_config

GUIDES = sorted((ROOT / "docs" / "guides").glob("*.md"))
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *GUIDES]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
ARCHITECTURE = ROOT / "docs" / "architecture.md"
HISTORY = {"log.md", "CHANGELOG.md"}  # their entries use the names of their time
PYTHON = ".venv/bin/python -m distilbert_jax "
LANGUAGES = {"", "sh", "python"}
FLAGS_OF_OTHERS = {"--no-deps", "--quick"}  # of pip and of benchmarks/run.py


def page_id(path):
    return str(path.relative_to(ROOT))


def blocks(path, language):
    found = re.findall(r"^```(\w*)\n(.*?)^```$", path.read_text(), re.DOTALL | re.MULTILINE)
    return [text for each, text in found if each == language]


def without_blocks(path):
    return re.sub(r"^```.*?^```$", "", path.read_text(), flags=re.DOTALL | re.MULTILINE)


def inline_code(path):
    return re.findall(r"`([^`\n]+)`", without_blocks(path))


COMMANDS = list(
    dict.fromkeys(line for path in DOCUMENTS for block in blocks(path, "sh") for line in block.splitlines())
)
TASKS = [c for c in COMMANDS if c.startswith(tuple(PYTHON + name for name in ("finetune ", "evaluate ", "retention ")))]
SEVERAL_PROCESSES = [c for c in COMMANDS if "--distributed" in c or "--ray-address" in c]
CODE = [
    pytest.param(code, id=f"{page_id(path)}-{number}")
    for path in DOCUMENTS
    for number, code in enumerate(blocks(path, "python"))
]
EXPECTED_SHAPES = {"classes": (1, 2), "tags": (16, 2), "start": (33,), "choices": (1, 2)}
"""Of the logits that the Python blocks compute with tiny models."""


@pytest.mark.parametrize("path", PAGES, ids=page_id)
def test_every_block_is_one_that_is_tested(path):
    fences = re.findall(r"^([ \t]*)```(.*)$", path.read_text(), re.MULTILINE)
    assert len(fences) % 2 == 0
    assert {language for _, language in fences} <= LANGUAGES
    assert {indent for indent, _ in fences} <= {""}, "blocks in lists are not found"
    if path in DOCUMENTS:
        lines = [line for block in blocks(path, "") for line in block.splitlines()]
        assert [line for line in lines if line.startswith((PYTHON, "make ", "pip "))] == [], "mark the block as sh"


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("make ")])
def test_make(command):
    """The commands that make would run exist, and so do their files. Other tests run the longest of them."""
    done = subprocess.run([*shlex.split(command), "-n", "--always-make"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    steps = [shlex.split(line) for line in done.stdout.replace("\\\n", " ").splitlines()]
    distils = [step[3:] for step in steps if step[1:3] == ["-m", "distilbert_jax"]]
    for _, file, *overrides in distils:
        experiment_file.apply_overrides(experiment_file.load_experiment(ROOT / file), overrides)
    assert len(distils) == {"make quickstart": 2}.get(command, "TEACHER=" in command)


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("pip ")])
def test_pip(command):
    """Every extra that is named exists, and every version is the one that the Makefile installs."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    words = shlex.split(command)
    if "-e" in words:
        extras = re.findall(r"\w+", words[-1].partition("[")[2])
        assert set(extras) <= set(project["optional-dependencies"])
        return
    assert " ".join(words[2:]) in (ROOT / "Makefile").read_text()


@pytest.mark.parametrize("command", SEVERAL_PROCESSES)
def test_several_processes(command):
    """Checks the arguments only. That such commands make one run, or one corpus, is tested with tiny models in
    tests/devices/test_processes.py, tests/runtime/test_remote_run.py and tests/data/shards/test_ray_engine.py.
    """
    args = make_parser().parse_args(shlex.split(command.removeprefix(PYTHON)))
    experiment = experiment_file.apply_overrides(experiment_file.load_experiment(ROOT / args.file), args.overrides)
    remote_folder.open_remote_folder(experiment.workdir)
    if args.run is distill.run:
        processes.parse_process(args.distributed)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a tiny quickstart."""
    folder = tmp_path_factory.mktemp("finished")
    main(["distill", str(ROOT / "experiments" / "quickstart.py"), "--smoke", str(folder), "student.layers=(0,1)"])
    return folder / "run"


def link_run(folder, run):
    folder.parent.mkdir(exist_ok=True)
    folder.symlink_to(run)


@pytest.mark.parametrize(
    "command", [c for c in COMMANDS if c.startswith(PYTHON) and c not in [*TASKS, *SEVERAL_PROCESSES]]
)
def test_distilbert_jax(command, tmp_path, monkeypatch, capsys, shallow_bert_folder, finished):
    """Runs the command as it is written, but with a tiny model and in the folder of the test."""
    name, *words = shlex.split(command.removeprefix(PYTHON))
    monkeypatch.chdir(tmp_path)
    if "--help" in words:
        with pytest.raises(SystemExit, match="^0$"):
            main([name, *words])
        assert "NAME=VALUE" in capsys.readouterr().out
        return
    if name == "plan":
        assert main([name, str(ROOT / words[0]), *words[1:]]) == 0
        assert "arithmetic" in capsys.readouterr().out
        return
    if name == "report":
        link_run(tmp_path / words[0], finished)
        assert main([name, *words]) == 0
        assert "accuracy" in capsys.readouterr().out
        return
    if name == "export":
        link_run(tmp_path / words[0], finished)
        assert main([name, *words]) == 0
        assert "Exported the student of step 4" in capsys.readouterr().out
        return
    if name == "replay":
        link_run(tmp_path / words[0], finished)
        assert main([name, words[0], "4"]) == 0  # the tiny run has four steps
        assert "step 4" in (output := capsys.readouterr().out)
        assert "finite" in output
        return
    words[0] = str(ROOT / words[0])
    (tmp_path / "texts").mkdir()
    pieces = (f"The {'old ' * (i % 9)}dog {'runs ' * (i % 7)}to the tree and the cat." for i in range(400))
    (tmp_path / "texts" / "a.txt").write_text("\n\n".join(pieces))
    words = [w.replace("google-bert/bert-base-uncased", str(shallow_bert_folder)) for w in words]
    experiment_file.apply_overrides(experiment_file.load_experiment(words[0]), [w for w in words[1:] if "=" in w])
    if name == "prepare":
        words += [f"teacher={shallow_bert_folder}", "corpus.sources.wikipedia=texts", "corpus.sources.books=texts"]
        words += ["corpus.sequence_length=64", "corpus.held_out=0.2"]
    elif any(w.startswith("corpus.sources") for w in words):
        words += ["corpus.sequence_length=64", "corpus.held_out=0.2", "steps=2", "global_batch_size=8"]
        words += [] if any(w.startswith("student.init_from") for w in words) else ["student.layers=(0, 1)"]
    else:
        words += ["student.layers=(0, 1)"] + ([] if "--smoke" in words else ["--smoke", "smoke"])
    assert main([name, *words]) == 0
    if name == "distill":
        assert list(tmp_path.glob("**/export/model.safetensors"))
    if name == "speed":
        assert "backward" in capsys.readouterr().out


def test_tasks(tmp_path, monkeypatch, capsys, shallow_bert_folder, shallow_distilbert_folder):
    """Runs all commands on tasks, one after the other, with tiny models and a few examples."""
    monkeypatch.chdir(tmp_path)
    for run, folder in (("adapt", shallow_bert_folder), ("quickstart", shallow_distilbert_folder)):
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
    order = ["finetune", "evaluate", "retention"]
    for command in sorted(TASKS, key=lambda command: order.index(command.removeprefix(PYTHON).split()[0])):
        words = shlex.split(command.removeprefix(PYTHON))
        small = ["--seeds", "1", "epochs=1", "batch_size=8", "max_length=16"] if words[0] == "finetune" else []
        assert main([*words, *small]) == 0, capsys.readouterr().err
    assert " ms | " in (tmp_path / "retention" / "retention.md").read_text()
    (predictions,) = (tmp_path / "predictions").glob("*-reviews-dev-*.tsv")
    assert "prediction" in predictions.read_text()


def test_every_command_is_of_a_kind_that_is_tested():
    known = ("make ", "pip ", PYTHON, "python benchmarks/run.py --quick")  # tests/torch/test_benchmark.py runs the last
    assert [c for c in COMMANDS if not c.startswith(known)] == []


@pytest.fixture
def user_folder(tmp_path, monkeypatch, finished):
    """The working folder, with the experiments, a finished quickstart and a tiny model for every head."""
    shutil.copytree(ROOT / "experiments", tmp_path / "experiments", ignore=shutil.ignore_patterns("__pycache__"))
    link_run(tmp_path / "runs" / "quickstart", finished)
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
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("code", CODE)
def test_python(code, user_folder, capsys):
    """Runs a block by itself, as a reader would copy it. One that defines an experiment becomes an experiment file."""
    if "def experiment():" in code:
        file = user_folder / "experiments" / "from_a_guide.py"
        file.write_text(code)
        assert main(["distill", str(file), "--smoke", str(user_folder / "smoke")]) == 0, capsys.readouterr().err
        assert (user_folder / "smoke" / "run" / "export" / "model.safetensors").exists()
        return
    if "from transformers import" in code:
        pytest.importorskip("transformers", reason="transformers is installed on Python 3.11 only")
    found = {}
    exec(code, found)
    for name, shape in EXPECTED_SHAPES.items():
        assert name not in found or found[name].shape == shape
    if "logits" in found:
        assert found["logits"].shape[-1] == found["model"].config.vocab_size
    if "describe(" in code:
        assert "losses.soft.temperature: 2.0" in capsys.readouterr().out


def test_the_python_blocks_compute_what_is_checked():
    text = "".join(param.values[0] for param in CODE)
    for name in (*EXPECTED_SHAPES, "logits"):
        assert re.search(rf"\b{name}\b.* = ", text), name


@pytest.mark.parametrize("path", DOCUMENTS, ids=page_id)
def test_flags_exist(path):
    """Also those that are mentioned in a sentence only."""
    (commands,) = (action for action in make_parser()._actions if hasattr(action, "choices") and action.choices)
    known = {flag for parser in commands.choices.values() for flag in parser._option_string_actions}
    named = {flag for code in inline_code(path) for flag in re.findall(r"(?<!\S)--[a-z][a-z-]*", code)}
    assert named <= known | FLAGS_OF_OTHERS


FIELDS = [
    pytest.param(word, id=f"{page_id(path)}-{word}")
    for path in DOCUMENTS
    for code in inline_code(path)
    if re.match(r"[a-z_][\w.]*=\S", code)
    for word in shlex.split(code)
]


@pytest.mark.parametrize("word", FIELDS)
def test_fields_exist(word):
    """Those of NAME=VALUE in a sentence are fields of an experiment or of a fine-tuning."""
    name = word.partition("=")[0]
    if name not in {field.name for field in dataclasses.fields(finetune.FineTuneConfig)}:
        experiment_file.apply_overrides(experiment_file.load_experiment(ROOT / "experiments" / "quickstart.py"), [word])


def heading_anchors(path):
    """The anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", without_blocks(path), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", PAGES, ids=page_id)
def test_links(path):
    for link in re.findall(r"\]\(([^)\s]+)\)", without_blocks(path)):
        if link.startswith("https://"):
            continue
        name, _, anchor = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        assert target.exists(), link
        assert not anchor or anchor in heading_anchors(target), link


@pytest.mark.parametrize("path", [path for path in PAGES if path.name not in HISTORY], ids=page_id)
def test_files_exist(path):
    """Those that are named in a sentence or a table, relative to the project or the package."""
    for name in inline_code(path):
        if re.fullmatch(r"[\w/]+/\w+\.(py|sh|yaml|md|ipynb)", name) and "NAME" not in name:
            assert any((folder / name).is_file() for folder in (ROOT, ROOT / "distilbert_jax")), name


def test_every_guide_is_in_the_readme():
    readme = (ROOT / "README.md").read_text()
    assert [path for path in GUIDES if f"]({page_id(path)})" not in readme] == []


def test_the_guide_names_every_experiment():
    guide = (ROOT / "docs" / "guides" / "experiments.md").read_text()
    rows = re.findall(r"^\| `(\w+\.py)`", guide, re.MULTILINE)
    assert sorted(rows) == sorted(path.name for path in (ROOT / "experiments").glob("*.py"))


def tree_paths(text):
    """The paths of a tree of folders, in which every level is indented by two spaces."""
    parents: list[pathlib.Path] = [ROOT]
    for line in text.splitlines():
        level = (len(line) - len(line.lstrip())) // 2
        parents = [*parents[: level + 1], parents[level] / line.split()[0]]
        yield parents[-1]


@pytest.mark.parametrize("path", [ROOT / "README.md", ARCHITECTURE], ids=page_id)
def test_the_tree_of_folders(path):
    (tree,) = (block for block in blocks(path, "") if block.startswith("distilbert_jax/\n"))
    named = list(tree_paths(tree))
    assert [each for each in named if not each.exists()] == []
    there = {each.parent for each in (ROOT / "distilbert_jax").glob("*/__init__.py")}
    assert there <= set(named)


def test_the_import_diagram_is_the_contract():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    (contract,) = (c for c in project["tool"]["importlinter"]["contracts"] if c.get("containers") == ["distilbert_jax"])
    (diagram,) = (block for block in blocks(ARCHITECTURE, "") if block.startswith("__main__\n"))
    assert [set(line.split(" · ")) for line in diagram.splitlines()] == [
        set(re.findall(r"\w+", layer)) for layer in contract["layers"]
    ]


@pytest.mark.parametrize(
    ("file", "name"), re.findall(r"^\| .* \| `(\S+\.py)` \| `(\w+)` \|$", ARCHITECTURE.read_text(), re.MULTILINE)
)
def test_the_path_of_a_batch(file, name):
    code = (ROOT / "distilbert_jax" / file).read_text()
    assert re.search(rf"^(def|class) {name}\b", code, re.MULTILINE)


def test_every_promise_names_a_test():
    rows = [
        row.split("|")
        for row in (ROOT / "docs" / "reliability.md").read_text().partition("## ")[0].splitlines()
        if row.startswith("| ") and not row.startswith("| promise ")
    ]
    assert len(rows) >= 25
    for row in rows:
        file, name = re.fullmatch(r" `(tests/\S+\.py)`: `(test_\w+)` ", row[2]).groups()
        assert f"def {name}(" in (ROOT / file).read_text(), row[2]
