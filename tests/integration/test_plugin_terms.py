"""A term with parameters from a plugin, from the command to the table: the example of docs/extend.md."""

from __future__ import annotations

import json
import re
from pathlib import Path

from processes import run
from safetensors import safe_open
from tiny import study_words

EXAMPLE = next(
    block
    for block in re.findall(
        r"```python\n(.*?)```",
        (Path(__file__).parents[2] / "docs" / "extend.md").read_text(encoding="utf-8"),
        flags=re.DOTALL,
    )
    if "module=Regressor" in block
)


def test_a_term_with_parameters_is_trained_and_not_saved(
    tmp_path: Path, dataset_file: Path, undisturbed: Path
) -> None:
    assert len(EXAMPLE.strip().splitlines()) < 20
    plugin = tmp_path / "term.py"
    plugin.write_text(EXAMPLE, encoding="utf-8")
    options = ("--jobs", "1", "--tracking-uri", "off", "--precision", "bf16")
    words = study_words(dataset_file, "--plugin", str(plugin), *options)
    words[words.index("both")] = "regress"
    result = run(words, tmp_path)
    assert result.returncode == 0, result.stderr
    assert "regress" in result.stdout
    runs = {}
    for file in tmp_path.glob("reports/*/runs/*.json"):
        content = json.loads(file.read_text(encoding="utf-8"))
        if "spec" in content and content["spec"]["phase"] == "final" and content["spec"]["distill"]:
            runs[file] = content
    ((file, content),) = runs.items()
    losses = [record["losses"]["regress"] for record in content["history"]]
    assert losses[-1] < losses[0]
    plain = next(undisturbed.glob(f"runs/{_none(undisturbed)}.safetensors"))
    assert _names(file.with_suffix(".safetensors")) == _names(plain)


def _none(study: Path) -> str:
    """Return the final run of the row `none`."""
    for file in study.glob("runs/*.json"):
        spec = json.loads(file.read_text(encoding="utf-8")).get("spec", {})
        if spec.get("phase") == "final" and "hallucinated" in spec["model"] and not spec.get("distill"):
            return file.stem
    raise AssertionError("no such run")


def _names(file: Path) -> set[str]:
    with safe_open(file, "pt") as opened:
        return set(opened.keys())
