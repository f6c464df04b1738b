"""Model folders pushed to Hugging Face's hub. Needs huggingface_hub, the part `hub` of redoseg."""

from __future__ import annotations

from pathlib import Path

from redoseg.errors import ModelError, RedosegError
from redoseg.files import at_home, printable
from redoseg.inference.hub import _REPO, _one_line
from redoseg.run_folder import MODEL_FOLDER_FILES, REDRAW_FILE


def push_to_hub(folder: str | Path, repo: str, private: bool = False, token: str | None = None) -> str:
    """Upload a model folder (of `redoseg export`) as the model `repo` (user/name), made if there is none.

    Only the five files of a model folder go up, in one commit. `private` makes a new model private, and refuses one
    that is there and public. `token` is one that may write; if None, the stored one or HF_TOKEN. Returns the model's
    address. Raises ModelError for a folder with a file missing, RedosegError if it cannot be uploaded.
    """
    folder = at_home(folder)
    if not _REPO.fullmatch(repo):
        raise RedosegError(f"{repo!r} is not a model's name on the hub; expected user/name; correct it")
    needed = [file for file in MODEL_FOLDER_FILES if file != REDRAW_FILE]  # a run without a first stage has none
    missing = [file for file in needed if not (folder / file).is_file()]
    if missing:
        seen = f"has no {missing[0]}" if folder.is_dir() else "is not a folder"
        raise ModelError(f"{printable(folder)} {seen}; expected a model folder; make one with `redoseg export`")
    with _one_line(repo, "pushed"):
        import huggingface_hub

        token = token or huggingface_hub.get_token()
        if not token:
            raise RedosegError(
                "there is no token for the hub; run `hf auth login` with one that may write, or set HF_TOKEN"
            )
        api = huggingface_hub.HfApi(token=token, library_name="redoseg")
        address = api.create_repo(repo, private=private, exist_ok=True)
        if private and not api.model_info(repo).private:
            raise RedosegError(
                f"{repo} on the hub is public already, so it cannot be private; choose another name, or remove "
                "--private"
            )
        api.upload_folder(
            repo_id=repo,
            folder_path=folder,
            allow_patterns=list(MODEL_FOLDER_FILES),
            commit_message=f"Model {folder.resolve().name}",
        )
    return str(address)
