"""The page: one HTML file with everything in it, which asks the network for nothing."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from importlib.resources import files
from typing import Any, Final

from trainer_app.errors import TrainerError
from trainer_app.records import to_json

_FILES: Final = files("trainer_app.report")
LIBRARY: Final = "vendor/echarts.min.js"
_ENDS_SCRIPT: Final = re.compile(r"</script|<!--", re.IGNORECASE)


def render_page(document: dict[str, Any], *, live: str = "", tag: str = "") -> str:
    """Return the page of a document, in which only the scripts and the style that are written here run.

    Args:
        document: what `report_document` returns.
        live: the path on the server that the page comes from, where it asks for a newer document; "" for a file.
        tag: of `document` on that server.

    Raises:
        TrainerError: this install has no plotting library.
    """
    from jinja2 import Environment
    from markupsafe import Markup

    style, script, library = _read("page.css"), _read("page.js"), _library()
    template = Environment(autoescape=True).from_string(_read("page.html"))
    return template.render(
        policy=_policy(style, script, library) + ("; connect-src 'self'" if live else ""),
        live=live,
        tag=tag,
        title=_title(document),
        style=Markup(style),
        script=Markup(script),
        library=Markup(library),
        data=Markup(_embed(document)),
    )


def _policy(style: str, *scripts: str) -> str:
    allowed = " ".join(map(_hash, scripts))
    return (
        f"default-src 'none'; script-src {allowed}; style-src {_hash(style)}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _title(document: dict[str, Any]) -> str:
    names = [run["name"] for run in document["runs"]]
    return f"{', '.join(names[:3])}{f' and {len(names) - 3} more' if len(names) > 3 else ''} · trainer report"


def _embed(document: dict[str, Any]) -> str:
    """Return JSON that can't end the element it stands in, whatever the names in it are."""
    return to_json(document).decode().replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


@cache
def _read(name: str) -> str:
    return _FILES.joinpath(name).read_text(encoding="utf-8")


def has_library() -> bool:
    """Return whether this install has the plotting library."""
    return _FILES.joinpath(LIBRARY).is_file()


@cache
def _library() -> str:
    try:
        text = _read(LIBRARY)
    except FileNotFoundError as error:
        raise TrainerError(
            "this install has no plotting library (trainer_app/report/vendor): in a checkout run make setup"
        ) from error
    if "\r" in text or _ENDS_SCRIPT.search(text):
        raise TrainerError(f"trainer_app/report/{LIBRARY} can't be put into a page: it ends its own element")
    return text
