//! Limits of requests and responses, and the forms in which they are passed on.

use super::{Default, Setting};

const HEADING: &str = "Limits";

/// Under the heading [`HEADING`].
pub(super) static LIMITS: &[Setting] = &[
    Setting {
        name: "queue_limit",
        value_name: "N",
        heading: HEADING,
        help: "Requests that may wait for a worker; 503 beyond",
        repeatable: false,
        default: Default::Value("1024"),
    },
    Setting {
        name: "queue_timeout",
        value_name: "TIME",
        heading: HEADING,
        help: "Time that a request may wait for a worker; 503 beyond",
        repeatable: false,
        default: Default::Value("30"),
    },
    Setting {
        name: "short_first",
        value_name: "yes|no",
        heading: HEADING,
        help: "In the queue, let requests of routes that have been short overtake those of routes \
               that take at least four times as long, of the same client address",
        repeatable: false,
        default: Default::Value("yes"),
    },
    Setting {
        name: "request_timeout",
        value_name: "TIME",
        heading: HEADING,
        help: "Time that a request may occupy a worker thread; 504 beyond: its stack is logged and \
               an exception is raised in it, or its worker is replaced; 0 for no limit",
        repeatable: false,
        default: Default::Computed("60; no limit with --dev"),
    },
    Setting {
        name: "max_body",
        value_name: "BYTES",
        heading: HEADING,
        help: "Longest request body, as `100M` or `1.5G`; 0 for no limit; 413 beyond",
        repeatable: false,
        default: Default::Value("100M"),
    },
    Setting {
        name: "header_timeout",
        value_name: "TIME",
        heading: HEADING,
        help: "Time for a client to send its request headers",
        repeatable: false,
        default: Default::Value("15"),
    },
    Setting {
        name: "body_timeout",
        value_name: "TIME",
        heading: HEADING,
        help: "Longest pause while a client sends a body or reads a response",
        repeatable: false,
        default: Default::Value("30"),
    },
    Setting {
        name: "keepalive_timeout",
        value_name: "TIME",
        heading: HEADING,
        help: "Time after which an idle connection is closed; 0 closes each behind its first response",
        repeatable: false,
        default: Default::Value("75"),
    },
    Setting {
        name: "buffering",
        value_name: "yes|no",
        heading: HEADING,
        help: "Buffer responses for slow clients, in memory, then in files; with `no`, or for a \
               response with `X-Accel-Buffering: no`, the application waits for its client",
        repeatable: false,
        default: Default::Value("yes"),
    },
    Setting {
        name: "request_buffering",
        value_name: "yes|no",
        heading: HEADING,
        help: "Read the whole request body before a worker is taken; with `no` the application \
               reads it while it arrives, and waits for its client",
        repeatable: false,
        default: Default::Value("yes"),
    },
    Setting {
        name: "normal_path",
        value_name: "yes|no",
        heading: HEADING,
        help: "Give applications and servers the path as locations are chosen by it, `..` resolved and \
               slashes merged (nginx: `$document_uri`), not as the client sent it",
        repeatable: false,
        default: Default::Value("no"),
    },
    Setting {
        name: "compress",
        value_name: "CODING,...|no",
        heading: HEADING,
        help: "Codings for responses of the application, of zstd, br and gzip, in this order of \
               preference; `no` for none; repeatable",
        repeatable: true,
        default: Default::Computed("zstd, br, gzip"),
    },
    Setting {
        name: "compress_types",
        value_name: "TYPE,...",
        heading: HEADING,
        help: "Media types of responses to compress, as in `text/*,application/json`; repeatable",
        repeatable: true,
        default: Default::Computed(
            "text, JSON, XML, JavaScript and WebAssembly, but no event streams",
        ),
    },
    Setting {
        name: "compress_min",
        value_name: "BYTES",
        heading: HEADING,
        help: "Length of the shortest response to compress",
        repeatable: false,
        default: Default::Value("1K"),
    },
    Setting {
        name: "compress_private",
        value_name: "yes|no",
        heading: HEADING,
        help: "Also compress responses to requests with cookies or credentials, and responses that \
               set cookies: safe if no page shows a secret beside text that another site can choose \
               (BREACH)",
        repeatable: false,
        default: Default::Value("no"),
    },
    Setting {
        name: "max_response_spool",
        value_name: "BYTES",
        heading: HEADING,
        help: "Size of the file in which one response may wait for its client; beyond it the \
               application waits; `no` for no files",
        repeatable: false,
        default: Default::Value("1G"),
    },
    Setting {
        name: "response_spool_total",
        value_name: "BYTES",
        heading: HEADING,
        help: "Size of all such files together; those of one address may take half of what others leave",
        repeatable: false,
        default: Default::Value("10G"),
    },
    Setting {
        name: "min_body_rate",
        value_name: "BYTES|no",
        heading: HEADING,
        help: "Bytes per second that a client must send of a body, or read of a response, after a \
               grace of `body_timeout`",
        repeatable: false,
        default: Default::Value("240"),
    },
    Setting {
        name: "max_spool",
        value_name: "BYTES",
        heading: HEADING,
        help: "Size of all request bodies together on disk, in `temp_dir`; 0 for no limit; 503 \
               beyond; several bodies of one address may take half of what others leave",
        repeatable: false,
        default: Default::Value("10G"),
    },
    Setting {
        name: "memory_budget",
        value_name: "BYTES",
        heading: HEADING,
        help: "Memory for what clients make the server hold: request headers and bodies, responses, \
               buffers; beyond it, bodies and responses go to files and requests get 503; 0 for no \
               limit",
        repeatable: false,
        default: Default::Computed("a quarter of the memory (the container's limit), at most 512M"),
    },
    Setting {
        name: "max_connections",
        value_name: "N",
        heading: HEADING,
        help: "Concurrent connections; further ones wait in the backlog",
        repeatable: false,
        default: Default::Computed("10000, or by descriptors (ulimit -n) and memory"),
    },
    Setting {
        name: "max_connections_per_ip",
        value_name: "N|no",
        heading: HEADING,
        help: "Concurrent connections from one address (IPv6: one /64) that is not in --trust; \
               further ones are closed",
        repeatable: false,
        default: Default::Value("no"),
    },
    Setting {
        name: "rate_limit",
        value_name: "N/s|N/m|N/h|no",
        heading: HEADING,
        help: "Requests from one address (IPv6: one /64), static files included; 429 beyond",
        repeatable: false,
        default: Default::Value("no"),
    },
    Setting {
        name: "rate_burst",
        value_name: "N",
        heading: HEADING,
        help: "Requests from one address that may arrive at once under --rate-limit",
        repeatable: false,
        default: Default::Computed("the number of --rate-limit"),
    },
    Setting {
        name: "temp_dir",
        value_name: "DIR",
        heading: HEADING,
        help: "Directory for large request bodies, and for long responses to slow clients",
        repeatable: false,
        default: Default::Computed("$TMPDIR, or /tmp"),
    },
];
