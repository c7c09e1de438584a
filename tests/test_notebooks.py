"""Every notebook runs from top to bottom, on a tiny run."""

import pytest

from distilbert_jax.cli.main import main
from tests.conftest import ROOT


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the notebook machinery's own
@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_it_runs(path, tmp_path, monkeypatch):
    import nbclient
    import nbformat

    main(["distill", str(ROOT / "experiments" / "quickstart.py"), "--smoke", str(tmp_path), "student.layers=(0,1)"])
    monkeypatch.setenv("RUN", str(tmp_path / "run"))
    notebook = nbformat.read(path, as_version=4)
    assert any(cell.get("outputs") for cell in notebook.cells), "keep it executed: people read it on the web"
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(ROOT)}}).execute()
