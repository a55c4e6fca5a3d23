//! Metrics of the upstream servers, and of the memory that responses from upstreams hold.

use super::Page;
use crate::front::body::response_stream::budget::Budget;
use crate::observe::counters::Counter;
use crate::observe::metrics::METRICS;
use crate::observe::upstreams::UpstreamServer;

pub(super) fn write(page: &mut Page) {
    page.family(
        "pyserve_response_memory_bytes",
        "gauge",
        "Bytes of responses waiting in memory for their clients",
    );
    let used = Budget::of_process().used();
    page.sample("pyserve_response_memory_bytes", &[], used);
    let servers: Vec<_> = METRICS.upstreams.all().collect();
    if servers.is_empty() {
        return;
    }
    type Part = fn(&UpstreamServer) -> &Counter;
    let parts: [(&str, &str, &str, Part); 3] = [
        (
            "pyserve_upstream_requests_in_flight",
            "gauge",
            "Requests in flight on an upstream server",
            |server| &server.in_flight,
        ),
        (
            "pyserve_upstream_requests",
            "counter",
            "Requests sent to an upstream server",
            |server| &server.requests,
        ),
        (
            "pyserve_upstream_connections",
            "counter",
            "Connections opened to an upstream server",
            |server| &server.connections,
        ),
    ];
    for (family, kind, help, part) in parts {
        page.family(family, kind, help);
        let suffix = if kind == "counter" { "_total" } else { "" };
        let name = format!("{family}{suffix}");
        for server in &servers {
            let labels = [("server", server.name())];
            page.sample(&name, &labels, part(server).get());
        }
    }
    page.family(
        "pyserve_upstream_failures",
        "counter",
        "Failures of upstream servers, by reason",
    );
    for server in &servers {
        for (reason, count) in server.failures.all() {
            let labels = [("server", server.name()), ("reason", reason)];
            page.sample("pyserve_upstream_failures_total", &labels, count);
        }
    }
}
