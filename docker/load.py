"""Requests one URL from several threads for some seconds, each on a connection of its own.

python3 load.py URL SECONDS: prints how many requests were answered and how many failed, and the first errors.
"""

import http.client
import random
import socket
import sys
import threading
import time
import urllib.parse
from typing import List


def main() -> None:
    url, seconds = urllib.parse.urlsplit(sys.argv[1]), float(sys.argv[2])
    end = time.monotonic() + seconds
    done: List[int] = []
    errors: List[str] = []

    def client() -> None:
        while time.monotonic() < end:
            try:
                # A name may have several addresses, which change.
                found = socket.getaddrinfo(url.hostname, url.port, socket.AF_INET, socket.SOCK_STREAM)
                address = random.choice(found)[4]
                connection = http.client.HTTPConnection(address[0], address[1], timeout=20)
                connection.request("GET", url.path, headers={"Connection": "close"})
                response = connection.getresponse()
                response.read()
                connection.close()
                if response.status == 200:
                    done.append(1)
                else:
                    errors.append(str(response.status))
            except (OSError, http.client.HTTPException) as error:
                errors.append(repr(error))
            time.sleep(0.02)

    threads = [threading.Thread(target=client) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print("%d answered, %d failed %s" % (len(done), len(errors), errors[:3] or ""))


if __name__ == "__main__":
    main()
