"""A requests session whose every request goes to one unix socket: what schemathesis needs to meet the served API."""

import socket

import requests
import requests.adapters
import urllib3
from urllib3.connection import HTTPConnection


class _Connection(HTTPConnection):
    path = ""

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(20)
        self.sock.connect(self.path)


class _Adapter(requests.adapters.HTTPAdapter):
    def __init__(self, path: str) -> None:
        super().__init__()

        class Connection(_Connection):
            pass

        class Pool(urllib3.HTTPConnectionPool):
            ConnectionCls = Connection

        Connection.path = path
        self.pool = Pool("localhost")

    def get_connection_with_tls_context(self, *_: object, **__: object) -> urllib3.HTTPConnectionPool:
        return self.pool

    def close(self) -> None:
        self.pool.close()
        super().close()


def unix_session(path: str) -> requests.Session:
    session = requests.Session()
    session.trust_env = False
    session.mount("http://localhost", _Adapter(path))
    return session
