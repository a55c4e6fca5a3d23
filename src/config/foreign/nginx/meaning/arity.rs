//! The number of arguments that directives take: nginx refuses a file with another number, as where a
//! path with a blank has no quotes.

use super::Meaning;
use super::rest::entries_of;
use crate::config::foreign::Verdict;

/// Directives that take so many arguments: the fewest, and the most if there is a limit.
const ARITIES: &[(usize, Option<usize>, &[&str])] = &[
    (0, Some(0), &["internal", "ip_hash"]),
    (
        1,
        Some(1),
        &[
            "alias",
            "allow",
            "auth_basic",
            "auth_basic_user_file",
            "autoindex",
            "charset",
            "client_body_timeout",
            "client_header_timeout",
            "client_max_body_size",
            "default_type",
            "deny",
            "gzip",
            "gzip_comp_level",
            "gzip_min_length",
            "gzip_static",
            "gzip_vary",
            "include",
            "log_not_found",
            "proxy_buffering",
            "proxy_connect_timeout",
            "proxy_hide_header",
            "proxy_http_version",
            "proxy_intercept_errors",
            "proxy_pass",
            "proxy_read_timeout",
            "proxy_request_buffering",
            "proxy_send_timeout",
            "real_ip_header",
            "real_ip_recursive",
            "root",
            "send_timeout",
            "sendfile",
            "server_tokens",
            "set_real_ip_from",
            "ssl_certificate",
            "ssl_certificate_key",
            "tcp_nodelay",
            "tcp_nopush",
            "upstream",
            "uwsgi_buffering",
            "uwsgi_connect_timeout",
            "uwsgi_hide_header",
            "uwsgi_pass",
            "uwsgi_read_timeout",
            "uwsgi_send_timeout",
        ],
    ),
    (1, Some(2), &["expires", "keepalive_timeout", "return"]),
    (1, None, &["access_log", "index", "listen", "server_name"]),
    (2, Some(2), &["proxy_set_header", "set"]),
    (2, Some(3), &["add_header", "rewrite", "uwsgi_param"]),
    (2, None, &["error_page", "try_files"]),
];

/// Reports the directives that have another number of arguments.
pub fn check(meaning: &mut Meaning<'_>) {
    for at in 0..meaning.tree.items.len() {
        let item = &meaning.tree.items[at];
        let is_entry = item
            .parent
            .is_some_and(|parent| entries_of(meaning.name(parent)));
        let found = ARITIES
            .iter()
            .find(|(_, _, names)| names.contains(&&*item.name));
        let Some((least, most, _)) = found.filter(|_| !is_entry) else {
            continue;
        };
        let given = item.args.len();
        if given >= *least && most.is_none_or(|most| given <= most) {
            continue;
        }
        let takes = match most {
            Some(most) if most == least => least.to_string(),
            Some(most) => format!("{least} to {most}"),
            None => format!("{least} or more"),
        };
        let text = format!(
            "{given} arguments, where nginx takes {takes}: put quotes around one with a blank"
        );
        meaning.say(at, Verdict::Wrong(text));
    }
}
