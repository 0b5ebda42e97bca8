"""The one place that opens a storage URI: a folder, `file://...` or any S3.

    store = open_store("s3://bucket/prefix?endpoint_override=http://127.0.0.1:9000&region=eu-west-1")
    store.put("run/run.json", b"{}")

Importing this costs no boto3; the first call to S3 does.
"""

from trainer_app.storage.base import Entry, Store, Unfinished, store_name
from trainer_app.storage.retrying import RetryingStore, open_retrying, patience_s, try_once
from trainer_app.storage.uri import open_store, split_uri

__all__ = [
    "Entry",
    "RetryingStore",
    "Store",
    "Unfinished",
    "open_retrying",
    "open_store",
    "patience_s",
    "split_uri",
    "store_name",
    "try_once",
]
