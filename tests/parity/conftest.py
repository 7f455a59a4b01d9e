"""Collection of parity fixtures, and a summary of the worst error of each kind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .checks import Compared
from .fixtures import Fixture, FixtureError, discover

HERE = Path(__file__).parent
EXCERPT = HERE / "excerpt"
SIBLINGS = [HERE.parents[2] / "shared" / name for name in ("parity", "kd")]
WORST = pytest.StashKey[dict[str, dict[str, list[Compared]]]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--parity-dir",
        action="append",
        metavar="DIR",
        help="folder of NAME.json + NAME.safetensors; repeatable "
        "(default: excerpt, ../shared/parity, ../shared/kd)",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.stash[WORST] = {}


def selected_fixtures(config: pytest.Config) -> list[Fixture]:
    """Return the fixtures of the folders given by --parity-dir, or of the default folders that exist."""
    given = config.getoption("parity_dir", default=None)
    folders = [Path(folder) for folder in given or [EXCERPT, *filter(Path.is_dir, SIBLINGS)]]
    try:
        return [fixture for folder in folders for fixture in discover(folder)]
    except FixtureError as error:
        raise pytest.UsageError(str(error)) from None


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "fixture" not in metafunc.fixturenames:
        return
    fixtures = selected_fixtures(metafunc.config)
    metafunc.parametrize("fixture", fixtures, ids=[fixture.id for fixture in fixtures])


@pytest.fixture
def record(request: pytest.FixtureRequest) -> Iterator[dict[str, list[Compared]]]:
    """Comparisons by kind, stored for the summary."""
    yield request.config.stash[WORST].setdefault(request.node.callspec.id, {})


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    kinds: dict[str, list[tuple[str, Compared]]] = {}
    for fixture, by_kind in config.stash.get(WORST, {}).items():
        for kind, compared in by_kind.items():
            kinds.setdefault(kind, []).extend((fixture, one) for one in compared)
    if not kinds:
        return
    terminalreporter.section("parity: worst error per kind")
    for kind, entries in sorted(kinds.items()):
        fixture, worst = max(entries, key=lambda entry: _excess(entry[1]))
        terminalreporter.write_line(
            f"{kind}: {len(entries)} comparisons, worst {worst.error:.2e} of {worst.tolerance:.0e} allowed "
            f"in {fixture} ({worst.what})"
        )


def _excess(compared: Compared) -> float:
    """Return the error relative to its tolerance; NaN is the worst."""
    if compared.error != compared.error:
        return float("inf")
    return compared.error / compared.tolerance if compared.tolerance else compared.error
