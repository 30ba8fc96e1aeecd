"""sleepd: puts idle vLLM servers to sleep and wakes them on demand."""

__version__ = "0.1.0"
