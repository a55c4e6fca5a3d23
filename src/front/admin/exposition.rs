//! Metrics in the text format 0.0.4 of Prometheus and in OpenMetrics 1.0.
//!
//! Both are lines; they differ in how a counter's family is named, and in the end mark.

mod upstreams;

use std::collections::BTreeMap;
use std::fmt::{Display, Write};
use std::time::SystemTime;

use http::HeaderValue;

use crate::observe::acme::AcmeState;
use crate::observe::counters::{BOUNDS, Histogram};
use crate::observe::handled_by::HandledBy;
use crate::observe::metrics::{METRICS, Requests};
use crate::observe::status::{Application, ServerState, Status, ThreadActivity, WorkerState};
use crate::os::process;

/// The format of the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Prometheus,
    OpenMetrics,
}

impl Format {
    /// Prometheus asks for OpenMetrics by name; other clients get the older format.
    pub(super) fn accepted(accept: Option<&HeaderValue>) -> Self {
        let accept = accept.and_then(|accept| accept.to_str().ok());
        match accept.is_some_and(|accept| accept.contains("application/openmetrics-text")) {
            true => Self::OpenMetrics,
            false => Self::Prometheus,
        }
    }

    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// All metrics, and the numbers of the status.
pub(super) fn write(status: &Status, format: Format) -> String {
    let mut page = Page {
        text: String::with_capacity(16 << 10),
        format,
    };
    requests(&mut page);
    front(&mut page, status);
    tls(&mut page);
    acme(&mut page);
    spool(&mut page);
    logs(&mut page);
    upstreams::write(&mut page);
    applications(&mut page, status);
    process(&mut page, status);
    if format == Format::OpenMetrics {
        page.text.push_str("# EOF\n");
    }
    page.text
}

fn requests(page: &mut Page) {
    let all: Vec<_> = METRICS
        .requests
        .all()
        .flat_map(|place| {
            let handled = |by: HandledBy| Some((place.name(), by.as_str(), place.if_handled(by)?));
            HandledBy::ALL.into_iter().filter_map(handled)
        })
        .collect();
    page.family(
        "pyserve_requests",
        "counter",
        "Requests by location, handler and status; 499: the client disconnected",
    );
    for (location, handler, requests) in &all {
        for (status, count) in requests.statuses() {
            let status = status.to_string();
            let labels = [
                ("location", *location),
                ("handler", *handler),
                ("status", &status),
            ];
            page.sample("pyserve_requests_total", &labels, count);
        }
    }
    type Part = fn(&Requests) -> &Histogram;
    let parts: [(&str, &str, Part); 4] = [
        (
            "pyserve_request_duration_seconds",
            "Time from a request's head to the last byte of its response",
            |requests| &requests.duration,
        ),
        (
            "pyserve_request_queue_seconds",
            "Time until a worker thread took the request",
            |requests| &requests.queue,
        ),
        (
            "pyserve_request_app_seconds",
            "Time in the application",
            |requests| &requests.app,
        ),
        (
            "pyserve_response_send_seconds",
            "Time from a response's head to its last byte",
            |requests| &requests.send,
        ),
    ];
    for (name, help, part) in parts {
        page.family(name, "histogram", help);
        for (location, handler, requests) in &all {
            let labels = [("location", *location), ("handler", *handler)];
            page.histogram(name, &labels, part(requests));
        }
    }
    page.family(
        "pyserve_response_body_bytes",
        "counter",
        "Bytes of response bodies sent",
    );
    for (location, handler, requests) in &all {
        let labels = [("location", *location), ("handler", *handler)];
        let bytes = requests.bytes.get();
        page.sample("pyserve_response_body_bytes_total", &labels, bytes);
    }
    page.family(
        "pyserve_rejections",
        "counter",
        "Requests not served as requested, by reason",
    );
    for (reason, count) in METRICS.rejections.all() {
        page.sample("pyserve_rejections_total", &[("reason", reason)], count);
    }
}

fn front(page: &mut Page, status: &Status) {
    page.family(
        "pyserve_build_info",
        "gauge",
        "1, with the version of pyserve",
    );
    page.sample("pyserve_build_info", &[("version", &status.version)], 1);
    page.family("pyserve_stopping", "gauge", "1 while the server shuts down");
    let stopping = u8::from(status.state == ServerState::Stopping);
    page.sample("pyserve_stopping", &[], stopping);
    let connections = &status.connections;
    page.family(
        "pyserve_connections_accepted",
        "counter",
        "Client connections accepted",
    );
    page.sample(
        "pyserve_connections_accepted_total",
        &[],
        connections.accepted,
    );
    page.family("pyserve_connections", "gauge", "Open connections by state");
    let idle = connections
        .open
        .saturating_sub(connections.active + connections.reading);
    for (state, count) in [
        ("active", connections.active),
        ("reading", connections.reading),
        ("idle", idle),
    ] {
        page.sample("pyserve_connections", &[("state", state)], count);
    }
    page.family(
        "pyserve_static_lookups",
        "counter",
        "Lookups of static files: answered from memory on the fast path (fast_path) or by the full pipeline (memory), or looked up on disk",
    );
    for (from, count) in [
        ("fast_path", &METRICS.static_fast_path),
        ("memory", &METRICS.static_from_memory),
        ("disk", &METRICS.static_from_disk),
    ] {
        page.sample(
            "pyserve_static_lookups_total",
            &[("from", from)],
            count.get(),
        );
    }
}

fn tls(page: &mut Page) {
    page.family(
        "pyserve_tls_handshakes",
        "counter",
        "TLS handshakes by version and outcome: full, resumed, failed, aborted (by the client), timed_out; those that were not completed have no version",
    );
    for (version, outcome, count) in METRICS.tls.handshakes.all() {
        let labels = [("version", version), ("outcome", outcome)];
        page.sample("pyserve_tls_handshakes_total", &labels, count);
    }
    page.family(
        "pyserve_tls_client_certificates_refused",
        "counter",
        "TLS handshakes that failed for the certificate of the client, by reason",
    );
    for (reason, count) in METRICS.tls.refused_clients() {
        let labels = [("reason", reason)];
        page.sample(
            "pyserve_tls_client_certificates_refused_total",
            &labels,
            count,
        );
    }
    page.family(
        "pyserve_tls_certificate_expiry_seconds",
        "gauge",
        "Time at which the certificate expires, in seconds since 1970",
    );
    for (name, expiry) in METRICS.tls.certificates() {
        let labels = [("name", &*name)];
        page.sample("pyserve_tls_certificate_expiry_seconds", &labels, expiry);
    }
}

fn acme(page: &mut Page) {
    page.family(
        "pyserve_acme_orders",
        "counter",
        "Attempts to get a certificate by ACME, by outcome: issued, failed",
    );
    let acme = &METRICS.acme;
    for (outcome, count) in [("issued", &acme.issued), ("failed", &acme.failed)] {
        page.sample(
            "pyserve_acme_orders_total",
            &[("outcome", outcome)],
            count.get(),
        );
    }
    let certificates = acme.certificates();
    page.family(
        "pyserve_acme_certificate_state",
        "gauge",
        "1 for the state of the certificate that ACME gets for this name: missing, ordering, valid, expired",
    );
    for certificate in &certificates {
        for state in AcmeState::ALL {
            let labels = [("name", &*certificate.name), ("state", state.as_str())];
            let is_current = u64::from(certificate.state == state);
            page.sample("pyserve_acme_certificate_state", &labels, is_current);
        }
    }
    page.family(
        "pyserve_acme_failures",
        "gauge",
        "Failures in succession to get a certificate by ACME",
    );
    for certificate in &certificates {
        let labels = [("name", &*certificate.name)];
        page.sample("pyserve_acme_failures", &labels, certificate.failures);
    }
    page.family(
        "pyserve_acme_next_attempt_seconds",
        "gauge",
        "Time of the renewal, or of the next attempt, in seconds since 1970",
    );
    for certificate in &certificates {
        if let Some(next) = certificate.next_attempt_at {
            let labels = [("name", &*certificate.name)];
            page.sample("pyserve_acme_next_attempt_seconds", &labels, next);
        }
    }
}

fn logs(page: &mut Page) {
    page.family(
        "pyserve_log_lines_dropped",
        "counter",
        "Log lines dropped because standard output or standard error was blocked",
    );
    let dropped = &METRICS.dropped_log_lines;
    for (log, count) in [
        ("access", &dropped.access),
        ("diagnostics", &dropped.diagnostics),
    ] {
        page.sample(
            "pyserve_log_lines_dropped_total",
            &[("log", log)],
            count.get(),
        );
    }
}

fn spool(page: &mut Page) {
    page.family(
        "pyserve_spool_bytes",
        "gauge",
        "Bytes of request bodies, and of responses to slow clients, on disk",
    );
    for (of, bytes) in [
        ("requests", &METRICS.spooled_requests),
        ("responses", &METRICS.spooled_responses),
    ] {
        page.sample("pyserve_spool_bytes", &[("of", of)], bytes.get());
    }
}

fn applications(page: &mut Page, status: &Status) {
    // An application that is leaving may have the name of its replacement.
    let all = status.applications.iter();
    let all: Vec<_> = all.filter(|application| !application.leaving).collect();
    type Value = fn(&Application) -> u64;
    let values: [(&str, &str, Value); 7] = [
        (
            "pyserve_generation",
            "Number of the application's generation; grows with each reload",
            |application| application.generation,
        ),
        (
            "pyserve_queue_waiting",
            "Requests waiting in the queue",
            |application| application.queue.waiting as u64,
        ),
        (
            "pyserve_queue_handed_out",
            "Requests handed to the workers: running, or ready to run",
            |application| application.queue.handed_out as u64,
        ),
        (
            "pyserve_queue_limit",
            "Limit of requests waiting in the queue",
            |application| application.queue.limit as u64,
        ),
        (
            "pyserve_workers_target",
            "Number of workers that there are to be",
            |application| u64::from(application.scaling.workers),
        ),
        (
            "pyserve_workers_minimum",
            "Smallest number of workers",
            |application| u64::from(application.scaling.minimum),
        ),
        (
            "pyserve_workers_maximum",
            "Largest number of workers",
            |application| u64::from(application.scaling.maximum),
        ),
    ];
    for (name, help, value) in values {
        page.family(name, "gauge", help);
        for application in &all {
            let labels = [("application", &*application.name)];
            page.sample(name, &labels, value(application));
        }
    }
    page.family(
        "pyserve_queue_overtakes",
        "counter",
        "Requests that have overtaken longer ones in the queue",
    );
    for application in &all {
        let labels = [("application", &*application.name)];
        page.sample(
            "pyserve_queue_overtakes_total",
            &labels,
            application.queue.overtakes,
        );
    }
    workers(page, &all);
    outcomes(page);
    refork(page, &all);
}

/// Worker processes and their threads, and the memory of each worker.
fn workers(page: &mut Page, applications: &[&Application]) {
    page.family("pyserve_workers", "gauge", "Worker processes by state");
    for application in applications {
        for (state, word) in [
            (WorkerState::Starting, "starting"),
            (WorkerState::Ready, "ready"),
            (WorkerState::Leaving, "leaving"),
        ] {
            let workers = application.workers.iter();
            let count = workers.filter(|worker| worker.state == state).count();
            let labels = [("application", &*application.name), ("state", word)];
            page.sample("pyserve_workers", &labels, count);
        }
    }
    page.family("pyserve_worker_threads", "gauge", "Worker threads by state");
    for application in applications {
        for doing in [
            ThreadActivity::Starting,
            ThreadActivity::Idle,
            ThreadActivity::Received,
            ThreadActivity::Busy,
            ThreadActivity::Closing,
        ] {
            let threads = application
                .workers
                .iter()
                .flat_map(|worker| &worker.threads);
            let count = threads.filter(|thread| thread.doing == doing).count();
            let labels = [
                ("application", &*application.name),
                ("state", doing.as_str()),
            ];
            page.sample("pyserve_worker_threads", &labels, count);
        }
    }
    page.family(
        "pyserve_worker_memory_bytes",
        "gauge",
        "Resident set size of each worker, including memory shared with other workers",
    );
    for application in applications {
        // During a reload two generations have a worker of each number.
        let mut memory = BTreeMap::<u32, u64>::new();
        for worker in &application.workers {
            *memory.entry(worker.number).or_default() += worker.memory;
        }
        for (number, bytes) in memory {
            let number = number.to_string();
            let labels = [("application", &*application.name), ("worker", &number)];
            page.sample("pyserve_worker_memory_bytes", &labels, bytes);
        }
    }
}

/// Reloads, the ends of workers, and requests over their deadline.
fn outcomes(page: &mut Page) {
    page.family("pyserve_reloads", "counter", "Reloads by outcome");
    for (outcome, count) in METRICS.reloads.all() {
        page.sample("pyserve_reloads_total", &[("outcome", outcome)], count);
    }
    let tallies = [
        (
            "pyserve_workers_replaced",
            "Workers replaced, by reason",
            &METRICS.replaced,
        ),
        (
            "pyserve_workers_scaled",
            "Changes of the number of workers on demand, by reason",
            &METRICS.scaled,
        ),
        (
            "pyserve_worker_exits",
            "Worker processes that have exited, by reason",
            &METRICS.worker_exits,
        ),
    ];
    for (name, help, tally) in tallies {
        page.family(name, "counter", help);
        for (reason, count) in tally.all() {
            page.sample(&format!("{name}_total"), &[("reason", reason)], count);
        }
    }
    page.family(
        "pyserve_request_timeouts",
        "counter",
        "Requests over their deadline, by the way they ended",
    );
    for (end, count) in METRICS.timeouts.all() {
        page.sample("pyserve_request_timeouts_total", &[("end", end)], count);
    }
}

/// Metrics of `--refork`, where a worker may become the template.
fn refork(page: &mut Page, applications: &[&Application]) {
    page.family(
        "pyserve_reforks",
        "counter",
        "Attempts to make a worker the template, by outcome",
    );
    for (outcome, count) in METRICS.reforks.all() {
        page.sample("pyserve_reforks_total", &[("outcome", outcome)], count);
    }
    page.family(
        "pyserve_template_was_worker",
        "gauge",
        "1 if the template is a worker that was warmed up",
    );
    let all = applications.iter();
    for application in all.filter(|application| application.refork.is_some()) {
        let template = application.template.as_ref();
        let was_worker = template.is_some_and(|template| template.was_worker);
        let labels = [("application", &*application.name)];
        page.sample("pyserve_template_was_worker", &labels, u8::from(was_worker));
    }
}

/// The process metrics of every exporter, under their usual names.
fn process(page: &mut Page, status: &Status) {
    page.family(
        "process_resident_memory_bytes",
        "gauge",
        "Resident set size of the front",
    );
    page.sample("process_resident_memory_bytes", &[], status.memory);
    page.family(
        "pyserve_memory_budget_bytes",
        "gauge",
        "Limit of the memory that the front holds for clients",
    );
    page.sample("pyserve_memory_budget_bytes", &[], status.memory_budget);
    page.family(
        "pyserve_memory_used_bytes",
        "gauge",
        "Memory that the front holds for clients",
    );
    page.sample("pyserve_memory_used_bytes", &[], status.memory_used);
    page.family("process_cpu_seconds", "counter", "CPU time of the front");
    let cpu = process::cpu_time().as_secs_f64();
    page.sample("process_cpu_seconds_total", &[], cpu);
    page.family(
        "process_start_time_seconds",
        "gauge",
        "Start time of the server in seconds since 1970",
    );
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let started = now.unwrap_or_default().as_secs_f64() - status.uptime;
    page.sample(
        "process_start_time_seconds",
        &[],
        format_args!("{started:.3}"),
    );
    if let Some(open) = status.open_descriptors {
        page.family(
            "process_open_fds",
            "gauge",
            "Open file descriptors of the front",
        );
        page.sample("process_open_fds", &[], open);
    }
}

struct Page {
    text: String,
    format: Format,
}

impl Page {
    /// `name` is without the `_total` of a counter.
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Prometheus' older format has no families: it names the counter itself.
        let suffix = match (self.format, kind) {
            (Format::Prometheus, "counter") => "_total",
            _ => "",
        };
        // Writing to a String cannot fail, here and below.
        let _ = write!(
            self.text,
            "# HELP {name}{suffix} {help}\n# TYPE {name}{suffix} {kind}\n"
        );
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.text.push_str(name);
        let mut before = '{';
        for (label, text) in labels {
            self.text.push(before);
            let _ = write!(self.text, "{label}=\"");
            push_escaped(&mut self.text, text);
            self.text.push('"');
            before = ',';
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
        let _ = writeln!(self.text, " {value}");
    }

    /// Nothing where nothing was observed, as for the queue time of a static location.
    fn histogram(&mut self, name: &str, labels: &[(&str, &str)], histogram: &Histogram) {
        let cumulated = histogram.cumulated();
        let count = cumulated[BOUNDS.len()];
        if count == 0 {
            return;
        }
        let bucket = format!("{name}_bucket");
        for (at, many) in cumulated.into_iter().enumerate() {
            let bound = BOUNDS.get(at).map_or("+Inf".to_owned(), f64::to_string);
            let labels = [labels, &[("le", &bound)]].concat();
            self.sample(&bucket, &labels, many);
        }
        self.sample(&format!("{name}_count"), labels, count);
        let total = histogram.total_seconds();
        self.sample(&format!("{name}_sum"), labels, total);
    }
}

fn push_escaped(text: &mut String, value: &str) {
    for char in value.chars() {
        match char {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            char => text.push(char),
        }
    }
}
