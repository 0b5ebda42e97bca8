"""Files of a folder of code that hold secrets, by their names and first bytes: `--code` refuses to pack them."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import Final

_FOLDERS: Final = {".aws", ".ssh", ".kube", ".gnupg", ".azure", ".docker", "gcloud"}
_NAMES: Final = (
    *(".env", ".env.*", "*.env", ".envrc", ".netrc", "_netrc", ".pgpass", ".git-credentials", ".pypirc", ".npmrc"),
    *("id_rsa*", "id_dsa*", "id_ecdsa*", "id_ed25519*", "*.pem", "*.key", "*.p12", "*.pfx", "*.ppk", "*.jks", "*.kdbx"),
    *("kubeconfig", "kubeconfig[.-_]*", "*.kubeconfig", "*kubeconfig.y*ml", "credentials", "credentials.*"),
    *("secrets.y*ml", "secrets.json", "secrets.toml", ".dockercfg", ".dockerconfigjson", ".htpasswd"),
    *("application_default_credentials.json", "client_secret*.json", "service[-_]account*.json", "*.tfstate"),
)
_EXAMPLES: Final = ("*.example", "*.sample", "*.template", "*.dist", "*.pub", "*.py")
_HEAD: Final = 4096


def find_secret_files(root: Path, names: Iterable[str]) -> list[str]:
    """Return those of a folder's files that hold secrets: keys, passwords, kubeconfigs.

    Args:
        names: paths relative to `root`.
    """
    return [name for name in names if _is_secret_name(name) or _is_secret_text(root / name)]


def _is_secret_name(name: str) -> bool:
    path = PurePosixPath(name.lower())
    if any(fnmatch(path.name, pattern) for pattern in _EXAMPLES):
        return False
    return bool(_FOLDERS & set(path.parts[:-1])) or any(fnmatch(path.name, pattern) for pattern in _NAMES)


def _is_secret_text(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(_HEAD).lstrip()
    if head.startswith(b"-----BEGIN"):
        return b"PRIVATE KEY" in head.partition(b"\n")[0]
    return b"\0" not in head and b"kind: Config\n" in head and (b"clusters:" in head or b"users:" in head)
