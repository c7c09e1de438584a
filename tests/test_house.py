"""Checks that the code keeps the rules of docs/architecture.md and docs/naming.md: imports, sizes and names."""

import ast
import collections
import pathlib
import re
import subprocess
import sys

import pytest

from distilbert_jax.config import renamed
from tests.conftest import ROOT

PACKAGE = ROOT / "distilbert_jax"
MODULES = sorted(PACKAGE.rglob("*.py"))
MAX_FILE_LINES, MAX_FUNCTION_LINES, MAX_FOLDER_MODULES, MAX_ROOT_MODULES = 400, 60, 12, 6
ONE_FILE_PER_KIND = {"families", "losses"}  # these folders may grow


def relative(path: pathlib.Path) -> str:
    return str(path.relative_to(ROOT))


def definitions(kinds):
    """(module, node) of every definition of these kinds in the package."""
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, kinds):
                yield path, node


def test_imports_follow_the_contracts():
    """The contracts are in pyproject.toml, and `lint-imports` checks them."""
    command = [pathlib.Path(sys.executable).parent / "lint-imports", "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert re.search(r"Contracts: [5-9] kept, 0 broken", done.stdout)


def test_a_long_file_says_why():
    long = [path for path in MODULES if len(path.read_text().splitlines()) > MAX_FILE_LINES]
    assert [relative(p) for p in long if "long" not in (ast.get_docstring(ast.parse(p.read_text())) or "")] == []


def test_a_long_function_says_why():
    long = [
        f"{relative(path)}: {node.name}"
        for path, node in definitions((ast.FunctionDef, ast.AsyncFunctionDef))
        if code_lines(node) > MAX_FUNCTION_LINES and "long" not in (ast.get_docstring(node) or "")
    ]
    assert long == []


def code_lines(node: ast.FunctionDef) -> int:
    """Lines of a function without its docstring, which should not be short."""
    docstring = node.body[0] if ast.get_docstring(node) is not None else None
    return node.end_lineno - node.lineno + 1 - (docstring.end_lineno - docstring.lineno + 1 if docstring else 0)


def test_folders_stay_small():
    counts = collections.Counter(path.parent for path in MODULES if not path.name.startswith("__"))
    large = {
        relative(folder): count
        for folder, count in counts.items()
        if count > (MAX_ROOT_MODULES if folder == PACKAGE else MAX_FOLDER_MODULES)
        and folder.name not in ONE_FILE_PER_KIND
    }
    assert large == {}


def test_no_two_classes_share_a_name():
    places = collections.defaultdict(list)
    for path, node in definitions(ast.ClassDef):
        places[node.name].append(relative(path))
    assert {name: where for name, where in places.items() if len(where) > 1} == {}


def test_names_follow_the_rules():
    names = {node.name for _, node in definitions((ast.FunctionDef, ast.ClassDef))}
    assert [name for name in names if re.match(r"_?of_", name)] == []
    assert [path.name for path in MODULES if path.name in ("utils.py", "helpers.py", "misc.py")] == []
    lambdas = [
        f"{relative(path)}:{node.lineno}"
        for path, node in definitions(ast.Assign)
        if isinstance(node.value, ast.Lambda) and isinstance(node.targets[0], ast.Name)
    ]
    assert lambdas == []


RETIRED_NAMES = [
    "predict_at",
    "at_places",
    "whole_beside",
    "in_words",
    "asks_everywhere",
    "taught_by",
    "fine_tune",
    "demand_divides",
    "demand_comparable",
    "make_scorer",
    "best_words",
    "choose_kernels",
    "read_models",
    "cut_student",
    "make_dissect",
    "first_params",
    "weight_sums_of",
    "MaskedWords",
    "ScoreLoss",
    "SeveralLabels",
    "SquaredError",
    "Factored",
    "FineTune",
    "Silent",
    "Turned",
    "Stored",
    "Meter",
    "Fits",
    "Tuning",
    "projection_dropout",
    "max_tokens",
    "peak_lr",
    "clip_norm",
    "global_batch",
    "rows_per_device",
    "bad_steps_allowed",
    "row_length",
    "random_start",
    "mfu_everywhere",
    "bad_steps",
    "skipped_steps",
    "waiting_for_data",
    "at_start",
    "cfg",
    "z_s",
    "z_t",
    "alone_in",
    "swap_in",
    "one_name",
]
RETIRED_FLAGS = list(renamed.NEW_FLAGS)
MAY_NAME_THEM = {
    "distilbert_jax/config/renamed.py",  # tells the new names
    "tests/cli/test_cli.py",  # tests that they are told
    "tests/test_house.py",
    "tests/evaluate/test_retention.py",  # tests that old results are refused
    "tests/train/finetune/test_finetune.py",  # the same
    "CHANGELOG.md",
    "docs/log.md",  # its entries use the names of their time
}


def tracked(*endings):
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    return [name for name in files if name.endswith(endings) and name not in MAY_NAME_THEM]


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="needs the list of files from git")
def test_retired_names_and_flags_are_gone():
    names = re.compile(rf"(?<![\w.])({'|'.join(RETIRED_NAMES)})(?!\w)")
    flags = re.compile(rf"(?<![\w-])({'|'.join(RETIRED_FLAGS)})(?![\w-])")
    found = [
        f"{name}:{number}: {match[1]}"
        for name in tracked(".py", ".md", ".ipynb", ".sh", ".yaml", ".toml", "Makefile")
        for number, line in enumerate((ROOT / name).read_text().splitlines(), 1)
        for pattern in (names, flags)
        if (match := pattern.search(line))
    ]
    assert found == []


RETIRED_PHRASES = (
    "at hand",
    "goes on",
    "going on from",
    "anew",
    "aloud",
    "says? in words",
    "whoever",
    "of old",
    r"as [\w' ]{1,20} has it",
    "stand in memory",
    "stands in memory",
)
ORDINARY_USES = {
    "docs/decisions/0006-corpus-of-the-paper.md": "quotes a title",
}
"""Files in which such a phrase is meant in its ordinary sense, and why."""


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="needs the list of files from git")
def test_retired_phrases_are_gone():
    pattern = re.compile(rf"\b({'|'.join(RETIRED_PHRASES)})\b", re.IGNORECASE)
    found = [
        f"{name}:{number}: {match[1]}"
        for name in tracked(".py", ".md", ".ipynb", ".sh", ".yaml", "Makefile")
        if not name.startswith("tests/") and name not in ORDINARY_USES
        for number, line in enumerate((ROOT / name).read_text().splitlines(), 1)
        if (match := pattern.search(line))
    ]
    assert found == [], f"files that may use these phrases: {ORDINARY_USES}"
