"""`nsgd run`: watches folders, walks every sub, commits, notifies. The only writer of facts.

May import everything below; never the screen. Start reading at `daemon.run`.
"""
