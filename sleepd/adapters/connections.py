"""What comes over a connection: a whole answer, or an error, whether nobody listens there, and why in a few words."""

import errno

import aiohttp

TEXT_LIMIT = 500
BODY_LIMIT = 4 << 20


def is_refusal(error: Exception) -> bool:
    """Whether this says that nobody listens there, rather than that we could not ask (permissions, descriptors)."""
    if isinstance(error, aiohttp.ClientSSLError):
        return False
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    if not isinstance(cause, OSError):
        return False
    if cause.errno is None:
        # A name with several addresses that failed differently: aiohappyeyeballs joins their words, without a number.
        return f"[Errno {errno.ECONNREFUSED}]" in str(cause)
    return cause.errno in (errno.ECONNREFUSED, errno.ENOENT)


def cause_of(error: Exception) -> str:
    """Return the cause alone: aiohttp repeats the address, and says "ssl:default" of a connection without TLS."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        told = getattr(error.certificate_error, "verify_message", "") or str(error.certificate_error)
        return f"its certificate does not hold ({told}): set ca_file to the authority that signed it"[:TEXT_LIMIT]
    if isinstance(error, aiohttp.ClientConnectorSSLError):
        return f"no TLS could be agreed on ({getattr(error.os_error, 'reason', '') or error.os_error})"[:TEXT_LIMIT]
    error = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return (str(error) or type(error).__name__).splitlines()[0][:TEXT_LIMIT]


async def read_body(response: aiohttp.ClientResponse) -> bytes:
    """Return the whole body, which may come in pieces. Raises ValueError of one above BODY_LIMIT bytes."""
    body = await response.content.read(BODY_LIMIT)
    while len(body) < BODY_LIMIT and not response.content.at_eof():
        body += await response.content.read(BODY_LIMIT - len(body))
    if not response.content.at_eof():
        raise ValueError(f"wanted an answer below {BODY_LIMIT} bytes, found more")
    return body
