"""Commands for those who keep the service running."""

import click


@click.group()
def systemd() -> None:
    """Units that keep picker, broker and association running."""


@systemd.command("install")
@click.option("--instance", default="main", show_default=True,
              help="Name of the picker: its configuration is NAME.yaml.")  # fmt: skip
@click.option("--user", is_flag=True, help="For this user's own manager; needs no root.")
@click.option("--print", "only_print", is_flag=True, help="Show the units, write nothing.")
def systemd_install(instance: str, user: bool, only_print: bool) -> None:
    """Write the units, and configurations to begin with where there are none."""
    import os

    from streamer.systemd import Place, install, own_program, render

    program = own_program()
    place = Place.of_user(program, os.getuid()) if user else Place.of_system(program)
    if only_print:
        for name, text in render(place).items():
            click.echo(f"# {place.units / name}\n{text}")
        return
    for path in install(place, instance):
        click.echo(f"wrote {path}")
    ctl = "systemctl --user" if user else "systemctl"
    click.echo(
        f"next: edit {place.config / instance}.yaml, then\n"
        f"  {ctl} daemon-reload\n"
        f"  {ctl} enable --now msnet-broker msnet-stream@{instance} msnet-stream.target"
    )
