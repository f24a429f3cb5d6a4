"""Every knob of nsgd: name with unit, default, bounds and one sentence; declared here and nowhere else.

`config` finds and reads the TOML; the example file and the README's table are generated from this module.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

from nsgd.whereabouts import database_fault

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]


class Section(BaseModel):
    """A table of the settings file; unknown keys are refused, values never change."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Watch(Section):
    """Which folders are watched and when a file counts as whole."""

    folders: tuple[str, ...] = Field((), description="Folders that the capture program writes into.")
    quiet_local_s: float = Field(
        1.0, ge=0.0, le=600.0, description="A file on a local disk must be unchanged this long, seconds."
    )
    quiet_share_s: float = Field(5.0, ge=0.0, le=600.0, description="The same on a network share, seconds.")
    rescan_s: float = Field(
        60.0, ge=1.0, le=3600.0, description="Time between two full scans that find what events missed, seconds."
    )
    poll_s: float = Field(
        5.0, ge=0.5, le=600.0, description="Time between two looks at a folder without events (shares), seconds."
    )
    give_up_s: float = Field(
        600.0,
        ge=10.0,
        le=86400.0,
        description="A file that stays incomplete this long is shown as unreadable, seconds.",
    )
    ignore: tuple[str, ...] = Field(
        (),
        description="File or folder names to leave out, with * and ?, besides the built-in list of sync and thumbnail files.",
    )
    max_depth: int = Field(8, ge=1, le=64, description="How many levels of sub-folders are followed.")
    budget_mb: int = Field(
        1024, ge=64, le=65536, description="Most memory that one file may need when read, megabytes."
    )


class Measure(Section):
    """How stars and sky are measured."""

    max_stars: int = Field(1000, ge=50, le=5000, description="Most stars that a series' catalogue holds.")
    min_matched_stars: int = Field(5, ge=3, le=100, description="Fewest common stars for a sub to count as registered.")
    detection_sigma: float = Field(
        5.0, ge=3.0, le=50.0, description="Height of a star above the sky to be found, in units of its noise."
    )
    smoothness: float = Field(
        -2.0,
        ge=-4.0,
        le=4.0,
        description="Stiffness of the gradient surface, 10^s as in NSG: -4 follows every node, 4 is a plane.",
    )
    workers: int = Field(
        0,
        ge=0,
        le=64,
        description="Worker processes for a backlog and exports; 0 = one of two threads in the daemon, all cores in "
        "commands; 1 = one thread.",
    )


class Calibration(Section):
    """Master frames applied before measuring; leave empty for files that are calibrated already."""

    dark: str = Field("", description="Master dark (FITS or XISF).")
    flat: str = Field("", description="Master flat (FITS or XISF).")
    bias: str = Field("", description="Master bias (FITS or XISF).")


class Limits(Section):
    """Cut-offs below which a sub is rejected."""

    transmission: Fraction = Field(
        0.75, description="Reject below this transmission (of clear sky, extinction removed)."
    )
    weight: Fraction = Field(0.25, description="Reject below this weight (per exposure, of the best sub).")
    fwhm_px: float = Field(0.0, ge=0.0, le=100.0, description="Reject stars wider than this, pixels; 0 = off.")
    ellipticity: Fraction = Field(0.6, description="Reject stars more elongated than this (1 - b/a); 1 = off.")


class Site(Section):
    """Where the telescope stands; used when headers do not say it."""

    latitude_deg: float | None = Field(
        None, ge=-90.0, le=90.0, examples=[52.52], description="Latitude of the site, degrees, north positive."
    )
    longitude_deg: float | None = Field(
        None, ge=-180.0, le=180.0, examples=[13.4], description="Longitude of the site, degrees, east positive."
    )
    timezone: str = Field(
        "", description='Time zone of the night boundary and of messages, e.g. "Europe/Berlin"; empty = the system\'s.'
    )


class Alarm(Section):
    """When the phone rings."""

    sensitivity: Literal["calm", "normal", "keen"] = Field(
        "normal",
        description="calm rings for deep cloud only, normal as described in the README, keen also for thin cloud.",
    )
    cloud_below: Fraction = Field(
        0.85, description="Ring when the clear-sky transmission stays below this (normal sensitivity)."
    )
    clear_above: Fraction = Field(0.90, description="Give the all-clear when it stays above this.")
    no_subs_min: float = Field(
        15.0,
        ge=1.0,
        le=720.0,
        description="Ring when no sub came for this long (or 3 cadences + 2 minutes, if longer), minutes.",
    )
    per_hour: int = Field(4, ge=1, le=60, description="Most messages in an hour.")
    per_night: int = Field(12, ge=1, le=200, description="Most messages in a night.")
    quiet_from: str = Field(
        "",
        pattern=r"^([01]\d|2[0-3]):[0-5]\d$|^$",
        description='Start of the quiet hours, local time "HH:MM"; empty = none.',
    )
    quiet_to: str = Field(
        "", pattern=r"^([01]\d|2[0-3]):[0-5]\d$|^$", description='End of the quiet hours, local time "HH:MM".'
    )
    soft_stars: bool = Field(False, description="Also tell when the stars stay soft.")
    dawn_summary: bool = Field(True, description="One message at the end of the night with what was kept and lost.")
    on_change: tuple[str, ...] = Field(
        (),
        description="Command to run when the sky state changes, as a list of words; it gets NSGD_STATE and NSGD_TRANSMISSION.",
    )


class Notify(Section):
    """Where messages go. The URLs are secrets: keep them in urls_file or in the environment."""

    urls: tuple[SecretStr, ...] = Field(
        (), description="Apprise URLs of your services; the file must then be readable by you alone (0600)."
    )
    urls_file: str = Field("", description="File with one Apprise URL a line (0600, or a systemd credential).")
    pictures: bool = Field(True, description="Attach a graph of the night where the service takes pictures.")
    heartbeat_url: SecretStr = Field(
        SecretStr(""), description="URL to call every few minutes while all is well (healthchecks style)."
    )
    state_file: str = Field("", description="Small JSON file with the sky state for other programs; empty = none.")
    mqtt_url: SecretStr = Field(
        SecretStr(""), description="mqtt:// URL on which the sky state is published; empty = none."
    )


class Publish(Section):
    """The fleet that this rig tells how its sky is. The URL is a secret."""

    url: SecretStr = Field(
        SecretStr(""),
        description="postgresql:// URL that `nsgd fleet add-rig` printed; also a credential or the environment; empty = no fleet.",
    )

    @field_validator("url")
    @classmethod
    def _is_safe(cls, url: SecretStr) -> SecretStr:
        if (text := url.get_secret_value()) and (fault := database_fault(text)):
            raise ValueError(fault)
        return url


class Store(Section):
    """Where the night's memory lies."""

    path: str = Field(
        "", description="Folder of the store; empty = the user's state folder, or /var/lib/nsgd for the service."
    )
    previews_mb: int = Field(
        500, ge=0, le=100000, description="Most disk space that previews may take, megabytes; the oldest go first."
    )
    keep_days: int = Field(0, ge=0, le=36500, description="Forget sessions older than this, days; 0 = keep all.")


class Settings(Section):
    """All settings of nsgd."""

    watch: Watch = Watch()
    measure: Measure = Measure()
    calibration: Calibration = Calibration()
    limits: Limits = Limits()
    site: Site = Site()
    alarm: Alarm = Alarm()
    notify: Notify = Notify()
    publish: Publish = Publish()
    store: Store = Store()
    filters: dict[str, str] = Field(
        default_factory=dict, description="Your own filter names: what the header says = what nsgd shall call it."
    )
