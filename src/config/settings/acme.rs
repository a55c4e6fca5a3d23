//! Certificates from an authority that speaks ACME.

use super::{Default, Setting};

const HEADING: &str = "ACME";

/// Under the heading [`HEADING`].
pub(super) static ACME: &[Setting] = &[
    Setting {
        name: "acme",
        value_name: "HOST",
        heading: HEADING,
        help: "Get and renew a certificate for this host from an ACME authority, and agree to its terms \
               of service; repeatable",
        repeatable: true,
        default: Default::Computed("none"),
    },
    Setting {
        name: "acme_email",
        value_name: "ADDRESS",
        heading: HEADING,
        help: "Address to which the authority writes about the account",
        repeatable: false,
        default: Default::Computed("none"),
    },
    Setting {
        name: "acme_directory",
        value_name: "URL|letsencrypt|staging",
        heading: HEADING,
        help: "The authority, by the URL of its directory; `staging` is Let's Encrypt's for tests",
        repeatable: false,
        default: Default::Value("letsencrypt"),
    },
    Setting {
        name: "acme_ca",
        value_name: "FILE",
        heading: HEADING,
        help: "Root certificates for the connection to the authority, in PEM",
        repeatable: false,
        default: Default::Computed("those of the system"),
    },
    Setting {
        name: "acme_dir",
        value_name: "DIR",
        heading: HEADING,
        help: "Directory of the account's key, the certificates and the state; several servers may share it",
        repeatable: false,
        default: Default::Computed("/var/lib/pyserve/acme, or `acme` in systemd's state directory"),
    },
    Setting {
        name: "acme_challenge",
        value_name: "auto|http-01|tls-alpn-01",
        heading: HEADING,
        help: "Proof of control over a host: a file over plain HTTP at port 80, or a handshake at port \
               443; `auto` begins with the first where an address has plain HTTP, and takes the other \
               after a failure",
        repeatable: false,
        default: Default::Value("auto"),
    },
    Setting {
        name: "acme_eab_kid",
        value_name: "ID",
        heading: HEADING,
        help: "Key identifier of an account at the authority (external account binding)",
        repeatable: false,
        default: Default::Computed("none"),
    },
    Setting {
        name: "acme_eab_key",
        value_name: "FILE",
        heading: HEADING,
        help: "File with the key of `acme_eab_kid`, in base64url",
        repeatable: false,
        default: Default::Computed("none"),
    },
    Setting {
        name: "acme_self_signed",
        value_name: "yes|no",
        heading: HEADING,
        help: "Use a self-signed certificate until the first one is there; else handshakes for the host \
               are refused until then",
        repeatable: false,
        default: Default::Value("no"),
    },
];
