"""Create MinIO's keys before `kubectl apply -f k8s/minio.yaml`, and its bucket and user after it.

    python k8s/minio_keys.py root   # the Secret minio/minio-root with random keys, unless it exists
    python k8s/minio_keys.py user   # a bucket, two users who may use only that, and the Secrets trainer-s3 and
                                    # trainer-s3-reader, whose user may only read: for the pages (ui.enabled)

Uses the Kubernetes API. Both can be repeated.
"""

from __future__ import annotations

import argparse
import base64
import secrets

import boto3
from minio import MinioAdmin
from minio.credentials import StaticProvider

from trainer_app.errors import AlreadyExistsError
from trainer_app.launch.kube import Kube, connect
from trainer_app.launch.tunnel import forward_port

ENDPOINT = "http://minio.minio.svc.cluster.local:9000"
BUCKET = USER = POLICY = "trainer"
READER = "trainer-reader"
SECRET, READER_SECRET = "trainer-s3", "trainer-s3-reader"
POLICY_DOCUMENT = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Action": ["s3:ListBucket", "s3:GetBucketLocation", "s3:ListBucketMultipartUploads"],
            "Resource": [f"arn:aws:s3:::{BUCKET}"],
        },
        {
            "Effect": "Allow",
            "Action": [
                "s3:GetObject",
                "s3:PutObject",
                "s3:DeleteObject",
                "s3:AbortMultipartUpload",
                "s3:ListMultipartUploadParts",
            ],
            "Resource": [f"arn:aws:s3:::{BUCKET}/*"],
        },
    ],
}
READER_DOCUMENT = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Action": ["s3:ListBucket", "s3:GetBucketLocation"],
            "Resource": [f"arn:aws:s3:::{BUCKET}"],
        },
        {"Effect": "Allow", "Action": ["s3:GetObject"], "Resource": [f"arn:aws:s3:::{BUCKET}/*"]},
    ],
}


def make_secret(kube: Kube, name: str, values: dict[str, str]) -> dict[str, str]:
    """Create a Secret unless it exists; return its values."""
    try:
        kube.create({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": values})
    except AlreadyExistsError:
        return read_secret(kube, name)
    return values


def read_secret(kube: Kube, name: str) -> dict[str, str]:
    """Return a Secret's values, decoded."""
    return {key: base64.b64decode(value).decode() for key, value in kube.get("Secret", name)["data"].items()}


def make_root(context: str | None) -> None:
    """Create the Secret with MinIO's root keys."""
    keys = {"MINIO_ROOT_USER": "root", "MINIO_ROOT_PASSWORD": secrets.token_urlsafe(24)}
    make_secret(connect("minio", context), "minio-root", keys)


def make_trainer(namespace: str, context: str | None) -> None:
    """Create the bucket, its users, and the Secrets with their keys in the namespace."""
    minio = connect("minio", context)
    root = read_secret(minio, "minio-root")
    kube = connect(namespace, context)
    keys, reader = (make_secret(kube, *of) for of in ((SECRET, make_keys(USER)), (READER_SECRET, make_keys(READER))))
    if "AWS_ENDPOINT_URL" not in keys:  # of an earlier version: to which server the keys belong
        kube.patch("Secret", SECRET, {"stringData": {"AWS_ENDPOINT_URL": ENDPOINT}})
    with forward_port(minio, "minio", "minio", 9000) as port:
        make_bucket(port, root)
        make_user(port, root, keys, POLICY, POLICY_DOCUMENT)
        make_user(port, root, reader, READER, READER_DOCUMENT)
    print(f"bucket {BUCKET}, and Secrets {SECRET} and {READER_SECRET} in namespace {namespace}")


def make_keys(user: str) -> dict[str, str]:
    """Return new keys of a user, and of which server they are."""
    return {"AWS_ACCESS_KEY_ID": user, "AWS_SECRET_ACCESS_KEY": secrets.token_urlsafe(24), "AWS_ENDPOINT_URL": ENDPOINT}


def make_bucket(port: int, root: dict[str, str]) -> None:
    """Create the bucket unless it exists."""
    s3 = boto3.client(
        "s3",
        endpoint_url=f"http://127.0.0.1:{port}",
        region_name="us-east-1",
        aws_access_key_id=root["MINIO_ROOT_USER"],
        aws_secret_access_key=root["MINIO_ROOT_PASSWORD"],
    )
    if BUCKET not in [one["Name"] for one in s3.list_buckets()["Buckets"]]:
        s3.create_bucket(Bucket=BUCKET)


def make_user(port: int, root: dict[str, str], keys: dict[str, str], policy: str, document: dict[str, object]) -> None:
    """Create or update a user, who may do only what the policy of this name and document allows."""
    provider = StaticProvider(root["MINIO_ROOT_USER"], root["MINIO_ROOT_PASSWORD"])
    admin = MinioAdmin(endpoint=f"127.0.0.1:{port}", credentials=provider, secure=False)
    admin.user_add(keys["AWS_ACCESS_KEY_ID"], keys["AWS_SECRET_ACCESS_KEY"])
    admin.policy_add(policy, policy=document)
    if policy not in admin.user_info(keys["AWS_ACCESS_KEY_ID"]).split('"'):
        admin.attach_policy([policy], user=keys["AWS_ACCESS_KEY_ID"])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["root", "user"])
    parser.add_argument("--namespace", default="trainer")
    parser.add_argument("--context", help="of the kubeconfig [default: its current context]")
    options = parser.parse_args()
    if options.what == "root":
        make_root(options.context)
    else:
        make_trainer(options.namespace, options.context)
