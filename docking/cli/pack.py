"""`portcall pack`: a source becomes an image. See `agents.sdk.sources`."""

from __future__ import annotations

from pathlib import Path

import click

from agents.credentials.keys import text_of
from agents.image import AgentImage
from agents.sdk.sources import Choices
from docking.cli.output import amount
from docking.cli.sources import image_of, is_image, staying
from docking.cli.writing import not_over, write_file

IMAGE_ENDING = ".agent"


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
    "--python",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A WASI build of CPython to run a .py in; default MicroPython.",
)
def pack(source: Path, output: Path | None, polls: str | None, profile: str, entry: str | None,
         python: Path | None) -> None:  # fmt: skip
    """Make an image of a program, rewritten so that it can move.

    SOURCE is a .wasm or .wat module, an agent in Python (.py) or JavaScript (.js; needs QuickJS), in C or Zig (.c,
    .zig; needs portcall[c]), in Rust (.rs; needs rustc) or in AssemblyScript (.ts; needs asc).
    """
    if is_image(source):
        raise click.ClickException(f"{click.format_filename(source)} is an image already: name its source")
    target = output or source.with_suffix(IMAGE_ENDING)
    not_over(source, target)
    choices = Choices(entry, profile, polls, python)  # type: ignore[arg-type]  # click checked both
    image = image_of(source, choices)
    write(target, image)
    click.echo(f"{target}: {amount(target.stat().st_size)}, image {text_of(image.digest)}")
    if image.manifest.profile == "none":
        click.echo(f"portcall: {staying(image)}", err=True)


def write(target: Path, image: AgentImage) -> None:
    """Writes the file. Raises `click.ClickException`."""
    write_file(target, image.pack())
