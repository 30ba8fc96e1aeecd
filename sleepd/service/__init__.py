"""The composition root: the only package that sees everything, and puts it together."""
