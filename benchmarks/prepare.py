"""Tokens a second of text to packed rows, beside two plain ways with the same tokenizer.

    loop        transformers' fast tokenizer, one article after another, as in a simple script
    original    what DistilBERT's own script did: one process, everything tokenized into memory, then saved; duplicates
                are not looked for

Ours reads, drops duplicates, holds out, packs and writes shards with their hashes, on every core. Memory is that of the
largest process.
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

LENGTH = 128


def write_text(path: pathlib.Path, *, megabytes: int) -> None:
    """Articles of sentences drawn at random from the prose that comes with Python, an empty line between them."""
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
    """`prepare`."""
    from distilbert_jax.data.shards.prepare import Corpus, prepare
    from distilbert_jax.data.sources.files import TextFiles
    from distilbert_jax.data.tokenizer import tokenizer as tokens

    words = tokens.load_tokenizer(pathlib.Path(tokenizer))

    def run() -> int:
        with tempfile.TemporaryDirectory() as folder:
            corpus = Corpus(sources={"text": TextFiles(text)}, shard_dir=f"{folder}/shards", sequence_length=LENGTH)
            return int(prepare(corpus, words).token_counts.sum())

    def workers():
        return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1_024

    return lambda: rate(run) | {"worker": workers()}


def once(text: str, tokenizer: str) -> Turn:
    """The peak of memory of one `ours`."""
    figures = ours(text, tokenizer)()
    return lambda: figures


def rate(run: Callable[[], int]) -> dict[str, float]:
    """Tokens a second of a call that returns how many there were."""
    start = time.perf_counter()
    tokens = run()
    return {"rate": tokens / (time.perf_counter() - start)}


def articles(text: str) -> list[str]:
    """Reads the articles of a file: blocks between blank lines."""
    return [article for article in pathlib.Path(text).read_text(encoding="utf-8").split("\n\n") if article.strip()]


def fast_tokenizer(folder: str) -> Any:
    """Loads the fast tokenizer of transformers."""
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(tokenizer_file=f"{folder}/tokenizer.json")


def loop(text: str, tokenizer: str) -> Turn:
    """One article at a time."""
    words = fast_tokenizer(tokenizer)

    def run() -> int:
        return sum(len(words(article, add_special_tokens=False)["input_ids"]) for article in articles(text))

    return lambda: rate(run)


def original(text: str, tokenizer: str) -> Turn:
    """Everything in memory, then pickled."""
    import numpy as np

    words = fast_tokenizer(tokenizer)

    def run() -> int:
        rows = [np.uint16(words.encode(article, add_special_tokens=False)) for article in articles(text)]
        with tempfile.TemporaryFile() as file:
            pickle.dump(rows, file, protocol=pickle.HIGHEST_PROTOCOL)
        return sum(map(len, rows))

    return lambda: rate(run)


SIDES = {"ours": ours, "loop": loop, "original": original, "once": once}


def tables(
    tokenizer: str, *, megabytes: int = 20, more: tuple[int, ...] = (100, 1_000), repeats: int = 3
) -> Iterator[Table]:
    """Speed, and whether memory grows with `more` megabytes. `tokenizer` is a folder with tokenizer.json."""
    with tempfile.TemporaryDirectory() as folder:
        text = pathlib.Path(folder) / "text.txt"
        write_text(text, megabytes=megabytes)
        settings = {"text": str(text), "tokenizer": str(tokenizer)}
        names = [name for name in SIDES if name != "once"]
        got = take_turns({name: Side(module="prepare", name=name, settings=settings) for name in names}, repeats)
    middle = {name: statistics.median(figures["rate"]) for name, figures in got.items()}
    memory = {name: max(figures["memory"] + figures.get("worker", [])) for name, figures in got.items()}
    yield Table(
        title=f"prepare: {megabytes} MB of text",
        header=("side", "thousand tokens/s (quartiles)", "ours is faster", "peak GB of a process"),
        rows=[
            (
                name,
                spread([rate / 1e3 for rate in figures["rate"]], 0),
                f"{middle['ours'] / middle[name]:.2f} ×",
                f"{memory[name] / 1e9:.2f}",
            )
            for name, figures in got.items()
        ],
        faster={f"prepare, {name}": middle["ours"] / middle[name] for name in got if name != "ours"},
    )
    rows = [_memory(tokenizer, size) for size in more]
    yield Table(title="prepare: memory", header=("MB of text", "GB of the process", "GB of a worker"), rows=rows)


def _memory(tokenizer: str, megabytes: int) -> tuple[str, str, str]:
    with tempfile.TemporaryDirectory() as folder:
        text = pathlib.Path(folder) / "text.txt"
        write_text(text, megabytes=megabytes)
        side = Side(module="prepare", name="once", settings={"text": str(text), "tokenizer": str(tokenizer)})
        figures = take_turns({"once": side}, 1)["once"]
    return f"{megabytes:,}", f"{figures['memory'][0] / 1e9:.2f}", f"{figures['worker'][0] / 1e9:.2f}"
