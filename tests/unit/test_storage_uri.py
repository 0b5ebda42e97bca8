"""Which storage URIs are allowed: one parser, for the run file, its JSON Schema, the storage and an example's data."""

import re

import pytest

from tests.unit.tree import ROOT
from trainer_app.config import loads
from trainer_app.config.schema import json_schema
from trainer_app.errors import ConfigError, InputError
from trainer_app.storage import open_store
from trainer_app.storage_uri import OPTIONS, StorageUriError, is_s3_uri, join_uri, parse_storage_uri

pytestmark = pytest.mark.unit

ALLOWED = (
    "runs",
    "/a/b?c",
    "~/runs",
    "file:///a/b%20c",
    "file://localhost/a",
    "s3://bucket",
    "S3://bucket/x",
    "s3a://bucket/x",
    "S3A://bucket/x?region=r",
    "s3://bucket/x?endpoint_override=http://127.0.0.1:9000&region=r&scheme=http&force_virtual_addressing=true",
)
REFUSED = {
    "": "empty",
    "gs://bucket/x": "unknown kind 'gs'",
    "http://host/x": "unknown kind",
    "file://host/x": "three slashes",
    "file:///x?region=r": "three slashes",
    "s3://": "no bucket",
    "s3:///x": "no bucket",
    "s3://b/x": "'b' is not a bucket's name",
    "s3://bucket/../x": "'..'",
    "s3://bucket/a//b": "empty part",
    "s3://bucket/x?regoin=a": "unknown option 'regoin'",
    "s3://bucket/x?endpoint_override=ftp://h": "is not http://host:port",
    "s3://bucket/x?endpoint_override=u:CANARY@h": "credentials",
    "s3://KEY:CANARY@bucket/x": "credentials",
    "s3://KEY:CANARY/x": "credentials",
    "s3://bucket/x?secret_key=CANARY": "credentials",
}
# Rules that a pattern for editors can't say.
NOT_IN_SCHEMA = (
    "s3://bucket/../x",
    "s3://bucket/a//b",
    "file:///x?region=r",
    *(u for u in REFUSED if "bucket/x?" in u),
)


def run_file(uri: str) -> str:
    return loads(f'model: {{class_path: a.B}}\nstorage: {{uri: "{uri}"}}\n').storage.uri


def schema_pattern() -> str:
    return str(json_schema()["$defs"]["Storage"]["properties"]["uri"]["pattern"])


@pytest.mark.parametrize("uri", ALLOWED)
def test_what_is_allowed_is_allowed_everywhere(uri: str) -> None:
    assert run_file(uri) == uri
    assert open_store(open_store(uri).uri) == open_store(uri)
    assert re.search(schema_pattern(), uri)
    assert is_s3_uri(uri) == open_store(uri).uri.startswith("s3://")


@pytest.mark.parametrize("uri", REFUSED)
def test_what_is_refused_is_refused_everywhere(uri: str) -> None:
    for use, error in ((parse_storage_uri, StorageUriError), (run_file, ConfigError), (open_store, InputError)):
        with pytest.raises(error) as refused:
            use(uri)
        assert REFUSED[uri] in str(refused.value), use
        assert "CANARY" not in str(refused.value), use
    assert not uri or uri in NOT_IN_SCHEMA or not re.search(schema_pattern(), uri)


def test_a_folder_below() -> None:
    assert join_uri("s3://bucket/p/?region=eu", "mnist-1") == "s3://bucket/p/mnist-1?region=eu"
    assert join_uri("/a/b?c", "mnist-1") == "/a/b?c/mnist-1"


def test_no_other_module_takes_a_uri_apart() -> None:
    """The options' names are those of one module, and nobody asks for a scheme by hand."""
    for path in (ROOT / "trainer_app").rglob("*.py"):
        code = path.read_text()
        if path.name != "storage_uri.py":
            assert f'"{OPTIONS[0]}"' not in code, path
            assert not re.search(r"""["'](s3a?|file)?://["'] (not )?in |startswith\(["'](s3a?|file)://""", code), path
