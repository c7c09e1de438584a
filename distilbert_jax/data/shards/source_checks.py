"""Checks the text of a corpus against its shards: where it is, and that it has not changed since they were made."""

import pathlib
import shlex
from collections.abc import Iterable, Sequence

from distilbert_jax.data.shards.chunks import NamedSources
from distilbert_jax.data.shards.manifest import SourceFile
from distilbert_jax.io import files, remote_folder
from distilbert_jax.io.console import console, progress_bar

MAX_LISTED_FILES = 10
"""Files that an error message lists for each kind of change."""


def check_shard_dir(shard_dir: pathlib.Path, sources: NamedSources) -> None:
    """Raises ValueError if the shards would lie among the text, or the text among the shards.

    The next search for text would then find the shards.
    """
    shards = shard_dir.resolve()
    for name, source in sources:
        for folder in source.folders():
            texts = folder.resolve()
            if shards.is_relative_to(texts):
                where = "is" if shards == texts else "is inside"
                raise ValueError(
                    f"corpus.shard_dir={shard_dir} {where} the folder {folder} of the source {name!r}, so the shards "
                    "would be read as text; set corpus.shard_dir to another folder"
                )
            if texts.is_relative_to(shards):
                raise ValueError(
                    f"corpus.shard_dir={shard_dir} contains the folder {folder} of the source {name!r}; give the "
                    "shards a folder of their own"
                )


def check_no_files_in(shard_dir: pathlib.Path, paths: Sequence[pathlib.Path]) -> None:
    """Raises ValueError if files of a source lie in the folder of the shards."""
    shards = shard_dir.resolve()
    # Each folder once, because there can be a million files. A file that is a link counts where the link is.
    for folder, path in {path.parent: path for path in paths}.items():
        if folder.resolve().is_relative_to(shards):
            raise ValueError(
                f"corpus.shard_dir={shard_dir} contains the text {path}; give the shards a folder of their own"
            )


def check_unchanged_meanwhile(records: Iterable[SourceFile]) -> None:
    """Raises ValueError if a file changed while shards were made from it, in which case they may mix both texts.

    Args:
        records: what the files were at the beginning, as `describe_file` returns it.
    """
    changed = [record["name"] for record in records if _read_stat(record["name"]) != _recorded_stat(record)]
    if changed:
        raise ValueError(
            f"the text changed while the shards were made:\n{_list_files('changed', changed)}\nRun the same command "
            "again when the text does not change any more"
        )


def check_unchanged(records: Sequence[SourceFile], sources: NamedSources, *, shard_dir: str) -> None:
    """Checks that the text of a corpus is what its shards were made from.

    A file is read only if its size is the same and its time is not. Where no file of a source is on this machine, as
    after shards were made elsewhere, nothing can be compared, and a line says so.

    Args:
        records: the files that the shards were made from, as the manifest lists them.
        sources: the sources of the corpus.
        shard_dir: the folder of the shards as it was typed, for the error message.

    Raises:
        ValueError: If files were changed, added or removed. The message lists them and says what to do.
    """
    changes: dict[str, list[str]] = {"changed": [], "added": [], "removed": []}
    absent = []
    with progress_bar("comparing the text with the shards", total=len(records), stays=False) as advance:
        done = 0
        for name, source in sources:
            before = {record["name"]: record for record in records if record["source"] == name}
            present = source.local_files()
            now = {str(path) for path in present} if present is not None else {n for n in before if _read_stat(n)}
            if before and not now:
                absent.append(name)
                continue
            if present is not None and now != before.keys() and _is_same_text(present, list(before.values())):
                continue
            for path, record in before.items():
                if path in now and _has_changed(record):
                    changes["changed"].append(path)
                advance(done := done + 1)
            if present is not None:
                changes["added"] += sorted(now - before.keys())
                changes["removed"] += sorted(before.keys() - now)
    if absent:
        console.print(
            f"The text of the source {' and '.join(map(repr, absent))} is not on this machine, so it was not compared "
            "with the text that the shards were made from.",
            markup=False,
        )
    if any(changes.values()):
        listed = "\n".join(_list_files(kind, paths) for kind, paths in changes.items() if paths)
        raise ValueError(
            f"the text is not the one that the shards in {shard_dir} were made from:\n{listed}\nTo make them again, "
            f"{_format_removal(shard_dir)}, and then run the same command again. A run that has begun with the old "
            "text cannot continue with the new one, so give it another workdir. To use the shards as they are, restore "
            "the text"
        )


def _is_same_text(paths: Sequence[pathlib.Path], records: Sequence[SourceFile]) -> bool:
    """Returns whether files have the content that records state, in the same order but under other names.

    They have if a folder was moved or copied, or `~` is the home folder of another user.
    """
    if [path.stat().st_size for path in paths] != [record["bytes"] for record in records]:
        return False
    return all(files.sha256(path) == record["sha256"] for path, record in zip(paths, records, strict=True))


def _has_changed(record: SourceFile) -> bool:
    """Returns whether an existing file has another content than its record says."""
    stat = _read_stat(record["name"])
    if stat == _recorded_stat(record):
        return False
    return not stat or stat[0] != record["bytes"] or files.sha256(pathlib.Path(record["name"])) != record["sha256"]


def _read_stat(name: str) -> tuple[int, int] | None:
    """Returns the size of a file and the time of its last change in nanoseconds, or None if there is no such file."""
    path = pathlib.Path(name)
    if not path.is_file():
        return None
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns


def _recorded_stat(record: SourceFile) -> tuple[int, int]:
    """Returns the size and the time that a record states."""
    return record["bytes"], record["modified_ns"]


def _list_files(kind: str, paths: Sequence[str]) -> str:
    """Formats some files with what happened to them, one per line."""
    lines = [f"  {kind}  {path}" for path in paths[:MAX_LISTED_FILES]]
    more = [f"  {kind}  and {len(paths) - MAX_LISTED_FILES:,} more"] if len(paths) > MAX_LISTED_FILES else []
    return "\n".join(lines + more)


def _format_removal(shard_dir: str) -> str:
    """Formats how to remove the shards."""
    if remote_folder.is_address(shard_dir):
        return f"delete {shard_dir}"
    return f"run `rm -r {shlex.quote(str(files.expand_path(shard_dir)))}`"
