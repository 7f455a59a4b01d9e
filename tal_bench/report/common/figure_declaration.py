"""Declaration of a figure of a report."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from tal_bench.system.fonts import draw_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Data = TypeVar("Data")


def _always(data: object) -> bool:
    """Draw the figure of every study."""
    return True


@dataclass(frozen=True)
class FigureDeclaration(Generic[Data]):
    """A figure of a report.

    Attributes:
        name: Name of its files.
        section: Title of its section on the page; a new section comes before the last one.
        caption: Sentence below the figure on the page.
        make: Function that draws the figure; None if there is too little data.
        needs: Function that tells whether there is data to draw.
        folder: Folder of its files within the output folder.
    """

    name: str
    section: str
    caption: str
    make: Callable[[Data], Figure | None]
    needs: Callable[[Data], bool] = _always
    folder: str = "figures"

    def draw(self, data: Data) -> Figure | None:
        """Draw the figure, with all text as it is; None if there is too little data."""
        return draw_text(lambda: self.make(data)) if self.needs(data) else None
