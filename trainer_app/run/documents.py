"""Small JSON documents beside a run's records."""

from __future__ import annotations

import json
import logging
from typing import Any

from trainer_app.errors import NotFoundError
from trainer_app.records import to_json
from trainer_app.storage import Store

_log = logging.getLogger(__name__)


def read(store: Store, key: str) -> dict[str, Any] | None:
    """Return the document; None if there is none, or if it is not a JSON object, which is logged."""
    try:
        document = json.loads(store.get(key))
        if isinstance(document, dict):
            return document
        error: Exception = ValueError("a JSON object was expected")
    except NotFoundError:
        return None
    except (ValueError, RecursionError) as caught:
        error = caught
    _log.warning("%s: %s is damaged and is not used: %s", store.uri, key, error)
    return None


def write(
    store: Store, key: str, document: dict[str, Any], *, create: bool = False, if_match: str | None = None
) -> None:
    """Write the document.

    Args:
        create, if_match: the conditions of `Store.put`.

    Raises:
        AlreadyExistsError, ObjectChangedError: the condition does not hold.
    """
    store.put(key, to_json(document), create=create, if_match=if_match)
