"""The usual Python proxy, as short as it gets: aiohttp on both sides, routed by `model`, streamed. PORT MODEL=PORT…"""

import asyncio
import json
import sys

import aiohttp
import uvloop
from aiohttp import web


async def serve(port: int, models: dict[str, str]) -> web.Application:
    session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), auto_decompress=False)

    async def handle(request: web.Request) -> web.StreamResponse:
        body = await request.read()
        base = models[json.loads(body)["model"]]
        kept = {n: v for n, v in request.headers.items() if n.lower() not in ("host", "content-length", "connection")}
        async with session.post(f"http://127.0.0.1:{base}{request.path}", data=body, headers=kept) as answer:
            out = {n: v for n, v in answer.headers.items() if n.lower() not in ("transfer-encoding", "connection")}
            response = web.StreamResponse(status=answer.status, headers=out)
            await response.prepare(request)
            async for piece in answer.content.iter_any():
                await response.write(piece)
            await response.write_eof()
            return response

    app = web.Application(client_max_size=1 << 28)
    app.router.add_post("/{path:.*}", handle)
    return app


async def main(port: int, models: dict[str, str]) -> None:
    runner = web.AppRunner(await serve(port, models), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    print("ready", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), dict(pair.split("=") for pair in sys.argv[2:])))
