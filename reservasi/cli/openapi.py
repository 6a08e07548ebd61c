"""`reservasi openapi`: the document from which clients are generated."""

import sys

import msgspec

from reservasi.cli.output import AsJson
from reservasi.front.api.openapi import openapi_document


def openapi(*, as_json: AsJson = False) -> None:
    """Print the OpenAPI 3.1 document of the HTTP API."""
    del as_json  # every command takes it; this document is JSON anyway
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(openapi_document()), indent=2).decode() + "\n")
