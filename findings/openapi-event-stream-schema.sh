#!/usr/bin/env bash
# What one would guess: the schema that an OpenAPI 3.1 document gives for `text/event-stream` means one thing.
# What happens: @hey-api/openapi-ts 0.80.18 reads it as the JSON in each event's `data`; schemathesis 4.32.5 reads it as an
# object made of the event's fields, whose `data` is a text. A schema that satisfies the one fails with the other.
# Whom it hurts: whoever describes a stream of server-sent events for generated clients and tests the same document.
# What helps: a schema of the data, as the generator reads it, and the stream left out of the tester's run.
# Seen on 2026-11-29 with Python 3.11 and Node 20. Exits 1 when the behaviour has changed.
set -euo pipefail
work=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server"; rm -rf "$work"' EXIT
cd "$work"

cat >serve.py <<'PY'
import http.server


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        self.wfile.write(b'event: count\ndata: {"places": 3}\n\n')

    def log_message(self, *words):
        pass


server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
PY
cat >openapi.json <<'JSON'
{"openapi": "3.1.0", "info": {"title": "t", "version": "1"},
 "paths": {"/stream": {"get": {"operationId": "stream", "responses": {"200": {"description": "d",
   "content": {"text/event-stream": {"schema": {"$ref": "#/components/schemas/Count"}}}}}}}},
 "components": {"schemas": {"Count": {"type": "object", "properties": {"places": {"type": "integer"}}, "required": ["places"]}}}}
JSON

python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check schemathesis==4.32.5
npm install --silent --no-fund --no-audit @hey-api/openapi-ts@0.80.18 typescript@5.9.3 >/dev/null

npx openapi-ts -i openapi.json -o client -c @hey-api/client-fetch >/dev/null
echo "@hey-api/openapi-ts 0.80.18: the answer's type is"
generated=$(grep -A4 'export type StreamResponses' client/types.gen.ts)
echo "$generated"

venv/bin/python serve.py >port &
server=$!
until [ -s port ]; do sleep 0.1; done
said=$(venv/bin/schemathesis run openapi.json --url "http://127.0.0.1:$(cat port)" --checks response_schema_conformance \
    --max-examples 1 --no-color 2>&1 || true)
venv/bin/schemathesis --version
echo "$said" | grep -E "violates schema|required property|^ *[0-9]+ (passed|failed)" || true

if echo "$generated" | grep -q "200: Count" && echo "$said" | grep -q "SSE event violates schema"; then
    echo "As described: the generator takes the schema for the data, the tester for the event around it."
else
    echo "The behaviour has changed."
    exit 1
fi
