//! Access by network and by password.

use super::{Default, Setting};

const HEADING: &str = "Access";

/// Under the heading [`HEADING`].
pub(super) static ACCESS: &[Setting] = &[
    Setting {
        name: "access",
        value_name: "RULES",
        heading: HEADING,
        help: "Networks that are allowed or denied, as in `allow 10.0.0.0/8 ::1` and `deny all`; the first \
               rule that matches decides, otherwise the client is allowed; 403 if not; repeatable",
        repeatable: true,
        default: Default::None,
    },
    Setting {
        name: "basic_auth",
        value_name: "FILE|off",
        heading: HEADING,
        help: "Ask for a user and a password of this file, which `htpasswd -B` writes",
        repeatable: false,
        default: Default::Value("off"),
    },
    Setting {
        name: "basic_auth_realm",
        value_name: "TEXT",
        heading: HEADING,
        help: "The name that clients show when they ask for the password",
        repeatable: false,
        default: Default::Value("Restricted"),
    },
    Setting {
        name: "satisfy",
        value_name: "all|any",
        heading: HEADING,
        help: "With `access` and `basic_auth`: clients need both, or one of them",
        repeatable: false,
        default: Default::Value("all"),
    },
];
