"""Eight CPU devices, no silent broadcasting, and a tiny model for everybody."""

import datetime
import importlib.metadata
import os
import pathlib
import subprocess
import tempfile

# Tests spend their time compiling: with little care, and what one has compiled the next need not, in whichever worker
# or command: they inherit the environment.
QUICK = "--xla_backend_optimization_level=0"
if importlib.metadata.version("jax").startswith("0.10."):  # a flag that XLA does not know ends the process
    QUICK += " --xla_cpu_use_fusion_emitters=false"  # a third of the compiler's time
os.environ.setdefault("XLA_FLAGS", QUICK)
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="distilbert_jax-compiled-")
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"

ROOT = pathlib.Path(__file__).parent.parent
import jax

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")

import pytest

from distilbert_jax.config.experiment import Pretrained
from distilbert_jax.hub import load, smoke
from distilbert_jax.models.transformer import TransformerConfig

SHARED = ROOT.parent / "shared"


def pytest_addoption(parser):
    parser.addoption("--prove", action="store_true", help="whole proofs, and new figures in docs")
    parser.addoption("--hub", action="store_true", help="published models from the Hub; needs the network")


def pytest_collection_modifyitems(items):
    """The long files first: then no worker is left alone with one at the end."""
    order = ("devices", "tests", "reliability", "runtime", "finetune", "distill", "train", "replay", "torch", "cli")
    last = len(order)
    items.sort(key=lambda item: {name: i for i, name in enumerate(order)}.get(item.path.parent.name, last))


@pytest.fixture(scope="session")
def prove(pytestconfig) -> bool:
    """Whether this is `make prove`."""
    return pytestconfig.getoption("prove")


@pytest.fixture(scope="session")
def figures(prove):
    """figures(test, text): what a proof came to, which `make prove` writes into the row of docs/reliability.md that
    names the test.
    """

    def write(test: str, text: str) -> None:
        if not prove:
            return
        page = ROOT / "docs" / "reliability.md"
        lines = page.read_text(encoding="utf-8").splitlines()
        (at,) = (i for i, line in enumerate(lines) if f"`{test}`" in line)
        promise, named = lines[at].split("|")[1:3]
        lines[at] = f"|{promise}|{named}| {text} | {datetime.date.today()} |"
        page.write_text("\n".join(lines) + "\n", encoding="utf-8")

    return write


def tiny_config(**changes) -> TransformerConfig:
    """A teacher's shape, with dropout everywhere it can be."""
    shape = dict(hidden_size=24, num_layers=4, num_heads=4, mlp_size=48, max_positions=64, num_token_types=2)
    rates = dict(dropout=0.1, attention_dropout=0.1, attention_output_dropout=0.1)
    return TransformerConfig(**{"vocab_size": smoke.make_tiny_tokenizer().vocab_size, **shape, **rates, **changes})


@pytest.fixture(scope="session")
def tokenizer():
    return smoke.make_tiny_tokenizer()


@pytest.fixture(scope="session")
def bert_folder(tmp_path_factory, tokenizer):
    """A Hub folder of a tiny random BERT. Copy it before changing it."""
    folder = tmp_path_factory.mktemp("models") / "bert"
    smoke.save_tiny_model(folder, tiny_config(), tokenizer=tokenizer, family="bert", seed=0)
    return folder


@pytest.fixture(scope="session")
def distilbert_folder(tmp_path_factory, tokenizer):
    folder = tmp_path_factory.mktemp("models") / "distilbert"
    config = tiny_config(num_token_types=0, attention_output_dropout=0.0)
    smoke.save_tiny_model(folder, config, tokenizer=tokenizer, family="distilbert", seed=1)
    return folder


@pytest.fixture(scope="session")
def shallow_bert_folder(tmp_path_factory, tokenizer):
    """Two layers, which compile in half the time: for tests of what happens around a model."""
    folder = tmp_path_factory.mktemp("models") / "shallow_bert"
    smoke.save_tiny_model(folder, tiny_config(num_layers=2), tokenizer=tokenizer, family="bert", seed=0)
    return folder


@pytest.fixture(scope="session")
def shallow_distilbert_folder(tmp_path_factory, tokenizer):
    """Two layers, which compile in half the time: for tests of what happens around a model."""
    folder = tmp_path_factory.mktemp("models") / "shallow_distilbert"
    config = tiny_config(num_layers=2, num_token_types=0, attention_output_dropout=0.0)
    smoke.save_tiny_model(folder, config, tokenizer=tokenizer, family="distilbert", seed=1)
    return folder


@pytest.fixture(scope="session")
def bert(bert_folder) -> load.PretrainedModel:
    return load.load_pretrained(Pretrained(str(bert_folder)))


def shared(path: str) -> pathlib.Path:
    """Real data that only some machines have."""
    found = SHARED / path
    if not found.exists():
        pytest.skip(f"{path} of the shared data is not on this machine")
    return found


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 2 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"no disk can be mounted here: {mounted.stderr.decode().strip()}")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)
