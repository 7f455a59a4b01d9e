"""Fixtures that several rooms' tests share; each is made once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from browsing import Browser, started_browser
from processes import ForkedCommands, run
from tiny import STUDY, study_words, write_dataset

from tal_bench.system.allocator import collect_garbage_rarely

collect_garbage_rarely()  # as in a command


@pytest.fixture(scope="session")
def dataset_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """YAML file of ten small videos; not to be written to."""
    return write_dataset(tmp_path_factory.mktemp("data") / "tiny")


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, dataset_file: Path) -> Path:
    """Folder of a study of ten small videos made in one process and undisturbed; not to be written to."""
    folder = tmp_path_factory.mktemp("undisturbed")
    result = run(study_words(dataset_file, "--jobs", "1", "--tracking-uri", "off"), folder)
    assert result.returncode == 0, result.stderr
    assert not (folder / "mlflow.db").exists()
    return folder / STUDY


@pytest.fixture(scope="session")
def commands() -> Iterator[ForkedCommands]:
    """Commands that load plugins, which would stay in the process of the tests."""
    forked = ForkedCommands()
    yield forked
    forked.close()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One headless browser for all tests of a process; tests are skipped where none is installed."""
    with started_browser() as started:
        yield started
