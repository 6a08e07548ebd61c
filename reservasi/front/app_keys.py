"""Typed keys of aiohttp's application."""

from aiohttp import web

from reservasi.front.deciding.front_context import Front
from reservasi.front.dispatch import Dispatcher

FRONT = web.AppKey("front", Front)
DISPATCHER = web.AppKey("dispatcher", Dispatcher)
