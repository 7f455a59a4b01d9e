"""Files of a report: tables are written first, so that a figure that cannot be drawn does not cost them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TypeVar

from tal_bench.errors import TalBenchError
from tal_bench.report.common.figure_declaration import Data, FigureDeclaration
from tal_bench.report.common.plot_style import rendered
from tal_bench.system.files import write_atomically
from tal_bench.system.fonts import unavailable
from tal_bench.system.text import printable, typed_line

LOG = logging.getLogger(__name__)
SHOWN = 20
"""Maximum number of characters without a font that are named."""
Result = TypeVar("Result")


class IncompleteReportError(TalBenchError):
    """Some files could not be made; everything else has been written; exit code 1.

    Args:
        problems: File, type of error and message of each.
        files: Written files.
        hint: Advice on what to do.
    """

    def __init__(self, problems: Iterable[str], files: Iterable[Path], hint: str) -> None:
        super().__init__(f"the report lacks {'; '.join(problems)}", hint=hint)
        self.files = tuple(files)


class ReportFiles:
    """Writes the files of a report to a folder and remembers what could not be made.

    Args:
        folder: Folder of the report.
        again: Command that makes the report again.
    """

    def __init__(self, folder: Path, again: str) -> None:
        self._folder, self._again = folder, again
        self._written: list[Path] = []
        self._problems: list[str] = []
        self._without_font: set[str] = set()

    def write(self, files: Mapping[str, str | bytes]) -> None:
        """Write files, given by name within the folder.

        Raises:
            InputError: The folder is not writable.
        """
        for name, content in files.items():
            write_atomically(self._folder / name, content)
            self._written.append(self._folder / name)

    def attempt(self, name: str, make: Callable[[], Result]) -> Result | None:
        """Return what `make` returns; None, and a line at the end, if it fails."""
        try:
            return make()
        except Exception as error:  # a library or a plugin may raise any error
            self._problems.append(f"{name} ({typed_line(error)})")
            return None

    def draw_all(self, figures: Iterable[FigureDeclaration[Data]], data: Data) -> dict[str, bytes]:
        """Write all figures for which there is data, and return their SVGs by name."""
        images = {f.name: self._draw(f, data) for f in figures}
        return {name: image for name, image in images.items() if image is not None}

    def _draw(self, figure: FigureDeclaration[Data], data: Data) -> bytes | None:
        name = Path(figure.folder, figure.name).as_posix()

        def render() -> dict[str, bytes]:
            if (drawing := figure.draw(data)) is None:
                return {}
            self._without_font |= unavailable(drawing)
            return rendered(drawing)

        images = self.attempt(name, render) or {}
        self.write({f"{name}{suffix}": content for suffix, content in images.items()})
        return images.get(".svg")

    def finish(self) -> list[Path]:
        """Return the written files, after a line on characters without a font.

        Raises:
            IncompleteReportError: Something could not be made.
        """
        if self._without_font:
            characters = " ".join(sorted(self._without_font)[:SHOWN])
            more = " …" if len(self._without_font) > SHOWN else ""
            LOG.warning(
                "no installed font has %s%s, so figures show boxes instead (install one, such as Noto Sans)",
                printable(characters),
                more,
            )
        if self._problems:
            hint = f"the other files are written; to make it again: {self._again}"
            raise IncompleteReportError(self._problems, self._written, hint)
        return self._written
