"""Sends and receives lines of text over a socket between two processes."""

import socket

MAX_LINE_BYTES = 1_024


def send(connection: socket.socket, text: str) -> None:
    """Sends one line of text."""
    connection.sendall(f"{text}\n".encode())


def receive(connection: socket.socket) -> str:
    """Waits for one line and returns it without its end.

    Returns "" if the connection was closed or the line is longer than `MAX_LINE_BYTES`.
    """
    received = b""
    # Byte by byte, so that nothing of the next line is taken from the socket.
    while not received.endswith(b"\n"):
        if not (byte := connection.recv(1)) or len(received) > MAX_LINE_BYTES:
            return ""
        received += byte
    return received.decode(errors="replace").rstrip("\n")
