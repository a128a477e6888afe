"""Exit 0 if the process at this port says that it is ready: `python healthcheck.py 6066`."""

import http.client
import sys

TIMEOUT_S = 4.0


def is_ready(port: int) -> bool:
    """Whether /healthz on this machine answers 200."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status == http.HTTPStatus.OK
    except OSError:
        return False
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(0 if is_ready(int(sys.argv[1])) else 1)
