"""Nothing is caught and passed over in silence, by the letter."""

import ast
import textwrap

from tests.conftest import ROOT

MEANT = {
    "distilbert_jax/io/object_store.py:delete": "the object that was to be deleted does not exist",
    "distilbert_jax/devices/rendezvous.py:_reply": "JAX notices the end of a process that has ended",
    "distilbert_jax/devices/processes.py:_send_to_all": "the thread that listens to a process notices its end",
}
"""Where silence is meant: `file.py:function` and the reason."""


def silences(code: str) -> list[str]:
    """The functions of a module that catch something and do nothing, or have errors ignored."""
    found = []

    def visit(node: ast.AST, function: str) -> None:
        for child in ast.iter_child_nodes(node):
            name = child.name if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef) else function
            if _is_silent(child):
                found.append(name)
            visit(child, name)

    visit(ast.parse(code), "module")
    return found


def _is_silent(node: ast.AST) -> bool:
    if isinstance(node, ast.ExceptHandler):

        def idle(line):
            return isinstance(line, ast.Pass | ast.Continue | ast.Break) or (
                isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant)
            )

        return all(map(idle, node.body))
    if isinstance(node, ast.Call):
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        return called == "suppress" or any(
            word.arg == "ignore_errors" and getattr(word.value, "value", None) is True for word in node.keywords
        )
    return False


def test_nothing_is_caught_and_passed_over():
    found = {
        f"{path.relative_to(ROOT)}:{function}"
        for path in (ROOT / "distilbert_jax").rglob("*.py")
        for function in silences(path.read_text(encoding="utf-8"))
    }
    assert found == set(MEANT), "say it, raise it, or name the reason in MEANT"


def test_silence_is_seen_in_every_shape():
    code = """
        import contextlib
        def a():
            try: x()
            except OSError: pass
        def b():
            for x in y:
                try: x()
                except ValueError:
                    "never mind"
                    continue
        def c():
            try: x()
            except BaseException: ...
        def d():
            with contextlib.suppress(OSError): x()
        def e():
            shutil.rmtree(x, ignore_errors=True)
        def f():
            try: x()
            except OSError as error:
                raise ValueError("said") from error
    """
    assert silences(textwrap.dedent(code)) == ["a", "b", "c", "d", "e"]
