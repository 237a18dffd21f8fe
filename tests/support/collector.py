"""An OpenTelemetry collector that keeps what it gets over OTLP/HTTP, decoded from protobuf."""

from __future__ import annotations

import gzip
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)


class Collector:
    """What was exported. ``status`` is what it answers."""

    def __init__(self, status=200):
        self.status = status
        self.url = ""
        self.headers = []
        self.spans = []
        self.metrics = {}
        self.resources = []

    def take(self, path, headers, body):
        self.headers.append(headers)
        body = gzip.decompress(body) if headers.get("Content-Encoding") == "gzip" else body
        if path == "/v1/traces":
            for group in ExportTraceServiceRequest.FromString(body).resource_spans:
                self.resources.append(attributes(group.resource))
                self.spans += [span for scope in group.scope_spans for span in scope.spans]
            return ExportTraceServiceResponse()
        assert path == "/v1/metrics", path
        for group in ExportMetricsServiceRequest.FromString(body).resource_metrics:
            self.resources.append(attributes(group.resource))
            self.metrics |= {metric.name: metric for scope in group.scope_metrics for metric in scope.metrics}
        return ExportMetricsServiceResponse()


def attributes(told):
    """Attributes as a dict."""
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in told.attributes}


@contextmanager
def collecting(status=200):
    """A collector on loopback, in threads of its own."""
    collector = Collector(status)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            answer = collector.take(self.path, self.headers, body).SerializeToString()
            self.send_response(collector.status)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, name="collector", daemon=True)
    thread.start()
    collector.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield collector
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
