"""Sends headers more than once, with capitals of its own."""


def application(environ, start_response):
    start_response(
        "200 OK",
        [
            ("Set-Cookie", "a=1; Path=/"),
            ("X-CaSeD", "kept"),
            ("Set-Cookie", "b=2, 3"),
            ("Link", "</a.css>; rel=preload"),
            ("Set-Cookie", "c=4"),
            ("Link", "</b.css>; rel=preload"),
            ("Content-Type", "text/plain"),
        ],
    )
    return [b"ok"]
