"""An echo of Python's websockets: tells its port, and serves until its input ends.

Its first argument is its own ping interval in seconds, and 0 for none.
"""

import asyncio
import sys

from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed


async def echo(connection):
    try:
        async for message in connection:
            await connection.send(message)
    except ConnectionClosed:
        pass


async def main():
    interval = float(sys.argv[1]) or None
    async with serve(echo, "127.0.0.1", 0, ping_interval=interval, max_size=None) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


asyncio.run(main())
