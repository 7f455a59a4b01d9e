"""Default folders of studies, relative to the working directory."""

from pathlib import Path

REPORTS = Path("reports")
"""Folder with a folder per study."""
PUBLISHED = REPORTS / "published"
"""Folder of published studies."""
