"""Bytes go into an object store and come back; what goes wrong is said with the way out."""

from __future__ import annotations

import hashlib
import json
import signal
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from kdltr_core.object_store import CHUNK_BYTES, ObjectStore, StoreUnreachable
from tests.object_store import Bucket

pytestmark = pytest.mark.slow


def test_what_is_written_is_what_amazons_client_reads(bucket: Bucket) -> None:
    store = ObjectStore(f"{bucket.uri}/runs/first")
    store.put("evaluation/table of words.md", b"| a |")
    store.put("empty", b"")
    assert bucket.objects() == ["runs/first/empty", "runs/first/evaluation/table of words.md"]
    assert bucket.get("runs/first/evaluation/table of words.md") == b"| a |"
    assert bucket.get("runs/first/empty") == b""


def test_what_amazons_client_wrote_is_listed_and_read(bucket: Bucket, tmp_path: Path) -> None:
    bucket.put("sets/one", b"1")
    bucket.put("sets/inner/two", b"22")
    bucket.put("other/three", b"333")
    store = ObjectStore(f"{bucket.uri}/sets/")
    assert {name: file.size for name, file in store.files().items()} == {"inner/two": 2, "one": 1}
    assert store.read("inner/two") == b"22"
    assert store.file("two") is None
    assert (store.name, store.parent_name) == ("sets", bucket.name)
    single = ObjectStore(f"{bucket.uri}/sets/inner/two")
    assert [(name, file.size) for name, file in single.files().items()] == [("", 2)]
    single.download("", tmp_path / "two")
    assert (tmp_path / "two").read_bytes() == b"22"


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES, 9 * CHUNK_BYTES + 5])
def test_an_object_of_many_chunks_comes_whole_and_in_order(size: int, bucket: Bucket, tmp_path: Path) -> None:
    content = np.random.default_rng(0).bytes(size)
    bucket.put("large", content)
    counted: list[int] = []
    digest = ObjectStore(bucket.uri).download("large", tmp_path / "new" / "large", counted.append)
    assert (tmp_path / "new" / "large").read_bytes() == content
    assert digest == hashlib.blake2b(content, digest_size=16).hexdigest()
    assert sum(counted) == size


def test_deleting_needs_nothing_to_be_there(bucket: Bucket) -> None:
    bucket.put("a", b"1")
    store = ObjectStore(bucket.uri)
    store.delete("a")
    store.delete("a")
    assert bucket.objects() == []


def test_a_signal_while_an_object_is_written_leaves_the_old_or_the_new_one(bucket: Bucket) -> None:
    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    store = ObjectStore(bucket.uri)
    before, after = b"before", b"after" * 1000
    before_handler = signal.signal(signal.SIGALRM, interrupt)
    try:
        for step in range(1, 40):
            bucket.put("student", before)
            with suppress(KeyboardInterrupt):
                try:
                    signal.setitimer(signal.ITIMER_REAL, 3e-4 * step)
                    store.put("student", after)
                finally:
                    signal.setitimer(signal.ITIMER_REAL, 0)
            assert bucket.get("student") in (before, after)
    finally:
        signal.signal(signal.SIGALRM, before_handler)


def test_a_server_may_be_named_in_the_uri(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    bucket.put("sets/one", b"1")
    address = bucket.server.endpoint.removeprefix("http://")
    store = ObjectStore(f"{bucket.uri}/sets?endpoint_override={address}&scheme=http&region=us-east-1")
    assert store.read("one") == b"1"


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("nonsense://bucket/x", r"nonsense://bucket/x cannot be opened: .*Expected a URI such as s3://bucket/folder"),
        ("https://example.org/set", r"cannot be opened: .*Expected a URI such as s3://bucket/folder"),
        ("s3://bucket/x?reigon=eu", r"cannot be opened: .*'reigon'"),
        ("s3://", "names no bucket; expected something like"),
    ],
)
def test_a_uri_that_is_not_understood_is_refused(uri: str, said: str, bucket: Bucket) -> None:
    with pytest.raises(ValueError, match=said):
        ObjectStore(uri)


def test_a_password_is_refused_and_not_repeated(bucket: Bucket) -> None:
    with pytest.raises(ValueError, match=r"bucket/x holds a password, .* set AWS_ACCESS_KEY_ID") as caught:
        ObjectStore("s3://mykey:mysecret@bucket/x")
    assert "mysecret" not in str(caught.value)


def test_an_object_or_bucket_that_is_not_there_is_named(bucket: Bucket) -> None:
    with pytest.raises(ValueError, match=f"there is no object {bucket.uri}/sets/none; correct its name"):
        ObjectStore(f"{bucket.uri}/sets").read("none")
    elsewhere = ObjectStore("s3://no-such-bucket/sets")
    assert elsewhere.files() == {}
    with pytest.raises(ValueError, match="there is no bucket for s3://no-such-bucket/sets/one; make it"):
        elsewhere.put("one", b"")


def test_a_store_that_does_not_answer_is_the_machines_fault(bucket: Bucket) -> None:
    store = ObjectStore(f"{bucket.uri}/x?endpoint_override=127.0.0.1:9&scheme=http&region=us-east-1")
    with pytest.raises(StoreUnreachable, match=r"does not answer .* check the network and, .* AWS_ENDPOINT_URL"):
        store.files()


@pytest.fixture
def guarded(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    """The bucket, with a user's key in the environment who may list and read, and no more."""
    iam = bucket.server.client("iam")
    iam.create_user(UserName=bucket.name)
    allowed = {"Effect": "Allow", "Action": ["s3:ListBucket", "s3:GetObject"], "Resource": "*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [allowed]})
    iam.put_user_policy(UserName=bucket.name, PolicyName="reads", PolicyDocument=policy)
    key = iam.create_access_key(UserName=bucket.name)["AccessKey"]
    bucket.put("sets/one", b"1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key["AccessKeyId"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key["SecretAccessKey"])
    _requests_without_a_check(bucket, b"0")
    yield bucket
    _requests_without_a_check(bucket, b"inf")


def _requests_without_a_check(bucket: Bucket, count: bytes) -> None:
    url, plain = f"{bucket.server.endpoint}/moto-api/reset-auth", {"Content-Type": "text/plain"}
    urllib.request.urlopen(urllib.request.Request(url, count, plain, method="POST")).close()


def test_a_lack_of_permission_says_where_credentials_go(guarded: Bucket) -> None:
    store = ObjectStore(f"{guarded.uri}/sets")
    assert store.read("one") == b"1"
    for action in (lambda: store.put("two", b"2"), lambda: store.delete("one")):
        with pytest.raises(ValueError, match=f"no permission for {guarded.uri}/sets/.* AWS_ACCESS_KEY_ID"):
            action()


def test_so_does_a_wrong_key(guarded: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "unknown")
    with pytest.raises(ValueError, match=f"no permission for {guarded.uri}/sets .* AWS_ACCESS_KEY_ID"):
        ObjectStore(f"{guarded.uri}/sets").files()
