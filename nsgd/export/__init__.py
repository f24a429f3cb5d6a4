"""Records to files of other programs: PixInsight, Siril, tables, pictures, reports.

Everything is written to a temporary file, fsynced and renamed. Start reading at `export.table`.
"""
