//! Servers behind pyserve, in the place of an application.

use super::{Default, Setting};

const HEADING: &str = "Upstream servers";

/// Under the heading [`HEADING`].
pub(super) static UPSTREAM: &[Setting] = &[
    Setting {
        name: "uwsgi",
        value_name: "ADDR",
        heading: HEADING,
        help: "Forward requests to a uWSGI server instead of an application: `unix:/tmp/uwsgi.sock` \
               or `127.0.0.1:3031`; repeatable, the server with the fewest requests in flight gets \
               the next",
        repeatable: true,
        default: Default::None,
    },
    Setting {
        name: "upstream",
        value_name: "URL",
        heading: HEADING,
        help: "Forward requests to another server instead of an application: \
               `http://127.0.0.1:9000`, `https://name`, `http+unix:/path`, or `uwsgi://` as --uwsgi; \
               repeatable, all of one kind",
        repeatable: true,
        default: Default::None,
    },
    Setting {
        name: "uwsgi_param",
        value_name: "NAME=VALUE",
        heading: HEADING,
        help: "Additional variable for uWSGI, or another value for one of its variables; repeatable",
        repeatable: true,
        default: Default::None,
    },
    Setting {
        name: "uwsgi_modifier1",
        value_name: "N",
        heading: HEADING,
        help: "First byte of the header of uwsgi packets: 0 for WSGI",
        repeatable: false,
        default: Default::Value("0"),
    },
    Setting {
        name: "uwsgi_modifier2",
        value_name: "N",
        heading: HEADING,
        help: "Last byte of the header of uwsgi packets",
        repeatable: false,
        default: Default::Value("0"),
    },
    Setting {
        name: "uwsgi_insecure",
        value_name: "yes|no",
        heading: HEADING,
        help: "Allow a uWSGI server on another machine: the protocol has neither encryption nor a \
               password",
        repeatable: false,
        default: Default::Value("no"),
    },
    Setting {
        name: "upstream_host",
        value_name: "client|server|HOST",
        heading: HEADING,
        help: "Host header for HTTP servers: the one of the client, the address of the server, or \
               this text, in which `{host}` is the client's in lower case without its port, and \
               `{port}` behind it the port that the client connected to",
        repeatable: false,
        default: Default::Value("client"),
    },
    Setting {
        name: "upstream_ca",
        value_name: "FILE|system",
        heading: HEADING,
        help: "Authorities that certify `https://` servers, in PEM; `system`: those of the system, or of \
               the variables `SSL_CERT_FILE` and `SSL_CERT_DIR`",
        repeatable: false,
        default: Default::Value("system"),
    },
    Setting {
        name: "upstream_tls_name",
        value_name: "NAME",
        heading: HEADING,
        help: "Name that `https://` servers get by SNI and must have in their certificates",
        repeatable: false,
        default: Default::Computed("the host of the address"),
    },
    Setting {
        name: "upstream_cert",
        value_name: "FILE",
        heading: HEADING,
        help: "Certificate for `https://` servers that ask for one, in PEM, with the intermediate ones \
               behind it",
        repeatable: false,
        default: Default::Computed("none"),
    },
    Setting {
        name: "upstream_key",
        value_name: "FILE",
        heading: HEADING,
        help: "Private key of `upstream_cert`, in PEM",
        repeatable: false,
        default: Default::Computed("none"),
    },
    Setting {
        name: "upstream_redirects",
        value_name: "yes|no",
        heading: HEADING,
        help: "Rewrite Location and Refresh headers that name an HTTP server to paths of this site",
        repeatable: false,
        default: Default::Value("yes"),
    },
    Setting {
        name: "balance",
        value_name: "requests|address",
        heading: HEADING,
        help: "Which of several upstream servers gets a request: the one with the fewest requests, or always the \
               same for the network of a client",
        repeatable: false,
        default: Default::Value("requests"),
    },
    Setting {
        name: "upstream_connect_timeout",
        value_name: "TIME",
        heading: HEADING,
        help: "Time for connecting to an upstream server; 504 beyond",
        repeatable: false,
        default: Default::Value("10"),
    },
    Setting {
        name: "upstream_send_timeout",
        value_name: "TIME",
        heading: HEADING,
        help: "Longest pause while an upstream server reads the request; 504 beyond",
        repeatable: false,
        default: Default::Value("60"),
    },
    Setting {
        name: "upstream_read_timeout",
        value_name: "TIME",
        heading: HEADING,
        help: "Longest pause while an upstream server responds; 504 beyond",
        repeatable: false,
        default: Default::Value("60"),
    },
];
