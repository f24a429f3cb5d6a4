"""Many rigs in one PostgreSQL (extra `fleet`): what a rig tells outwards, and what is known of all of them.

`link` opens connections, `schema` holds the tables and who may write what, `publish` is the daemon's thread that
replicates its store outwards, `read` is what the fleet view asks. May import session, config and below; no numerics.
Start reading at `schema`.
"""
