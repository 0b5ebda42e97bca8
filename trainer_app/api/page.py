"""A page as a notebook shows it."""

from __future__ import annotations

from dataclasses import dataclass, field
from html import escape
from pathlib import Path

from trainer_app.machine import write_whole


@dataclass(frozen=True)
class Report:
    """A page as HTML, of which a notebook shows the frame."""

    html: str = field(repr=False)

    def save(self, path: str | Path) -> Path:
        """Write the page to a file, and return its path. Raises InputError if it can't be written."""
        write_whole(Path(path), self.html.encode())
        return Path(path)

    def _repr_html_(self) -> str:
        # A frame of its own: neither its style nor its script meets the notebook's, which may not run scripts itself.
        source = escape(self.html, quote=True)
        return f'<iframe sandbox="allow-scripts" srcdoc="{source}" style="width:100%;height:700px;border:0"></iframe>'
