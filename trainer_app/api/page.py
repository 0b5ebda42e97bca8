"""A page as a notebook shows it."""

from __future__ import annotations

from dataclasses import dataclass, field
from html import escape
from pathlib import Path


@dataclass(frozen=True)
class Report:
    """A page as HTML, of which a notebook shows the frame."""

    html: str = field(repr=False)

    def save(self, path: str | Path) -> Path:
        """Write the page to a file, and return its path."""
        Path(path).write_text(self.html, encoding="utf-8")
        return Path(path)

    def _repr_html_(self) -> str:
        # A frame of its own: neither its style nor its script meets the notebook's, which may not run scripts itself.
        source = escape(self.html, quote=True)
        return f'<iframe sandbox="allow-scripts" srcdoc="{source}" style="width:100%;height:700px;border:0"></iframe>'
