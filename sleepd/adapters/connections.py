"""What an error of a connection says: whether nobody listens there, and why in a few words."""

import errno

import aiohttp

TEXT_LIMIT = 500


def is_refusal(error: Exception) -> bool:
    """Whether this says that nobody listens there, rather than that we could not ask (permissions, descriptors)."""
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    if not isinstance(cause, OSError):
        return False
    if cause.errno is None:
        # A name with several addresses that failed differently: aiohappyeyeballs joins their words, without a number.
        return f"[Errno {errno.ECONNREFUSED}]" in str(cause)
    return cause.errno in (errno.ECONNREFUSED, errno.ENOENT)


def cause_of(error: Exception) -> str:
    """Return the cause alone: aiohttp repeats the address, and says "ssl:default" of a connection without TLS."""
    error = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return (str(error) or type(error).__name__).splitlines()[0][:TEXT_LIMIT]
