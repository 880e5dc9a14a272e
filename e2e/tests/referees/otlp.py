"""A collector that reads traces with OpenTelemetry's own messages: prints its port, then each span as a line of JSON."""

import json
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse


def plain(attributes):
    return {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in attributes}


class Collector(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        assert self.path == "/v1/traces" and self.headers["content-type"] == "application/x-protobuf", self.headers
        for of in ExportTraceServiceRequest.FromString(body).resource_spans:
            for spans in of.scope_spans:
                for span in spans.spans:
                    told = {"name": span.name, "id": span.span_id.hex(), "parent": span.parent_span_id.hex(),
                            "kind": span.kind, "attributes": plain(span.attributes),
                            "resource": plain(of.resource.attributes)}
                    print(json.dumps(told), flush=True)
        answer = ExportTraceServiceResponse().SerializeToString()
        self.send_response(200)
        self.send_header("content-type", "application/x-protobuf")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


server = HTTPServer(("127.0.0.1", 0), Collector)
print(server.server_port, flush=True)
sys.stdout.flush()
server.serve_forever()
