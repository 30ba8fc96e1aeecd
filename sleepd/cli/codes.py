"""What sleepctl's exit status means (docs/sleepctl.md)."""

DONE, REFUSED, USAGE, UNREACHABLE, TIMED_OUT = 0, 1, 2, 3, 4
INTERRUPTED = 130
OWN_FAILURE, NOT_EXECUTABLE, NOT_FOUND, BY_SIGNAL = 125, 126, 127, 128
"""With `-- CMD`, whose own status comes else."""
