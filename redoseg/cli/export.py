"""What `redoseg export` and `redoseg push` do."""

from __future__ import annotations

from collections.abc import Sequence

from redoseg.cli.console import DONE, load_torch, note_unfinished, progress, say
from redoseg.cli.options import Export, Push
from redoseg.cli.parse import parse
from redoseg.errors import ConfigError
from redoseg.files import check_folder, in_shell


def run_export(arguments: Sequence[str]) -> int:
    command = parse(Export, "export", arguments)
    check_folder(command.out)
    note_unfinished(command.model)
    if command.web or command.space:
        return _export_page(command)
    if command.runtime is not None:
        raise ConfigError("--runtime is for a page only: add --web or --space, or remove --runtime.")
    load_torch()
    from redoseg.sharing.model_card import Statements
    from redoseg.sharing.model_folder import export_run

    sizes = export_run(command.model, command.out, Statements(command.licence, command.data_note, command.limits))
    listed = ", ".join(f"{name} {size / 1e6:.2f} MB" for name, size in sizes.items())
    say(f"model folder: {command.out} ({listed})")
    missing = [name for name in ("licence", "data_note") if not getattr(command, name)]
    if missing:
        flags = " and ".join(f"--{name.replace('_', '-')}" for name in missing)
        say(f"note: the model card, README.md, has gaps that {flags} would fill")
    return DONE


def _export_page(command: Export) -> int:
    from redoseg.browser.site import PAGE, write_site

    statements = {
        "Licence of the weights": command.licence,
        "Pictures": command.data_note,
        "Limits": command.limits,
    }
    notes = [f"{what}: {text}" for what, text in statements.items() if text]
    with progress("ONNX Runtime Web", in_bytes=True) as advance:
        space = command.licence if command.space else None
        size = write_site(command.model, command.out, notes, runtime=command.runtime, on_bytes=advance, space=space)
    say(f"page: {command.out / PAGE} ({size / 1e6:.2f} MB with the model); open it in a browser, or publish the folder")
    if command.space:
        say(f"to publish it: hf upload user/name {in_shell(command.out)} . --repo-type space")
    if not command.licence:
        say("note: the page contains the weights; --licence would say what may be done with them")
    return DONE


def run_push(arguments: Sequence[str]) -> int:
    command = parse(Push, "push", arguments)
    from redoseg.sharing.push import push_to_hub

    say(f"pushed: {push_to_hub(command.folder, command.repo, command.private)}")
    return DONE
