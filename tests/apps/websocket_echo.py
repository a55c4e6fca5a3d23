"""A WebSocket server that says everything back; the path of its socket is its argument.

With two arguments, a client: talks to the server behind pyserve at that URL, and says so.
"""

import asyncio
import sys

import websockets


async def serve(path):
    async def echo(socket):
        async for message in socket:
            await socket.send(message)

    async with websockets.unix_serve(echo, path):
        print("listening", flush=True)
        await asyncio.get_running_loop().create_future()


async def talk(url):
    async with websockets.connect(url, max_size=None) as socket:
        for message in ["hello", b"\x00\xff" * 100_000, "", "é" * 1000]:
            await socket.send(message)
            assert await socket.recv() == message
        await (await socket.ping())
    print("talked", socket.close_code, flush=True)


if len(sys.argv) == 2:
    asyncio.run(serve(sys.argv[1]))
else:
    asyncio.run(talk(sys.argv[2]))
