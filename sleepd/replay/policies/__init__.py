"""Policies to compare with, played in the same shell as the rules: each asks for sleeps and wakes when it would."""
