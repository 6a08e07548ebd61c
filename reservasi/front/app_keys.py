"""The typed keys under which aiohttp's application carries what it serves with."""

from aiohttp import web

from reservasi.front.dispatch import Dispatcher
from reservasi.front.front_context import Front

FRONT = web.AppKey("front", Front)
DISPATCHER = web.AppKey("dispatcher", Dispatcher)
