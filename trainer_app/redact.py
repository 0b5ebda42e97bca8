"""Values without what should be in a Secret alone."""

from __future__ import annotations

import re
from typing import Any, Final

# existingSecret, imagePullSecrets and secretName name a Secret, and are none.
_SECRET: Final = re.compile(
    r"(?i)^(aws_)?(access_?key(_?id)?|secret_?(access_?)?key|session_?token|token|password|passwd|credentials?)$"
)


def remove_secrets(values: Any) -> Any:
    """A copy without the entries whose name says that they are secret, and without such variables of an `env` list."""
    if isinstance(values, dict):
        return {key: remove_secrets(value) for key, value in values.items() if not _SECRET.match(str(key))}
    if isinstance(values, list):
        kept = [one for one in values if not (isinstance(one, dict) and _SECRET.match(str(one.get("name", ""))))]
        return [remove_secrets(one) for one in kept]
    return values
