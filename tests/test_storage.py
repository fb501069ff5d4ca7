"""Places in a store: a real S3 server, whose answers fail now and then."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from s3_server import Store, s3_server

from saefilter.artifacts import lease
from saefilter.artifacts.publish import exclusive, publishing
from saefilter.errors import SaefilterError
from saefilter.storage import (
    RemotePath,
    local_copy,
    located,
    matched,
    names_in,
    readable,
    same_file,
)


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    with s3_server() as running:
        yield running


def remote(store: Store, name: str) -> RemotePath:
    place = located(store.url(name))
    assert isinstance(place, RemotePath)
    return place


def first_time() -> Callable[[int, str], bool]:
    """Every request that has not been seen before, whatever it is for."""
    seen: set[str] = set()

    def new(number: int, line: str) -> bool:
        key = line.partition("uploadId")[0] + ("partNumber" if "partNumber" in line else "")
        return key not in seen and not seen.add(key)  # type: ignore[func-returns-value]

    return new


def test_a_name_is_a_path_here_or_a_place_in_a_store() -> None:
    assert located("a/b.parquet") == Path("a/b.parquet")
    assert located("file:///a/b.parquet") == Path("/a/b.parquet")
    place = located("s3://bucket/a/b.scores.parquet")
    assert (str(place), place.name, place.suffix, place.stem) == (
        "s3://bucket/a/b.scores.parquet", "b.scores.parquet", ".parquet", "b.scores",
    )  # fmt: skip
    assert str(place.with_name("c")) == "s3://bucket/a/c"
    assert str(place.parent / "d") == "s3://bucket/a/d"
    assert not same_file(place, Path("b.scores.parquet"))


def test_what_is_written_is_there_whatever_fails_on_the_way(store: Store, tmp_path: Path) -> None:
    folder = remote(store, "some/folder")
    file = tmp_path / "file"
    file.write_bytes(b"content" * 100_000)
    for kinds in ({"busy": first_time()}, {"cut": first_time()}, {"slow": lambda *_: True}):
        with store.fault(**kinds) as fault:
            (folder / "file").upload(file)
            assert readable(folder / "file").read() == file.read_bytes()
            assert local_copy(folder / "file").read_bytes() == file.read_bytes()
            (folder / "text").write_bytes("ä".encode())
            assert (folder / "text").read_text() == "ä"
            assert names_in(folder) == {"file", "text"}
            assert len(fault.lines) > 5
    assert folder.is_dir()
    assert not folder.is_file()
    (folder / "text").write_bytes(b"another")
    assert local_copy(folder / "text").read_text() == "another"
    folder.remove_all()
    assert names_in(folder) == set()
    assert not folder.is_dir()
    (folder / "text").unlink(missing_ok=True)
    with pytest.raises(FileNotFoundError):
        (folder / "text").read_bytes()


@pytest.mark.slow
def test_a_file_that_goes_up_in_parts(store: Store, tmp_path: Path) -> None:
    file, place = tmp_path / "large", remote(store, "large")
    file.write_bytes(b"x" * (101 << 20))
    with store.fault(busy=first_time()) as fault:
        place.upload(file)
    with store.fault(cut=first_time()):
        place.upload(file)
    assert any("partNumber" in line for line in fault.lines)
    assert local_copy(place).stat().st_size == file.stat().st_size


def test_a_store_that_cannot_be_used_is_named_with_what_to_do() -> None:
    with pytest.raises(SaefilterError, match=r"gs:// needs another package.*pip install gcsfs"):
        located("gs://bucket/x").exists()
    with pytest.raises(SaefilterError, match="zz:// is not known"):
        located("zz://bucket/x").exists()
    code = (
        "import sys; sys.modules['s3fs'] = None\n"
        "from saefilter.cli import main\n"
        "sys.argv[1:] = ['verify', 's3://bucket/x.parquet']\n"
        "main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert "pip install 'saefilter[s3]'" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_bucket_that_is_not_there(store: Store) -> None:
    with (
        pytest.raises(SaefilterError, match=r"s3://no-such-bucket/.x.lock cannot be written"),
        exclusive(located("s3://no-such-bucket/x")),
    ):
        pass


def test_two_runs_on_one_output_exclude_each_other(store: Store) -> None:
    output = remote(store, "lock/s.parquet")
    code = (
        "import sys; from saefilter.artifacts.publish import exclusive\n"
        "from saefilter.storage import located\n"
        "with exclusive(located(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(output)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(SaefilterError, match=rf"another run .*process {other.pid} on .*remove"):
            exclusive(output).__enter__()
        other.kill()
        other.wait()
        with exclusive(output):  # its process is not there any more
            assert names_in(output.parent) == {".s.parquet.lock"}
    assert names_in(output.parent) == set()
    with store.fault(cut=first_time()), exclusive(output):  # the answer to our own lock is lost
        assert names_in(output.parent) == {".s.parquet.lock"}


def test_a_lock_of_another_machine_goes_stale_and_its_run_finds_out(store: Store) -> None:
    output = remote(store, "stale/s.parquet")
    lock = output.with_name(".s.parquet.lock")
    said = {"host": "elsewhere", "process": 1, "token": "t", "alive": time.time() - 60}
    lock.write_bytes(json.dumps(said).encode())
    with pytest.raises(SaefilterError, match=r"process 1 on elsewhere, 6\d s ago.*5 minutes"):
        exclusive(output).__enter__()
    said["alive"] -= lease.STALE
    lock.write_bytes(json.dumps(said).encode())
    with exclusive(output):
        lock.write_bytes(json.dumps({**said, "alive": time.time()}).encode())  # it takes it back
        with (
            pytest.raises(SaefilterError, match="another run has taken over"),
            publishing([output]) as (temporary,),
        ):
            temporary.write_bytes(b"late")
    assert names_in(output.parent) == {".s.parquet.lock"}


def test_processes_of_another_container_are_not_ours(store: Store) -> None:
    output = remote(store, "contained/s.parquet")
    lock = output.with_name(".s.parquet.lock")
    said = {
        "host": socket.gethostname(), "processes": "pid:[1]", "process": os.getpid(), "token": "t",
        "alive": time.time(),
    }  # fmt: skip
    lock.write_bytes(json.dumps(said).encode())
    with pytest.raises(SaefilterError, match="another run is writing"):
        exclusive(output).__enter__()


def test_names_with_the_signs_of_patterns(store: Store) -> None:
    folder = remote(store, "signs/rows[1]*.shards")
    (folder / "a").write_bytes(b"1")
    remote(store, "signs/rows1.shards/a").write_bytes(b"1")
    folder.remove_all()
    assert names_in(folder) == set()
    assert remote(store, "signs/rows1.shards/a").exists()
    assert matched(store.url("signs/rows?.shards/*")) == [remote(store, "signs/rows1.shards/a")]
    assert matched(store.url("signs/none*")) == [located(store.url("signs/none*"))]
    for name in ("s3://", "s3://bucket", "s3://bucket/", "s3:///s.parquet"):
        with pytest.raises(SaefilterError, match="names nothing in a bucket"):
            located(name)
