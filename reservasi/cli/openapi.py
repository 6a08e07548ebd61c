"""`reservasi openapi`: the document from which clients are generated."""

import sys

import msgspec

from reservasi.front.api.openapi import openapi_document


def openapi() -> None:
    """Print the OpenAPI 3.1 document of the HTTP API."""
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(openapi_document()), indent=2).decode() + "\n")
