"""Settings of property tests, and local object stores.

Property tests run without deadlines, because machines are shared. In CI they use the same examples each time.
"""

import os
import uuid

import pytest

try:
    from hypothesis import HealthCheck, settings
except ModuleNotFoundError:
    pass  # not needed by tests/dataset, which checks a user's dataset
else:
    settings.register_profile(
        "exploring", deadline=None, suppress_health_check=[HealthCheck.too_slow]
    )
    settings.register_profile(
        "repeatable", parent=settings.get_profile("exploring"), derandomize=True
    )
    settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "exploring"))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call():
    """Gives this process its usual place among others again: clips may have been coded as AV1 before.

    SVT-AV1's encoder, started by root, makes the thread that calls it a real-time one of the highest priority
    (``svt_av1_enc_init_handle``), which then starves the programs that the tests start.
    """
    if os.sched_getscheduler(0) != os.SCHED_OTHER:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


SECRET = "wJalrXUtnFEMI-never-to-be-written"


class Bucket:
    """A bucket on a local S3 server, accessed by the store's own client."""

    def __init__(self, client, name):
        self.name, self.url, self.client = name, f"s3://{name}", client

    def put(self, key, data=b""):
        self.client.put_object(Bucket=self.name, Key=key, Body=data)
        return f"{self.url}/{key}"

    def upload(self, folder, prefix):
        """Uploads every file of a local folder and returns the URL of the copy."""
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                self.put(f"{prefix}/{path.relative_to(folder).as_posix()}", path.read_bytes())
        return f"{self.url}/{prefix}"

    def names(self, prefix=""):
        pages = self.client.get_paginator("list_objects_v2").paginate(
            Bucket=self.name, Prefix=prefix
        )
        return [entry["Key"] for page in pages for entry in page.get("Contents", ())]

    def read(self, key):
        return self.client.get_object(Bucket=self.name, Key=key)["Body"].read()

    def unfinished_uploads(self):
        return self.client.list_multipart_uploads(Bucket=self.name).get("Uploads", [])


@pytest.fixture
def google(monkeypatch):
    """A stand-in for Google's store with one bucket; started processes find it too."""
    from tests.gcs_standin import serve
    from tfrecords_schema.store_clients import file_system

    file_system.cache_clear()  # a client keeps its address
    with serve(f"bucket-{uuid.uuid4().hex[:12]}") as store:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", store.address)
        yield store
    file_system.cache_clear()


@pytest.fixture(scope="session")
def s3_server():
    """The address of an S3 server on loopback."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(s3_server, monkeypatch, tmp_path):
    """A new bucket, and an environment that names its server, for this process and started ones."""
    import boto3

    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in {
        "AWS_ENDPOINT_URL": s3_server,
        "AWS_ACCESS_KEY_ID": "AKIATESTING",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": str(tmp_path / "no-config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "no-credentials"),
    }.items():
        monkeypatch.setenv(name, value)
    client = boto3.client("s3")
    bucket = Bucket(client, f"bucket-{uuid.uuid4().hex[:12]}")
    client.create_bucket(Bucket=bucket.name)
    yield bucket
    client.close()
