"""Answers with four megabytes."""

import probe


def application(environ, start_response):
    probe.note("called")
    return probe.plain(start_response, b"0123456789abcdef" * 262_144)
