"""Models fetched from Hugging Face's hub. Needs huggingface_hub, the part `hub` of redoseg."""

from __future__ import annotations

import contextlib
import errno
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from redoseg.errors import MissingError, ModelError, RedosegError
from redoseg.files import describe_error

_OF_FOLDERS = (
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.ENOSPC, errno.ENAMETOOLONG),
    *(errno.ENOENT, errno.ELOOP),
)
HUB = "hf://"  # before user/name of a model on the hub
_REPO = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*", re.ASCII)


def licence_identifier(said: str) -> str:
    """A licence as the hub's cards have it: what was said if that is an identifier such as apache-2.0."""
    if not said:
        return "unknown"
    return "other" if " " in said else said


def local_or_fetched(
    model: str | Path,
    files: Sequence[str],
    revision: str | None = None,
    token: str | None = None,
    cache_dir: str | Path | None = None,
) -> str | Path:
    """`user/name` -> the folder that its `files` were fetched to; any other model, or a path that exists, unchanged."""
    if not isinstance(model, str):
        return model
    repo = model
    if model.startswith(HUB):
        repo, _, said = model.removeprefix(HUB).partition("@")
        revision = revision or said or None
    elif not _REPO.fullmatch(model) or Path(model).exists():
        return model
    return fetch(repo, files, revision, token, cache_dir)


def fetch(
    repo: str,
    files: Sequence[str],
    revision: str | None = None,
    token: str | None = None,
    cache_dir: str | Path | None = None,
) -> Path:
    """Fetch `files` of the model `repo` (user/name), all of one commit; returns the folder in the hub's cache.

    Without a network they come from the cache, if they are there. Raises ModelError if they are not available.
    """
    if not _REPO.fullmatch(repo):
        raise ModelError(f"{repo!r} is not a model's name on the hub; expected user/name; correct it")
    with _one_line(repo, "fetched"):
        import huggingface_hub

        found = huggingface_hub.snapshot_download(
            repo,
            revision=revision,
            token=token,
            cache_dir=cache_dir,
            allow_patterns=list(files),
            library_name="redoseg",
        )
    missing = [file for file in files if not (Path(found) / file).is_file()]
    if missing:
        raise ModelError(f"{repo} on the hub has no {missing[0]}; expected a model of redoseg; choose another")
    return Path(found)


@contextlib.contextmanager
def _one_line(repo: str, what: str) -> Iterator[None]:
    """Whatever the hub's client raises becomes a RedosegError of one line."""
    try:
        yield
    except (RedosegError, MemoryError):
        raise
    except ModuleNotFoundError as error:
        raise MissingError.of(str(error.name), "hub") from None
    except Exception as error:  # HTTP libraries differ between versions of the client, with no error tree in common
        raise ModelError(f"{repo} on the hub cannot be {what} ({_seen(error)}") from error


def _seen(error: Exception) -> str:
    """What went wrong and what to do, the first in a bracket that is open already."""
    kinds = {kind.__name__ for kind in type(error).__mro__}
    status = getattr(getattr(error, "response", None), "status_code", None)
    if kinds & {"GatedRepoError"}:
        return "its owner grants access): ask for it on its page, then say `hf auth login`"
    if kinds & {"RepositoryNotFoundError"}:
        return "no such model, or a private one): check the name, or say `hf auth login`"
    if kinds & {"RevisionNotFoundError"}:
        return "no such revision): name a branch, tag or commit of it"
    if kinds & {"IncompleteSnapshotError", "LocalEntryNotFoundError", "OfflineModeIsEnabled"} or _is_network(kinds):
        return "no answer, and not in the cache): check the network, or HF_HUB_OFFLINE and HF_ENDPOINT"
    if status in (401, 403):
        return f"refused, status {status}): give a token that may, with `hf auth login` or HF_TOKEN"
    if isinstance(error, OSError) and error.errno in _OF_FOLDERS:
        return f"{describe_error(error)}): set HF_HOME to a folder that can be written, and has space"
    return f"{describe_error(error)}): try again later"


def _is_network(kinds: set[str]) -> Any:
    return kinds & {"ConnectError", "ConnectTimeout", "ReadTimeout", "NetworkError", "ConnectionError", "ProxyError"}
