//! The blocks in which nginx takes a directive ("Context" in its documentation): elsewhere it refuses the
//! whole file.

use super::Meaning;
use super::rest::entries_of;
use crate::config::foreign::Verdict;

/// Directives with the blocks that may have them. `main` is the file itself.
const CONTEXTS: &[(&[&str], &[&str])] = &[
    (&["location"], &["server", "location"]),
    (&["limit_except", "alias", "internal"], &["location"]),
    (
        &["proxy_pass"],
        &["location", "if in location", "limit_except"],
    ),
    (
        &["uwsgi_pass", "fastcgi_pass", "scgi_pass"],
        &["location", "if in location"],
    ),
    (&["listen", "server_name"], &["server"]),
    (
        &["return", "rewrite", "break", "set"],
        &["server", "location", "if", "if in location"],
    ),
    (&["if", "try_files", "stub_status"], &["server", "location"]),
    (
        &[
            "upstream",
            "map",
            "geo",
            "split_clients",
            "log_format",
            "limit_req_zone",
            "limit_conn_zone",
            "proxy_cache_path",
            "uwsgi_cache_path",
            "server_names_hash_bucket_size",
            "server_names_hash_max_size",
            "map_hash_bucket_size",
            "map_hash_max_size",
            "variables_hash_bucket_size",
            "variables_hash_max_size",
        ],
        &["http"],
    ),
    (
        &["worker_connections", "multi_accept", "accept_mutex"],
        &["events"],
    ),
    (&["server"], &["http", "upstream"]),
    (
        &[
            "http",
            "events",
            "user",
            "worker_processes",
            "worker_rlimit_nofile",
            "pid",
            "daemon",
            "master_process",
            "load_module",
            "env",
        ],
        &["main"],
    ),
    (
        &[
            "ssl_certificate",
            "ssl_certificate_key",
            "ssl_protocols",
            "ssl_verify_client",
            "ssl_ciphers",
            "ssl_prefer_server_ciphers",
            "ssl_session_cache",
            "ssl_session_timeout",
            "ssl_session_tickets",
            "ssl_dhparam",
            "ssl_ecdh_curve",
            "ssl_stapling",
            "ssl_stapling_verify",
            "ssl_trusted_certificate",
            "ssl_client_certificate",
            "client_header_timeout",
            "client_header_buffer_size",
            "large_client_header_buffers",
            "merge_slashes",
            "underscores_in_headers",
            "ignore_invalid_headers",
        ],
        &["http", "server"],
    ),
    (
        &["allow", "deny", "auth_basic", "auth_basic_user_file"],
        &["http", "server", "location", "limit_except"],
    ),
    (
        &[
            "root",
            "add_header",
            "expires",
            "error_page",
            "gzip",
            "charset",
            "sendfile",
            "limit_rate",
            "limit_rate_after",
        ],
        &["http", "server", "location", "if in location"],
    ),
    (
        &[
            "client_max_body_size",
            "proxy_set_header",
            "uwsgi_param",
            "index",
            "autoindex",
            "types",
            "satisfy",
            "set_real_ip_from",
            "real_ip_header",
            "limit_req",
            "limit_conn",
            "proxy_read_timeout",
            "uwsgi_read_timeout",
            "proxy_connect_timeout",
            "uwsgi_connect_timeout",
            "proxy_send_timeout",
            "uwsgi_send_timeout",
            "proxy_buffering",
            "uwsgi_buffering",
            "proxy_request_buffering",
            "uwsgi_request_buffering",
            "proxy_buffers",
            "proxy_buffer_size",
            "uwsgi_buffers",
            "uwsgi_buffer_size",
            "proxy_http_version",
            "proxy_redirect",
            "proxy_hide_header",
            "uwsgi_hide_header",
            "proxy_pass_header",
            "uwsgi_pass_header",
            "proxy_intercept_errors",
            "uwsgi_intercept_errors",
            "proxy_cookie_path",
            "proxy_cookie_domain",
            "proxy_cache",
            "uwsgi_cache",
            "auth_request",
            "client_body_timeout",
            "client_body_buffer_size",
            "send_timeout",
            "keepalive_timeout",
            "keepalive_requests",
            "default_type",
            "etag",
            "if_modified_since",
            "max_ranges",
            "autoindex_format",
            "autoindex_exact_size",
            "autoindex_localtime",
            "gzip_static",
            "gzip_types",
            "gzip_min_length",
            "gzip_comp_level",
            "gzip_vary",
            "gzip_proxied",
            "gzip_disable",
            "server_tokens",
            "tcp_nopush",
            "tcp_nodelay",
            "real_ip_recursive",
            "log_not_found",
            "types_hash_max_size",
        ],
        &["http", "server", "location"],
    ),
    (
        &["access_log"],
        &[
            "http",
            "server",
            "location",
            "if in location",
            "limit_except",
        ],
    ),
    (&["error_log"], &["main", "http", "server", "location"]),
    (&["ip_hash", "least_conn"], &["upstream"]),
];

/// Reports the directives that stand in a block where nginx refuses them.
pub fn check(meaning: &mut Meaning<'_>) {
    let tree = meaning.tree;
    let has = |name: &str| tree.named(None, name).any(|at| tree.items[at].is_block);
    // A part of a server is no file of nginx; its includes are.
    if !has("http") && !has("server") {
        return;
    }
    for at in 0..tree.items.len() {
        let item = &tree.items[at];
        let found = CONTEXTS
            .iter()
            .find(|(names, _)| names.contains(&&*item.name));
        let (Some((_, blocks)), Some(context)) = (found, context(meaning, at, has("http"))) else {
            continue;
        };
        // Without `http`, the file is one that `http` includes.
        let is_part = context == "main" && !has("http");
        if blocks.contains(&context) || is_part && blocks.contains(&"http") {
            continue;
        }
        let place = match context {
            "main" if is_part => "http".to_owned(),
            context => context.to_owned(),
        };
        let has_if = blocks.contains(&"if");
        let shown: Vec<_> = blocks
            .iter()
            .filter(|block| !has_if || **block != "if in location")
            .copied()
            .collect();
        let text = format!(
            "nginx refuses the file: {} stands in {}, not in {place}",
            item.name,
            shown.join(", "),
        );
        meaning.say(at, Verdict::Wrong(text));
    }
}

/// The block around a directive; `None` in those that are not of HTTP, or have entries.
fn context<'m>(meaning: &Meaning<'m>, at: usize, has_http: bool) -> Option<&'m str> {
    let tree = meaning.tree;
    let Some(parent) = tree.items[at].parent else {
        return Some("main");
    };
    let mut block = Some(parent);
    while let Some(around) = block {
        let name = meaning.name(around);
        let is_of_http = matches!(
            name,
            "http" | "server" | "location" | "if" | "limit_except" | "upstream" | "events"
        );
        if !is_of_http || entries_of(name) {
            return None;
        }
        block = tree.items[around].parent;
    }
    let name = meaning.name(parent);
    let is_outside = meaning.around(parent, "http").is_none();
    if has_http && is_outside && name != "events" {
        // A server beside `http` has a verdict of its own.
        return None;
    }
    let in_location = tree.items[parent]
        .parent
        .is_some_and(|around| meaning.name(around) == "location");
    match name {
        "if" if in_location => Some("if in location"),
        name => Some(name),
    }
}
