"""MinIO's keys, bucket and user, through the Kubernetes API: before `kubectl apply -f k8s/minio.yaml`, and after it.

    python k8s/minio_keys.py root   # the Secret minio/minio-root, with random keys, if it is not there
    python k8s/minio_keys.py user   # a bucket, a user who may use it alone, and the Secret trainer-s3

Both can be repeated.
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

BUCKET = USER = POLICY = "trainer"
SECRET = "trainer-s3"
RIGHTS = {
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


def make_secret(kube: Kube, name: str, values: dict[str, str]) -> dict[str, str]:
    """The Secret's values: these, or those that are there already."""
    try:
        kube.create({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": values})
    except AlreadyExistsError:
        return read_secret(kube, name)
    return values


def read_secret(kube: Kube, name: str) -> dict[str, str]:
    return {key: base64.b64decode(value).decode() for key, value in kube.get("Secret", name)["data"].items()}


def root(context: str | None) -> None:
    keys = {"MINIO_ROOT_USER": "root", "MINIO_ROOT_PASSWORD": secrets.token_urlsafe(24)}
    make_secret(connect("minio", context), "minio-root", keys)


def user(namespace: str, context: str | None) -> None:
    minio = connect("minio", context)
    keys = read_secret(minio, "minio-root")
    given = {"AWS_ACCESS_KEY_ID": USER, "AWS_SECRET_ACCESS_KEY": secrets.token_urlsafe(24)}
    given = make_secret(connect(namespace, context), SECRET, given)
    with forward_port(minio, "minio", "minio", 9000) as port:
        make_bucket(port, keys)
        make_user(port, keys, given)
    print(f"bucket {BUCKET}, and the Secret {SECRET} in {namespace}")


def make_bucket(port: int, keys: dict[str, str]) -> None:
    s3 = boto3.client(
        "s3",
        endpoint_url=f"http://127.0.0.1:{port}",
        region_name="us-east-1",
        aws_access_key_id=keys["MINIO_ROOT_USER"],
        aws_secret_access_key=keys["MINIO_ROOT_PASSWORD"],
    )
    if BUCKET not in [one["Name"] for one in s3.list_buckets()["Buckets"]]:
        s3.create_bucket(Bucket=BUCKET)


def make_user(port: int, keys: dict[str, str], given: dict[str, str]) -> None:
    provider = StaticProvider(keys["MINIO_ROOT_USER"], keys["MINIO_ROOT_PASSWORD"])
    admin = MinioAdmin(endpoint=f"127.0.0.1:{port}", credentials=provider, secure=False)
    admin.user_add(given["AWS_ACCESS_KEY_ID"], given["AWS_SECRET_ACCESS_KEY"])
    admin.policy_add(POLICY, policy=RIGHTS)
    if POLICY not in admin.user_info(given["AWS_ACCESS_KEY_ID"]).split('"'):
        admin.attach_policy([POLICY], user=given["AWS_ACCESS_KEY_ID"])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["root", "user"])
    parser.add_argument("--namespace", default="trainer")
    parser.add_argument("--context", help="of the kubeconfig [default: the current one]")
    asked = parser.parse_args()
    if asked.what == "root":
        root(asked.context)
    else:
        user(asked.namespace, asked.context)
