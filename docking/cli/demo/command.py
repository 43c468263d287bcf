"""`portcall demo`: the whole of it in a few seconds, on one machine."""

from __future__ import annotations

import sys
import time

import click

from docking.cli.sources import image_of


@click.command("demo")
@click.option("--no-mdns", is_flag=True, help="Tell the stations of each other instead of letting them find out.")
@click.option("--keep", is_flag=True, help="Keep the stations' folders and the file of the journey.")
def demo(no_mdns: bool, keep: bool) -> None:
    """Start three stations on this machine, and watch an agent hop through them."""
    from docking.cli.demo.conductor import Conductor, folder
    from docking.cli.demo.show import Show

    show = Show(sys.stdout)
    began = time.monotonic()
    with folder(keep) as path:
        conductor = Conductor(show, path, not no_mdns)
        try:
            conductor.run(image_of)
        finally:
            conductor.end()
        show.say()
        show.title(f"Done in {time.monotonic() - began:.1f} s.")
        if keep:
            show.say(f"Kept in {path}; try: portcall verify {path}/trip.capsule")
