"""`portcall pack`: a source becomes an image. See `agents.sdk.sources`."""

from __future__ import annotations

from pathlib import Path

import click

from agents.binding import unoffered
from agents.credentials.keys import text_of
from agents.engines.interface import interface
from agents.errors import EngineError
from agents.image import AgentImage
from agents.sdk.sources import Choices
from docking.cli.luggage import FILE_OPTION, PACKAGE_OPTION, PYTHON_OPTION, DataFile, by_guest_path
from docking.cli.output import plain, size_text
from docking.cli.sources import image_of, is_image, staying
from docking.cli.writing import not_over, write_file

IMAGE_ENDING = ".agent"
SHOWN_IMPORTS = 8  # imports that are named


@click.command("pack")
@click.argument("source", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), help=f"The image; default SOURCE{IMAGE_ENDING}.")
@click.option("--polls", type=click.Choice(["none", "loops"]), help="Where the agent can be stopped from outside.")
@click.option(
    "--profile",
    type=click.Choice(["standard", "portable", "none"]),
    default="standard",
    show_default=True,
    help="portable: for engines with one memory; none: not rewritten, moves weakly.",
)
@click.option("--entry", metavar="NAME", help="The export to call first.")
@click.option(
    "--spill-pointers",
    is_flag=True,
    help="For a program whose garbage collector scans its stack; always done for MicroPython.",
)
@click.option(
    "--nans",
    type=click.Choice(["any", "canonical"]),
    default="any",
    show_default=True,
    help="canonical: NaNs have the same bits everywhere, so each result does.",
)
@PYTHON_OPTION
@FILE_OPTION
@PACKAGE_OPTION
@click.option(
    "--strict", is_flag=True, help="Refuse a program that calls what no station offers, instead of a warning."
)
def pack_command(source: Path, output: Path | None, polls: str | None, profile: str, entry: str | None,
         spill_pointers: bool, nans: str, python: Path | None, files: tuple[DataFile, ...],
         packages: tuple[str, ...], strict: bool) -> None:  # fmt: skip
    """Make an image of a program, rewritten so that it can move.

    SOURCE is a .wasm or .wat module, an agent in Python (.py) or JavaScript (.js; needs QuickJS), in C or Zig (.c,
    .zig; needs portcall[c]), in Rust (.rs; needs rustc), in Go (.go; needs go) or in AssemblyScript (.ts; needs asc).
    """
    if is_image(source):
        raise click.ClickException(f"{click.format_filename(source)} is an image already: name its source")
    target = output or source.with_suffix(IMAGE_ENDING)
    not_over(source, target)
    taken = by_guest_path(files)
    for each in taken.values():
        not_over(each, target, "goes along")
    choices = Choices(entry, profile, polls, spill_pointers, nans, python, taken, packages)  # type: ignore[arg-type]  # checked
    image = image_of(source, choices)
    missing = _missing(image)
    if missing and strict:
        raise click.ClickException(f"{click.format_filename(source)}: {missing}")
    write(target, image)
    click.echo(f"{target}: {size_text(target.stat().st_size)}, image {text_of(image.digest)}")
    if image.manifest.profile == "none":
        click.echo(f"portcall: {staying(image)}", err=True)
    if missing:
        click.echo(f"portcall: warning: {missing}", err=True)


def _missing(image: AgentImage) -> str:
    """The warning about imports that no station provides; "" if there are none."""
    try:
        found = unoffered(interface(image.code).imports)
    except EngineError as error:  # imports that no host can provide: globals, references
        return f"{error}: no station will run it"
    if not found:
        return ""
    more = f" and {len(found) - SHOWN_IMPORTS} more" if len(found) > SHOWN_IMPORTS else ""
    return plain(
        f"it calls {', '.join(found[:SHOWN_IMPORTS])}{more}: no station will run it unless its program adds that"
    )


def write(target: Path, image: AgentImage) -> None:
    """Write the file. Raises `click.ClickException`."""
    write_file(target, image.pack())
