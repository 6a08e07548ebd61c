"""The typed keys under which aiohttp's application carries what it serves with."""

from aiohttp import web

from reservasi.front.deciding.front_context import Front
from reservasi.front.dispatch import Dispatcher

FRONT = web.AppKey("front", Front)
DISPATCHER = web.AppKey("dispatcher", Dispatcher)
