"""Hooks of mkdocs: notebooks and published reports, which lie beside `docs/`, are part of the site."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import TYPE_CHECKING

from mkdocs.plugins import event_priority
from mkdocs.structure.files import File, Files

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
ADDED = {"notebooks": (".ipynb",), "reports/published": (".md", ".html", ".png", ".py")}
"""Folders of the repository whose files are added, with the suffixes of these files."""
MARKDOWN_LINK = re.compile(r"(?<=\]\()([^)#\s]+)")
HTML_LINK = re.compile(r'(?<=<a href=")([^"#]+)')


@event_priority(100)  # before mkdocs-jupyter, which renders the notebooks among the files
def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the files of the other folders."""
    for folder, suffixes in ADDED.items():
        for path in sorted((ROOT / folder).rglob("*")):
            if path.is_file() and path.suffix in suffixes:
                name = path.relative_to(ROOT).as_posix()
                files.append(File(name, str(ROOT), config.site_dir, config.use_directory_urls))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let links between files of the repository lead to the pages of the site."""
    return MARKDOWN_LINK.sub(lambda link: site_link(link[1], page.file), markdown)


def on_page_content(html: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Do the same for notebooks, which are HTML already."""
    if not page.file.src_uri.endswith(".ipynb"):
        return html
    return HTML_LINK.sub(lambda link: re.sub(r"\.(md|ipynb)$", ".html", site_link(link[1], page.file)), html)


def site_link(link: str, file: File) -> str:
    """Return a link of a file of the repository as it is in the site, where `docs/` is the root."""
    if "://" in link or link.startswith(("mailto:", "/")):
        return link
    own = (
        file.src_uri
        if any(file.src_uri.startswith(f"{folder}/") for folder in ADDED)
        else f"docs/{file.src_uri}"
    )
    target = posixpath.normpath(posixpath.join(posixpath.dirname(own), link)).removeprefix("docs/")
    return posixpath.relpath(target, posixpath.dirname(file.src_uri) or ".")
