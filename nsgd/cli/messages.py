"""`nsgd notify`: do the alerts reach the phone?"""

from __future__ import annotations

import time

import click

from nsgd.cli.places import common_options, load_settings, talk
from nsgd.errors import BadRequest

NO_SERVICES = (
    "No service is set: put one Apprise URL a line into a file of mode 0600 and name it as notify.urls_file "
    "(`nsgd config init` asks for it; ntfy needs no account)."
)


@click.group()
@common_options
def notify() -> None:
    """Test and list the services that messages go to.

    \b
    Example: nsgd notify test
    """


def service_urls() -> dict[str, str]:
    """Service name -> URL as the settings say. Raises BadRequest where there is none."""
    from nsgd.daemon.notify import services

    urls = services([url.get_secret_value() for url in load_settings().settings.notify.urls])
    if not urls:
        raise BadRequest(NO_SERVICES)
    return urls


@notify.command("test")
@common_options
def notify_test() -> int:
    """Send a test message to every service and say what each answered; exit code 1 if one failed.

    \b
    Example: nsgd notify test
    """
    from nsgd.daemon.notify import kind_of, quiet_foreign_loggers, send_test

    urls = service_urls()
    quiet_foreign_loggers()
    talk(f"sending to {len(urls)} service{'s' if len(urls) > 1 else ''}...")
    outcomes = send_test(urls, time.time())
    for name, outcome in outcomes.items():
        click.echo(f"{name} {kind_of(urls[name])}: {'sent' if outcome.ok else outcome.error}")
    return int(not all(outcome.ok for outcome in outcomes.values()))


def understood(url: str) -> bool:
    """Whether Apprise knows what to do with a URL."""
    import apprise

    from nsgd.daemon.notify import quiet_foreign_loggers

    quiet_foreign_loggers()  # apprise would print what it does not understand
    return bool(apprise.Apprise().add(url))


@notify.command("list")
@common_options
def notify_list() -> int:
    """List the services by number and kind (never their URLs) and whether the URL is understood.

    \b
    Example: nsgd notify list
    """
    from nsgd.daemon.notify import kind_of

    urls = service_urls()
    for name, url in urls.items():
        click.echo(f"{name} {kind_of(url)}{'' if understood(url) else ': this URL is not understood by Apprise'}")
    return int(not all(understood(url) for url in urls.values()))
