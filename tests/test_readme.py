"""The README's snippets run as they stand, in order, in one namespace; its links and modules exist."""

import pathlib
import re

import pytest

README = (pathlib.Path(__file__).parent.parent / "README.md").read_text()


def test_the_snippets_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    snippets = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert len(snippets) >= 2
    names = {}
    for snippet in snippets:
        exec(compile(snippet, "README.md", "exec"), names)
    assert names["result"].value < 25  # a trained autoencoder: untrained, J is above 100
    assert names["features"].shape == (1000, 196)
    accuracy = names["classifier"].evaluate(names["digits"].x_test, names["digits"].y_test, verbose=0)[1]
    assert accuracy > 0.85
    assert (tmp_path / "runs" / "strokes" / "model.keras").exists()
    capsys.readouterr()


@pytest.mark.parametrize("path", re.findall(r"\]\(([^)#]+)\)", README))
def test_links_lead_somewhere(path):
    assert (pathlib.Path(__file__).parent.parent / path).exists()
