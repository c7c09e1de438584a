"""Parses network addresses."""

import re

MAX_PORT = 65_535


def parse_address(text: str) -> tuple[str, int]:
    """Returns the host and the port of HOST:PORT.

    Raises:
        ValueError: the text is not HOST:PORT, or there is no such port.
    """
    host, _, port = text.rpartition(":")
    if not host or not re.fullmatch(r"[0-9]+", port):
        raise ValueError(f"{text!r} is not HOST:PORT, such as localhost:9876")
    if not 1 <= int(port) <= MAX_PORT:
        raise ValueError(f"{text!r} has the port {port}; choose a port from 1 to {MAX_PORT}")
    return host, int(port)
