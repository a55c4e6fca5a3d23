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
        help: "How long a request may wait for a worker; 503 beyond",
        repeatable: false,
        default: Default::Value("30"),
    },
    Setting {
        name: "request_timeout",
        value_name: "TIME",
        heading: HEADING,
        help: "How long a request may keep a worker thread; 504 beyond, its stack goes to the log, and \
               an exception ends it, or else its worker is replaced; 0 for no limit",
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
        help: "How long a client may take to send its request headers",
        repeatable: false,
        default: Default::Value("15"),
    },
    Setting {
        name: "body_timeout",
        value_name: "TIME",
        heading: HEADING,
        help: "How long a client may pause while it sends a body or takes a response",
        repeatable: false,
        default: Default::Value("30"),
    },
    Setting {
        name: "keepalive_timeout",
        value_name: "TIME",
        heading: HEADING,
        help: "How long an idle connection stays open",
        repeatable: false,
        default: Default::Value("75"),
    },
    Setting {
        name: "buffering",
        value_name: "yes|no",
        heading: HEADING,
        help: "Take responses off the application faster than slow clients take them: in memory, \
               then in files; `no` lets the application wait for its clients, and so does a \
               response with `X-Accel-Buffering: no`",
        repeatable: false,
        default: Default::Value("yes"),
    },
    Setting {
        name: "request_buffering",
        value_name: "yes|no",
        heading: HEADING,
        help: "Read the body of a request to its end before a worker is taken; `no` lets the \
               application read it while it arrives, and wait for its client",
        repeatable: false,
        default: Default::Value("yes"),
    },
    Setting {
        name: "compress",
        value_name: "CODING,...|no",
        heading: HEADING,
        help: "How responses of the application are compressed for clients that accept it: of zstd, \
               br and gzip, which are taken in this order; `no` for not at all; repeatable",
        repeatable: true,
        default: Default::Computed("zstd, br, gzip"),
    },
    Setting {
        name: "compress_types",
        value_name: "TYPE,...",
        heading: HEADING,
        help: "Types of responses that are compressed, as in `text/*,application/json`; repeatable",
        repeatable: true,
        default: Default::Computed(
            "text, JSON, XML, JavaScript and WebAssembly, but no event streams",
        ),
    },
    Setting {
        name: "compress_min",
        value_name: "BYTES",
        heading: HEADING,
        help: "Shortest response that is compressed",
        repeatable: false,
        default: Default::Value("1K"),
    },
    Setting {
        name: "compress_private",
        value_name: "yes|no",
        heading: HEADING,
        help: "Compress answers to requests with cookies or credentials, and those that set cookies, \
               too: safe where no page shows what others make its visitors send beside a secret \
               (BREACH)",
        repeatable: false,
        default: Default::Value("no"),
    },
    Setting {
        name: "max_response_spool",
        value_name: "BYTES",
        heading: HEADING,
        help: "How much of one response may wait in a file for its client; beyond it the \
               application waits; `no` for no files",
        repeatable: false,
        default: Default::Value("1G"),
    },
    Setting {
        name: "response_spool_total",
        value_name: "BYTES",
        heading: HEADING,
        help: "How much of all responses together may wait in files",
        repeatable: false,
        default: Default::Value("10G"),
    },
    Setting {
        name: "min_body_rate",
        value_name: "BYTES|no",
        heading: HEADING,
        help: "Bytes in a second that a client must send of a body, or take of a response, after a \
               grace of `body_timeout`",
        repeatable: false,
        default: Default::Value("240"),
    },
    Setting {
        name: "max_spool",
        value_name: "BYTES",
        heading: HEADING,
        help: "What all request bodies together may take on disk, in `temp_dir`; 0 for no limit; 503 \
               beyond",
        repeatable: false,
        default: Default::Value("10G"),
    },
    Setting {
        name: "memory_budget",
        value_name: "BYTES",
        heading: HEADING,
        help: "Memory for what clients make the front hold: request headers and bodies, responses, \
               buffers; at its end bodies and responses go to files and requests get 503",
        repeatable: false,
        default: Default::Computed("a quarter of the memory (the container's limit), at most 512M"),
    },
    Setting {
        name: "max_connections",
        value_name: "N",
        heading: HEADING,
        help: "Connections at a time; further ones wait until one ends",
        repeatable: false,
        default: Default::Computed("10000, or by descriptors (ulimit -n) and memory"),
    },
    Setting {
        name: "max_connections_per_ip",
        value_name: "N|no",
        heading: HEADING,
        help: "Connections at a time from one address (IPv6: from one /64) that --trust does not \
               name; further ones are closed",
        repeatable: false,
        default: Default::Value("no"),
    },
    Setting {
        name: "rate_limit",
        value_name: "N/s|N/m|N/h|no",
        heading: HEADING,
        help: "Requests from one address (IPv6: from one /64), files included; 429 beyond",
        repeatable: false,
        default: Default::Value("no"),
    },
    Setting {
        name: "rate_burst",
        value_name: "N",
        heading: HEADING,
        help: "Requests of one address that may come at once under --rate-limit",
        repeatable: false,
        default: Default::Computed("the number of --rate-limit"),
    },
    Setting {
        name: "temp_dir",
        value_name: "DIR",
        heading: HEADING,
        help: "Where large request bodies are kept while they arrive, and long responses while \
               slow clients take them",
        repeatable: false,
        default: Default::Computed("$TMPDIR, or /tmp"),
    },
];
