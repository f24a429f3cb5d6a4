"""A night's memory and judgement; no pixels, no scipy.

`store` keeps, `series` groups, `judge` derives verdicts, `alerts` decides what to say. Start at `judge`.
"""
