//! TLS on the listeners.

use super::{Default, Setting};

const HEADING: &str = "TLS";

/// Under the heading [`HEADING`].
pub(super) static TLS: &[Setting] = &[
    Setting {
        name: "tls_cert",
        value_name: "FILE|DIR",
        heading: HEADING,
        help: "Certificate of the `https://` addresses in PEM, with the intermediate ones behind it \
               (`fullchain.pem`), or a directory of pairs; repeatable: clients get the one for the name \
               that they ask for, else the first",
        repeatable: true,
        default: Default::Computed("none"),
    },
    Setting {
        name: "tls_key",
        value_name: "FILE",
        heading: HEADING,
        help: "Private key of the certificate at the same place in the list of `tls_cert`, in PEM; \
               repeatable",
        repeatable: true,
        default: Default::Computed("none"),
    },
    Setting {
        name: "tls_min",
        value_name: "1.2|1.3",
        heading: HEADING,
        help: "Oldest version of TLS that is accepted",
        repeatable: false,
        default: Default::Value("1.2"),
    },
    Setting {
        name: "tls_client_ca",
        value_name: "FILE",
        heading: HEADING,
        help: "Ask clients for a certificate of these authorities, in PEM",
        repeatable: false,
        default: Default::Computed("none"),
    },
    Setting {
        name: "tls_client_auth",
        value_name: "MODE",
        heading: HEADING,
        help: "With `tls_client_ca`: `required`, or `optional` for clients without a certificate as well",
        repeatable: false,
        default: Default::Value("required"),
    },
    Setting {
        name: "tls_client_crl",
        value_name: "FILE",
        heading: HEADING,
        help: "Revocation lists of all authorities in the chains of clients, in PEM; repeatable",
        repeatable: true,
        default: Default::Computed("none"),
    },
    Setting {
        name: "tls_client_pem",
        value_name: "yes|no",
        heading: HEADING,
        help: "Give applications the certificate of the client as `SSL_CLIENT_CERT`",
        repeatable: false,
        default: Default::Value("no"),
    },
    Setting {
        name: "redirect_to_https",
        value_name: "yes|no|PORT",
        heading: HEADING,
        help: "Redirect requests over plain HTTP to `https`, at the port of the first `https://` \
               address or at this one; not those for `/.well-known/acme-challenge/` and for probes",
        repeatable: false,
        default: Default::Value("no"),
    },
    Setting {
        name: "hsts",
        value_name: "TIME|no",
        heading: HEADING,
        help: "Send `Strict-Transport-Security` with this `max-age` in responses over `https` that have \
               none: browsers then use no plain HTTP",
        repeatable: false,
        default: Default::Value("no"),
    },
];
