"""`nsgd` itself: the list of commands, `--version`, and the one place where errors become sentences and exit codes."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

import click

from nsgd.cli import decisions, demo, doctor, files, fleet, handoff, messages, night, past, settings, shells
from nsgd.cli.places import common_options, talk
from nsgd.errors import BadRequest, BadSettings, NsgdError

OK, FAILURE, USAGE, BAD_CONFIG, INTERRUPTED = 0, 1, 2, 78, 130

EPILOG = """\b
Exit codes: 0 ok, 1 failure, 2 wrong usage, 3 not clear, 4 sky unknown (is-clear), 78 bad settings, 130 interrupted.
stdout carries data, stderr talk. Settings: `nsgd config init`. Something wrong: `nsgd doctor`."""


def _print_version(context: click.Context, _option: click.Parameter, wanted: bool) -> None:
    if not wanted or context.resilient_parsing:
        return
    import platform
    from importlib.metadata import version

    from nsgd import __version__

    libraries = ", ".join(
        f"{name} {version(name)}" for name in ("numpy", "scipy", "astropy", "sep", "textual", "apprise")
    )
    click.echo(f"nsgd {__version__}\nPython {platform.python_version()}, {libraries}")
    context.exit()


class InOrder(click.Group):
    """Lists the commands in the order of their use, not of the alphabet."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


@click.group(
    cls=InOrder, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version, help="Show versions."
)
@common_options
def nsgd() -> None:
    """Watch a capture folder, measure every sub seconds after it lands, and hear of cloud on your phone.

    \b
    Start:  nsgd demo              a simulated night with a cloud
            nsgd run FOLDER        the real thing; nsgd dashboard shows it
    """


for command in (
    night.run,
    night.dashboard,
    files.measure,
    night.status,
    night.is_clear,
    decisions.reference,
    decisions.limits,
    decisions.accept,
    decisions.reject,
    decisions.undo,
    decisions.ack,
    decisions.snooze,
    decisions.apply,
    handoff.export,
    handoff.blink,
    messages.notify,
    fleet.fleet,
    past.replay,
    doctor.doctor,
    past.session,
    settings.config,
    files.simulate,
    demo.demo,
    shells.completion,
):
    nsgd.add_command(command)


def run_command(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code; every expected error leaves one clear sentence on stderr."""
    try:
        code = nsgd.main(arguments, prog_name="nsgd", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("nsgd: interrupted", err=True)
        return INTERRUPTED
    except BadSettings as error:
        talk("\n".join(error.problems))
        talk(f"nsgd: {_count(len(error.problems))} in the settings; nothing was started.")
        return BAD_CONFIG
    except NsgdError as error:
        talk(f"nsgd: {error.sentence}")
        return USAGE if isinstance(error, BadRequest) else FAILURE
    except OSError as error:
        talk(f"nsgd: {error.filename or 'the system'}: {error.strerror or error}.")
        return FAILURE
    return code if isinstance(code, int) else OK


def _count(problems: int) -> str:
    return "1 problem" if problems == 1 else f"{problems} problems"


def main() -> NoReturn:
    """Entry point of `nsgd` and `python -m nsgd`."""
    _end_cleanly_when_told()
    sys.exit(run_command())


def _end_cleanly_when_told() -> None:
    """SIGTERM and a lost terminal unwind everything and end with 0; what `nohup` ignores stays ignored."""
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, lambda _number, _frame: sys.exit(OK))
