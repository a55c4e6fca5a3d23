"""Answers through an event loop that is made when this is imported."""

import asyncio

import probe

loop = asyncio.new_event_loop()


async def same(text):
    reader, writer = await asyncio.open_connection(sock=await connected())
    writer.write(text.encode() + b"\n")
    line = await reader.readline()
    writer.close()
    return line.strip()


async def connected():
    import socket

    ours, theirs = socket.socketpair()
    text = loop.run_in_executor(None, theirs.recv, 100)
    text.add_done_callback(lambda done: (theirs.sendall(done.result()), theirs.close()))
    return ours


def application(environ, start_response):
    return probe.plain(start_response, loop.run_until_complete(same(environ["QUERY_STRING"])))
