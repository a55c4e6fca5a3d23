//! Header fields of responses, and pages for errors.

use super::{Default, Setting};

const HEADING: &str = "Responses";

/// Under the heading [`HEADING`].
pub(super) static RESPONSES: &[Setting] = &[
    Setting {
        name: "header",
        value_name: "[always] [set|add|remove] NAME: VALUE",
        heading: HEADING,
        help: "Set a response header, or `add` one beside others of its name, on the statuses 200, 201, \
               204, 206, 301 to 304, 307 and 308, with `always` on every status; `remove NAME` removes \
               it from every response, with `success` from those statuses alone; repeatable",
        repeatable: true,
        default: Default::None,
    },
    Setting {
        name: "error_page",
        value_name: "CODE=[=STATUS ]FILE|data:TYPE,TEXT",
        heading: HEADING,
        help: "Page for the errors of CODE (`404`, `500,502`, `4xx`, `5xx`) in place of the built-in \
               one: a file or, behind `data:`, a text; STATUS, as in `404==200 empty.gif`, replaces the \
               status; repeatable",
        repeatable: true,
        default: Default::None,
    },
    Setting {
        name: "intercept_errors",
        value_name: "yes|no",
        heading: HEADING,
        help: "Also replace error responses of the application or upstream server by the pages of \
               --error-page",
        repeatable: false,
        default: Default::Value("no"),
    },
    Setting {
        name: "charset",
        value_name: "NAME|no",
        heading: HEADING,
        help: "Charset of HTML, plain text, XML and JavaScript whose `Content-Type` names none, of every \
               response (nginx: `charset`)",
        repeatable: false,
        default: Default::Value("no"),
    },
    Setting {
        name: "unknown_host",
        value_name: "404|421|444",
        heading: HEADING,
        help: "Status for requests to a host that no [[location]] names, where none without `host` \
               covers the path; 444 closes the connection without a response",
        repeatable: false,
        default: Default::Value("421"),
    },
];
