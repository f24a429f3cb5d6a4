"""Files to frames: reading FITS and its kin, and understanding their headers.

May import settings, records and errors. Start reading at `read_frame` in `frames.read`.
"""
