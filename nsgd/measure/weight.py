"""What a sub is worth in the stack: (signal / noise)^2 relative to the reference."""

from __future__ import annotations

import math


def relative_weight(noise_adu: float, scale: float, reference_noise_adu: float) -> float:
    """(sigma_ref / (sigma_sub m))^2; the reference has 1 (NSG's NWEIGHT; PixInsight's PSF Scale SNR up to a constant).

    Parameters
    ----------
    noise_adu, reference_noise_adu
        Pixel noise of sub and reference, ADU, both of the same kind (both unregistered).
    scale
        m: the sub times m matches the reference.
    """
    product = noise_adu * scale
    return (reference_noise_adu / product) ** 2 if product > 0 else math.nan
