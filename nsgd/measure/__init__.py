"""Pixels to facts, facts to relations: pure functions of arrays.

No files, database, clock or log in here. Start reading at `recipe`: the order of the steps on one screen.
`sky`, `stars` and `photometry` need pixels; `register`, `scale`, `gradient` and `weight` need only lists.
"""
