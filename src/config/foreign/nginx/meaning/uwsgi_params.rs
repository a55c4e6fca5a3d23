//! The variables of nginx's `uwsgi_params`, and others that frameworks read, with their usual values.

use crate::config::foreign::Verdict;

/// True for a variable with a usual value.
pub fn is_standard(name: &str, value: &str) -> bool {
    STANDARD_PARAMS.contains(&(name, value))
}

const STANDARD_PARAMS: &[(&str, &str)] = &[
    ("QUERY_STRING", "$query_string"),
    ("QUERY_STRING", "$args"),
    ("REQUEST_METHOD", "$request_method"),
    ("CONTENT_TYPE", "$content_type"),
    ("CONTENT_LENGTH", "$content_length"),
    ("REQUEST_URI", "$request_uri"),
    ("PATH_INFO", "$document_uri"),
    ("PATH_INFO", "$uri"),
    ("SERVER_PROTOCOL", "$server_protocol"),
    ("REQUEST_SCHEME", "$scheme"),
    ("HTTPS", "$https"),
    ("REMOTE_ADDR", "$remote_addr"),
    ("REMOTE_PORT", "$remote_port"),
    ("SERVER_PORT", "$server_port"),
    ("SERVER_NAME", "$host"),
    ("HTTP_HOST", "$host"),
    ("HTTP_HOST", "$http_host"),
    ("UWSGI_SCHEME", "$scheme"),
    ("DOCUMENT_ROOT", "$document_root"),
    ("DOCUMENT_URI", "$document_uri"),
    ("SERVER_SOFTWARE", "nginx/$nginx_version"),
    ("SERVER_ADDR", "$server_addr"),
    ("HTTPS", "$https if_not_empty"),
];

/// The verdict of nginx's own file, with what an application can tell.
pub const BUILT_IN: &str = "what nginx's own file says is built in (SERVER_NAME is the host that the client asks for; an application of this server has CONTENT_TYPE and CONTENT_LENGTH where a request has them, and no DOCUMENT_ROOT)";

/// True for a variable with an empty text that is sent `if_not_empty`.
pub fn is_left_out(args: &[&str]) -> bool {
    matches!(args, [_, "", "if_not_empty"])
}

/// The reason for which such a variable has no effect.
pub const LEFT_OUT: &str = "an empty variable is not sent";

/// The verdict of a `uwsgi_param` with a usual value, for the application of this server or for a server
/// behind it; `None` for another variable.
pub fn verdict((name, value): (&str, &str), is_application: bool) -> Option<Verdict> {
    if let Some(text) = difference((name, value), is_application) {
        return Some(Verdict::Differs(text.to_owned()));
    }
    let text = match is_application {
        true => "in the environ of the application",
        false => "sent to the server",
    };
    is_standard(name, value).then(|| Verdict::AlreadySo(text.to_owned()))
}

/// The difference from nginx's value, or the reason for which the variable is missing; `None` for a variable
/// that has nginx's value or is not a usual one.
fn difference((name, value): (&str, &str), is_application: bool) -> Option<&'static str> {
    if (name, value) == ("SERVER_NAME", "$server_name") {
        return Some(
            "SERVER_NAME is the host that the client asks for; nginx's is the first name of the server for every host",
        );
    }
    if !is_standard(name, value) {
        return None;
    }
    Some(match (name, value) {
        ("UWSGI_SCHEME", _) => "not there: the scheme is in wsgi.url_scheme and HTTPS",
        ("DOCUMENT_URI", _) => "not there: the path is in PATH_INFO",
        ("SERVER_ADDR", _) => "not there: the host is in SERVER_NAME",
        ("SERVER_SOFTWARE", _) if is_application => "SERVER_SOFTWARE names this server",
        ("SERVER_SOFTWARE", _) => "not there: it would name nginx",
        ("DOCUMENT_ROOT", _) if is_application => "not there: an application has no such directory",
        ("HTTP_HOST", "$host") => "HTTP_HOST is the host as the client names it, with its port",
        _ => return None,
    })
}
