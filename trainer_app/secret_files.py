"""Files that hold secrets, by their names and their text: `--code` refuses to pack them, artifacts leave them out."""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import Final

_FOLDERS: Final = {".aws", ".ssh", ".kube", ".gnupg", ".azure", ".docker", ".gcloud", "gcloud", ".oci", ".kaggle"}
_NAMES: Final = (
    *(".env", ".env[-._]*", "*.env", ".envrc", ".flaskenv", ".netrc", "_netrc", ".pgpass", ".git-credentials"),
    *(".pypirc", ".npmrc", ".yarnrc.yml", ".my.cnf", ".mylogin.cnf", ".s3cfg", ".passwd-s3fs", ".boto", "rclone.conf"),
    *("id_rsa*", "id_dsa*", "id_ecdsa*", "id_ed25519*", "*.pem", "*.key", "*.p12", "*.pfx", "*.ppk", "*.jks", "*.kdbx"),
    *("*.p8", "*.keystore", "*.keytab", "*.ovpn", "kubeconfig", "kubeconfig[-._]*", "*.kubeconfig", "*kubeconfig.y*ml"),
    *("credentials", "credentials.*", "*credentials*.csv", "*accesskeys*.csv", "kaggle.json", "auth.json", ".secrets"),
    *("secrets.y*ml", "secrets.json", "secrets.toml", "secrets.ini", "secrets.txt", "password.txt", "passwords.txt"),
    *(".dockercfg", ".dockerconfigjson", ".htpasswd", "htpasswd", ".vault-token", ".databrickscfg", ".*_history"),
    *("application_default_credentials.json", "client_secret*.json", "service[-_]account*.json", "token.json", "token"),
    *("*.tfstate", "*.tfvars", "*.tfvars.json"),
)
_EXAMPLES: Final = ("*.example", "*.sample", "*.template", "*.dist", "*.pub", "*.py")
_COPY: Final = re.compile(r"(~|\.(bak|backup|old|orig|save|swp|copy|\d+))+$")
_TEXT: Final = re.compile(
    r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY( BLOCK)?-----(\\[rn]|\s)*([A-Za-z0-9+/]{16}|Proc-Type:|Version:)"
    r"|\A-----BEGIN [A-Z0-9 ]*PRIVATE KEY|\APuTTY-User-Key-File|\bAGE-SECRET-KEY-1"
    r"|aws_secret_access_key[\"']?\s*[=:]\s*[\"']?[A-Za-z0-9/+]{40}\b"
    r"|\"auths\"\s*:\s*\{[^{}]*\{[^{}]*\"auth\"\s*:\s*\"[A-Za-z0-9+/=]{8}",
    re.IGNORECASE,
)
_KIND: Final = re.compile(r"[\"']?\bkind[\"']?[ \t]*:[ \t]*[\"']?(Config|Secret)[\"']?[ \t]*(,|\}|\r?$)", re.MULTILINE)
_USERS: Final = re.compile(r"[\"']?\b(clusters|users)[\"']?[ \t]*:")
_DATA: Final = re.compile(r"[\"']?\b(data|stringData)[\"']?[ \t]*:\s*\{?\s*[\"']?[\w.-]+[\"']?[ \t]*:[ \t]*(?!\{\{)\S")
_PROSE: Final = {".py", ".md", ".rst", ".ipynb", ".html"}
_READ: Final = 1 << 20


def find_secret_files(root: Path, names: Iterable[str]) -> list[str]:
    """Return those of a folder's files that hold secrets: keys, passwords, kubeconfigs.

    Args:
        names: paths relative to `root`.
    """
    return [name for name in names if is_secret_name(name) or _is_secret_text(root / name)]


def is_secret_name(name: str) -> bool:
    """Return whether files of this name, or pattern of names, hold secrets; also copies that an editor keeps."""
    path = PurePosixPath(name.lower())
    if any(fnmatch(path.name, pattern) for pattern in _EXAMPLES):
        return False
    original = _COPY.sub("", path.name)  # of .NAME.swp, NAME or .NAME
    names = {path.name, original, original.removeprefix(".") if path.name.endswith(".swp") else original}
    return bool(_FOLDERS & set(path.parts[:-1])) or any(fnmatch(one, pattern) for one in names for pattern in _NAMES)


def _is_secret_text(path: Path) -> bool:
    with path.open("rb") as file:
        data = file.read(_READ)
    wide = data.startswith((b"\xff\xfe", b"\xfe\xff"))  # as PowerShell writes what a program prints
    if b"\0" in data[:4096] and not wide:
        return False
    text = data.decode("utf-16" if wide else "utf-8", errors="replace").lstrip("\ufeff \t\r\n")
    if _TEXT.search(text):
        return True
    kinds = set() if path.suffix.lower() in _PROSE else {found[1] for found in _KIND.finditer(text)}
    return bool(("Config" in kinds and _USERS.search(text)) or ("Secret" in kinds and _DATA.search(text)))
