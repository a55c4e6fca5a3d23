//! Servers behind pyserve, in the place of an application.

use super::{Default, Setting};

const HEADING: &str = "Servers behind pyserve";

/// Under the heading [`HEADING`].
pub(super) static UPSTREAM: &[Setting] = &[
    Setting {
        name: "uwsgi",
        value_name: "ADDR",
        heading: HEADING,
        help: "Have a uWSGI answer instead of an application: `unix:/tmp/uwsgi.sock` or `127.0.0.1:3031`; \
               repeatable, the one with the fewest requests gets the next",
        repeatable: true,
        default: Default::None,
    },
    Setting {
        name: "upstream",
        value_name: "URL",
        heading: HEADING,
        help: "Have another server answer instead of an application: `http://127.0.0.1:9000`, \
               `http+unix:/path`, or `uwsgi://` as --uwsgi; repeatable, all of one kind",
        repeatable: true,
        default: Default::None,
    },
    Setting {
        name: "uwsgi_param",
        value_name: "NAME=VALUE",
        heading: HEADING,
        help: "One more variable for uWSGI, or another value for one of the request's; repeatable",
        repeatable: true,
        default: Default::None,
    },
    Setting {
        name: "uwsgi_modifier1",
        value_name: "N",
        heading: HEADING,
        help: "First byte of the packets for uWSGI: 0 for WSGI",
        repeatable: false,
        default: Default::Value("0"),
    },
    Setting {
        name: "uwsgi_modifier2",
        value_name: "N",
        heading: HEADING,
        help: "Last byte of their headers",
        repeatable: false,
        default: Default::Value("0"),
    },
    Setting {
        name: "uwsgi_insecure",
        value_name: "yes|no",
        heading: HEADING,
        help: "Allow a uWSGI on another machine: its protocol has neither encryption nor password",
        repeatable: false,
        default: Default::Value("no"),
    },
    Setting {
        name: "upstream_connect_timeout",
        value_name: "TIME",
        heading: HEADING,
        help: "How long a server behind pyserve may take to accept a connection; 504 beyond",
        repeatable: false,
        default: Default::Value("10"),
    },
    Setting {
        name: "upstream_send_timeout",
        value_name: "TIME",
        heading: HEADING,
        help: "How long it may take nothing of what is sent; 504 beyond",
        repeatable: false,
        default: Default::Value("60"),
    },
    Setting {
        name: "upstream_read_timeout",
        value_name: "TIME",
        heading: HEADING,
        help: "How long it may send nothing; 504 beyond",
        repeatable: false,
        default: Default::Value("60"),
    },
];
