"""Lines of text between processes, over a socket."""

import socket

MAX_LINE_BYTES = 1_024  # bytes of a line


def send(line: socket.socket, word: str) -> None:
    line.sendall(f"{word}\n".encode())


def receive(line: socket.socket) -> str:
    """One line, without its end; "" where the connection is closed."""
    received = b""
    while not received.endswith(b"\n"):
        if not (byte := line.recv(1)) or len(received) > MAX_LINE_BYTES:
            return ""
        received += byte
    return received.decode(errors="replace").rstrip("\n")
