"""What a worker of the Ray engine does, on its own host: load a scorer once, score the shards it is given.

Whatever goes wrong is returned, not raised: Ray writes what actors raise to its logs, and an error may
quote a row. Which worker gets what is in ray_engine.py.
"""

from __future__ import annotations

import os
import platform
import socket
import traceback
from contextlib import suppress
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from saefilter import __version__
from saefilter.artifacts.publish import publishing
from saefilter.errors import SaefilterError
from saefilter.scoring.job import Job, Receipt, ShardRows

if TYPE_CHECKING:
    from saefilter.scoring.engine import Work
    from saefilter.scoring.scorer import ScorerIdentity
    from saefilter.settings import ScoreSettings


class Loaded(NamedTuple):
    """A worker that can be given shards."""

    identity: ScorerIdentity
    at_hand: int
    """Shards that it takes at a time."""


class Unexpected(NamedTuple):
    """A mistake of ours, without its message, which may quote a row."""

    kind: str
    place: str
    """Innermost line of this package."""


class RayWorker:
    """An actor."""

    def about(self) -> dict[str, str]:
        """Where it is and what is installed there. Plain values: it may be of another version."""
        import ray

        node = ray.get_runtime_context().get_node_id()
        return {"host": socket.gethostname(), "node": node, **versions()}

    def load(
        self, settings: ScoreSettings, folder: str, threads: int | None
    ) -> Loaded | SaefilterError:
        """Load model, SAE and toxic set. `folder`: the driver's, for names relative to it; `threads`
        on a CPU, None on a GPU."""
        with suppress(OSError):  # where it is not there, what is named relative to it is not either
            os.chdir(folder)
        try:
            import torch

            from saefilter.scoring.engine import LocalEngine
            from saefilter.scoring.scorer import RowScorer

            if threads is not None:
                torch.set_num_threads(threads)
                settings = replace(settings, device="cpu")
            else:
                settings = replace(settings, device="cuda")  # the one that Ray lets it see
            self._scorer = RowScorer.load(settings)
            engine = LocalEngine(self._scorer)
        except SaefilterError as error:
            return error
        except Exception as error:
            return SaefilterError(f"{type(error).__name__}: {(str(error) or '?').splitlines()[0]}")
        return Loaded(engine.identity, engine.at_hand)

    def begin(self, told: tuple[Work, Job, Mark]) -> SaefilterError | None:
        """Take on a job, if its folder is to be seen from here."""
        self._work, self._job, mark = told
        job = self._job
        self._scorer.encoder.limit_memory(job.memory_limit)
        return mark.unseen(job)

    def score(self, read: ShardRows) -> Receipt | SaefilterError | Unexpected:
        """Do the work of one shard; several at the same time, each in a thread of its own."""
        try:
            return self._work(self._job, self._scorer, read, lambda tokens: None)
        except SaefilterError as error:
            return type(error)(error.problem, where=error.where, remedy=error.remedy)
        except Exception as error:
            frames = traceback.extract_tb(error.__traceback__)
            own = [frame for frame in frames if "saefilter" in frame.filename] or frames
            return Unexpected(
                type(error).__name__, f"{Path(own[-1].filename).name}:{own[-1].lineno}"
            )


class Mark(NamedTuple):
    """A file in a job's folder by which a worker knows that it sees the same folder as the driver."""

    name: str
    text: str

    @classmethod
    def new(cls) -> Mark:
        text = os.urandom(8).hex()
        return cls(f".mark-{text}.tmp", text)  # resuming removes names like this

    def leave(self, job: Job) -> None:
        """Write it."""
        with publishing([job.folder / self.name], folders=False) as (temporary,):
            temporary.write_text(self.text, encoding="utf-8")

    def remove(self, job: Job) -> None:
        """Remove it, if the folder is still there."""
        with suppress(OSError, SaefilterError):  # of a store, which says the latter
            (job.folder / self.name).unlink()

    def unseen(self, job: Job) -> SaefilterError | None:
        """What is wrong where it is not to be seen."""
        try:
            if (job.folder / self.name).read_text(encoding="utf-8") == self.text:
                return None
        except OSError:
            pass
        except SaefilterError as error:  # of a store
            return SaefilterError(error.problem)
        return SaefilterError(
            f"the folder {job.folder} is not to be seen there",
            remedy="Put the scores (-o) where all hosts have the same folder: NFS, Lustre, s3://.",
        )


def versions() -> dict[str, str]:
    """Of what scores depend on, besides what is loaded; of torch without the kind of its build, since
    a driver without a GPU may have another one."""
    try:
        torch = version("torch").split("+")[0]
    except PackageNotFoundError:
        torch = "none"
    return {"saefilter": __version__, "python": platform.python_version(), "torch": torch}
