"""`nsgd dashboard`: a separate process that reads the store and draws it.

It writes nothing but requests and never loads scipy, sep or astropy. Start reading at `dashboard.app`.
"""
