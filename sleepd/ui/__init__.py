"""The page for people: its files, who may see it, and the routes of the API that it uses.

It has no listener of its own: it is a guest on those of the gateway and of the metrics (sleepd/annex.py).
"""
