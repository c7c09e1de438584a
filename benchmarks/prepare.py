"""Measures the tokens per second of `prepare`, compared with two simple ways that use the same tokenizer.

    loop        the fast tokenizer of transformers on one article after the other, as in a first script
    original    what the script of DistilBERT did: one process tokenizes everything into memory and then saves it,
                without looking for duplicates

This package reads the text, removes duplicates, holds out documents, packs rows and writes shards with their hashes, on
all cores. The memory is that of the largest process.
"""

import pathlib
import pickle
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

from turns import Side, Table, Turn, spread, take_turns

SEQUENCE_LENGTH = 128


def write_text(path: pathlib.Path, *, megabytes: int) -> None:
    """Writes articles of random sentences from the documentation of Python, with an empty line between articles."""
    import numpy as np

    from distilbert_jax.data.sources.installed_prose import InstalledProse

    prose = " ".join(document.replace("\n", " ") for document in InstalledProse().documents())
    sentences = np.array([sentence.strip(" .") + "." for sentence in prose.split(". ")], dtype=object)
    random = np.random.default_rng(0)
    with path.open("w", encoding="utf-8") as file:
        while file.tell() < megabytes * 2**20:
            for size in random.integers(3, 60, 50):
                file.write(" ".join(random.choice(sentences, size)) + "\n\n")


def ours(text: str, tokenizer: str) -> Turn:
    """Returns a turn that runs `prepare`."""
    from distilbert_jax.data.shards.prepare import Corpus, prepare
    from distilbert_jax.data.sources.files import TextFiles
    from distilbert_jax.data.tokenizer import tokenizer as tokens

    loaded = tokens.load_tokenizer(pathlib.Path(tokenizer))

    def run() -> int:
        with tempfile.TemporaryDirectory() as folder:
            corpus = Corpus(
                sources={"text": TextFiles(text)}, shard_dir=f"{folder}/shards", sequence_length=SEQUENCE_LENGTH
            )
            return int(prepare(corpus, loaded).token_counts.sum())

    def worker_bytes() -> int:
        return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1_024

    return lambda: measure_rate(run) | {"worker": worker_bytes()}


def once(text: str, tokenizer: str) -> Turn:
    """Runs `ours` once, and returns a turn with its measurements. It is used for the peak memory."""
    measurements = ours(text, tokenizer)()
    return lambda: measurements


def measure_rate(run: Callable[[], int]) -> dict[str, float]:
    """Returns the tokens per second of a call that returns how many tokens it processed."""
    start = time.perf_counter()
    tokens = run()
    return {"rate": tokens / (time.perf_counter() - start)}


def articles(text: str) -> list[str]:
    """Returns the articles of a text file."""
    return [article for article in pathlib.Path(text).read_text(encoding="utf-8").split("\n\n") if article.strip()]


def fast_tokenizer(folder: str) -> Any:
    """Returns the fast tokenizer of transformers."""
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(tokenizer_file=f"{folder}/tokenizer.json")


def loop(text: str, tokenizer: str) -> Turn:
    """Returns a turn that tokenizes one article at a time."""
    fast = fast_tokenizer(tokenizer)

    def run() -> int:
        return sum(len(fast(article, add_special_tokens=False)["input_ids"]) for article in articles(text))

    return lambda: measure_rate(run)


def original(text: str, tokenizer: str) -> Turn:
    """Returns a turn that tokenizes everything into memory and pickles it."""
    import numpy as np

    fast = fast_tokenizer(tokenizer)

    def run() -> int:
        rows = [np.uint16(fast.encode(article, add_special_tokens=False)) for article in articles(text)]
        with tempfile.TemporaryFile() as file:
            pickle.dump(rows, file, protocol=pickle.HIGHEST_PROTOCOL)
        return sum(map(len, rows))

    return lambda: measure_rate(run)


SIDES = {"ours": ours, "loop": loop, "original": original, "once": once}


def tables(
    tokenizer: str, *, megabytes: int = 20, more: tuple[int, ...] = (100, 1_000), repeats: int = 3
) -> Iterator[Table]:
    """Yields a table of the speed, and one of the memory for larger texts.

    Args:
        tokenizer: a folder with tokenizer.json.
        megabytes: the size of the text for the speed.
        more: the sizes of the texts for the memory, in megabytes.
        repeats: the number of turns.
    """
    with tempfile.TemporaryDirectory() as folder:
        text = pathlib.Path(folder) / "text.txt"
        write_text(text, megabytes=megabytes)
        settings = {"text": str(text), "tokenizer": str(tokenizer)}
        names = [name for name in SIDES if name != "once"]
        measurements = take_turns(
            {name: Side(module="prepare", name=name, settings=settings) for name in names}, repeats
        )
    medians = {name: statistics.median(figures["rate"]) for name, figures in measurements.items()}
    memory = {name: max(figures["memory"] + figures.get("worker", [])) for name, figures in measurements.items()}
    yield Table(
        title=f"prepare: {megabytes} MB of text",
        header=("side", "thousand tokens/s (quartiles)", "ours is faster", "peak memory of a process, GB"),
        rows=[
            (
                name,
                spread([rate / 1e3 for rate in figures["rate"]], 0),
                f"{medians['ours'] / medians[name]:.2f} ×",
                f"{memory[name] / 1e9:.2f}",
            )
            for name, figures in measurements.items()
        ],
        faster={f"prepare, {name}": medians["ours"] / medians[name] for name in measurements if name != "ours"},
    )
    rows = [_measure_memory(tokenizer, size) for size in more]
    yield Table(
        title="prepare: memory",
        header=("text, MB", "memory of the main process, GB", "memory of a worker, GB"),
        rows=rows,
    )


def _measure_memory(tokenizer: str, megabytes: int) -> tuple[str, str, str]:
    """Returns the row of the memory table for a text of the given size."""
    with tempfile.TemporaryDirectory() as folder:
        text = pathlib.Path(folder) / "text.txt"
        write_text(text, megabytes=megabytes)
        side = Side(module="prepare", name="once", settings={"text": str(text), "tokenizer": str(tokenizer)})
        figures = take_turns({"once": side}, 1)["once"]
    return f"{megabytes:,}", f"{figures['memory'][0] / 1e9:.2f}", f"{figures['worker'][0] / 1e9:.2f}"
