"""Where the sky is: altitude of an object and of the sun, airmass. Good to 0.1 degree, no download."""

from __future__ import annotations

import math

from nsgd.records import NAN, HeaderFacts

J2000_UTC_S = 946_728_000.0
DAY_S = 86_400.0


def altitude_deg(ra_deg: float, dec_deg: float, lat_deg: float, long_deg: float, utc_s: float) -> float:
    """Geometric altitude of a place on the sky (equinox of date ~ J2000), degrees; east longitudes positive.

    Greenwich mean sidereal time after Meeus, Astronomical Algorithms (1998), eq. 12.4, linear part.
    """
    days = (utc_s - J2000_UTC_S) / DAY_S
    hour_angle = math.radians(280.46061837 + 360.98564736629 * days + long_deg - ra_deg)
    lat, dec = math.radians(lat_deg), math.radians(dec_deg)
    sine = math.sin(lat) * math.sin(dec) + math.cos(lat) * math.cos(dec) * math.cos(hour_angle)
    return math.degrees(math.asin(max(-1.0, min(1.0, sine))))


def sun_altitude_deg(lat_deg: float, long_deg: float, utc_s: float) -> float:
    """Altitude of the sun's centre, degrees; low-precision formula of the Astronomical Almanac, page C5."""
    days = (utc_s - J2000_UTC_S) / DAY_S
    anomaly = math.radians(357.528 + 0.9856003 * days)
    longitude = 280.460 + 0.9856474 * days + 1.915 * math.sin(anomaly) + 0.020 * math.sin(2 * anomaly)
    obliquity, along = math.radians(23.439 - 4e-7 * days), math.radians(longitude)
    ra = math.degrees(math.atan2(math.cos(obliquity) * math.sin(along), math.cos(along)))
    dec = math.degrees(math.asin(math.sin(obliquity) * math.sin(along)))
    return altitude_deg(ra, dec, lat_deg, long_deg, utc_s)


def airmass_at(altitude_deg_: float) -> float:
    """Airmass after Pickering (2002), NaN below the horizon."""
    if not altitude_deg_ > 0:
        return NAN
    return 1.0 / math.sin(math.radians(altitude_deg_ + 244.0 / (165.0 + 47.0 * altitude_deg_**1.1)))


def airmass_of(header: HeaderFacts, utc_s: float) -> float:
    """Airmass of a sub: from its header, else from altitude, else from place, site and time; else NaN."""
    if header.airmass is not None and 0.99 <= header.airmass <= 40.0:
        return float(header.airmass)
    if header.altitude_deg is not None and 0.0 < header.altitude_deg <= 90.0:
        return airmass_at(header.altitude_deg)
    places = (header.ra_deg, header.dec_deg, header.site_lat_deg, header.site_long_deg)
    if header.mid_utc_s is None or any(place is None for place in places):
        return NAN
    ra, dec, lat, long = (float(place) for place in places if place is not None)
    return airmass_at(altitude_deg(ra, dec, lat, long, utc_s))
