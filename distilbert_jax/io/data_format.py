"""Checks format numbers: each kind of data on disk states one, so that data of another version are recognized."""


def check_format(stated: object, current: int, *, what: str, remedy: str) -> None:
    """Raises ValueError unless data have the format that this version of the package reads and writes.

    Args:
        stated: the number that the data state, or None if they state none, as the earliest ones do.
        current: the number that this version writes. It is raised whenever names or contents of the files change.
        what: the data, as the error names them.
        remedy: what to do to make the data again.
    """
    if stated == current:
        return
    is_later = isinstance(stated, int) and stated > current
    raise ValueError(
        f"{what} was written by {'a later' if is_later else 'an earlier'} version of distilbert_jax (format "
        f"{'not stated' if stated is None else stated}, this version needs {current}); {remedy}"
    )
