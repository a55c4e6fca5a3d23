//! What decides about a request's head, and the variables that are made of it.
//!
//! The input is a head of HTTP/1; an empty line in front of it makes it one of HTTP/2.

use std::collections::BTreeSet;

use http::header::{HOST, TRANSFER_ENCODING};
use http::{HeaderName, HeaderValue, Method, Request, Version, request};
use pyserve::internals::Trust;
use pyserve::internals::context::{Client, Endpoints, RequestFacts};
use pyserve::internals::protocol::forwarded::{is_noticed, resolve};
use pyserve::internals::protocol::limits::{MAX_FIELDS, MAX_HEAD, check, valid_host};
use pyserve::internals::request::environ::build;
use pyserve_wire::frames::REQUEST_HEADER;
use pyserve_wire::vars;

/// Variables that are not made of a field.
const OWN: [&str; 17] = [
    "REQUEST_METHOD",
    "SCRIPT_NAME",
    "PATH_INFO",
    "QUERY_STRING",
    "REQUEST_URI",
    "RAW_URI",
    "SERVER_PROTOCOL",
    "REQUEST_SCHEME",
    "HTTPS",
    "SERVER_NAME",
    "SERVER_PORT",
    "REMOTE_ADDR",
    "REMOTE_PORT",
    "CONTENT_TYPE",
    "CONTENT_LENGTH",
    "HTTP_HOST",
    "HTTP_X_REQUEST_ID",
];

/// What passes has one end, one host and a path; no field becomes a variable that means
/// something else.
pub fn run(input: &[u8]) {
    let Some(head) = head(input) else { return };
    let Ok(host) = check(&head) else { return };
    check_host(&head, &host);
    check_framing(&head);
    check_target(&head);
    check_variables(head, host);
}

/// The head as hyper would give it to us.
fn head(input: &[u8]) -> Option<request::Parts> {
    let (version, input) = match input.strip_prefix(b"\n") {
        Some(rest) => (Version::HTTP_2, rest),
        None => (Version::HTTP_11, input),
    };
    let mut places = [httparse::EMPTY_HEADER; 200];
    let mut parsed = httparse::Request::new(&mut places);
    if !parsed.parse(input).ok()?.is_complete() {
        return None;
    }
    let version = match parsed.version {
        Some(0) if version == Version::HTTP_11 => Version::HTTP_10,
        _ => version,
    };
    let mut head = Request::builder()
        .method(parsed.method?)
        .uri(parsed.path?)
        .version(version);
    for field in &*parsed.headers {
        let name = HeaderName::from_bytes(field.name.as_bytes()).ok()?;
        head = head.header(name, HeaderValue::from_bytes(field.value).ok()?);
    }
    Some(head.body(()).ok()?.into_parts().0)
}

fn check_host(head: &request::Parts, host: &str) {
    assert_eq!(valid_host(host.as_bytes()), Some(host));
    assert!(!host.contains(['@', '/', '\\', ' ', '#', '?', '"', '\0', '\r', '\n']));
    let fields: Vec<_> = head.headers.get_all(HOST).iter().collect();
    assert!(fields.len() <= 1);
    let field = fields.first().map(|field| field.as_bytes());
    match head.uri.authority() {
        Some(authority) => {
            assert_eq!(authority.as_str(), host);
            let differs = field.is_some_and(|field| field != host.as_bytes());
            assert!(!(differs && head.version == Version::HTTP_2));
        }
        None => {
            assert_eq!(field.unwrap_or_default(), host.as_bytes());
            assert!(field.is_some() || head.version == Version::HTTP_10);
        }
    }
}

fn check_framing(head: &request::Parts) {
    let codings: Vec<_> = head.headers.get_all(TRANSFER_ENCODING).iter().collect();
    assert!(codings.len() <= 1);
    for coding in codings {
        assert!(coding.as_bytes().eq_ignore_ascii_case(b"chunked"));
        assert_ne!(head.version, Version::HTTP_2);
    }
    let size = |(name, value): (&HeaderName, &HeaderValue)| name.as_str().len() + value.len();
    assert!(head.headers.iter().map(size).sum::<usize>() <= MAX_HEAD);
    let cookies = head.headers.get_all("cookie").iter().count();
    assert!(head.headers.len() - cookies <= MAX_FIELDS);
}

fn check_target(head: &request::Parts) {
    assert_ne!(head.method, Method::CONNECT);
    let scheme = head.uri.scheme_str();
    assert!(matches!(scheme, None | Some("http" | "https")));
    let target = head.uri.path_and_query().expect("a path").as_str();
    let is_star = target == "*" && head.method == Method::OPTIONS;
    assert!(
        is_star || scheme.is_some() || target.starts_with('/'),
        "{target}"
    );
}

fn check_variables(mut head: request::Parts, host: String) {
    let ends = Endpoints::default();
    let mut client: Client = resolve(&mut head.headers, None, &ends, &Default::default());
    client.host = host;
    let target = head.uri.path_and_query().expect("a path").as_str();
    let facts = RequestFacts {
        tls: None,
        ends: &ends,
        client: &client,
        mount: "",
        path: head.uri.path(),
        normal_path: false,
        request_id: "id",
        body_length: Some(0),
        variables: &[],
    };
    let Ok(message) = build(&head, &facts) else {
        assert!(head.uri.path().contains("%00"), "{target}");
        return;
    };
    let mut names = BTreeSet::new();
    for pair in vars::pairs(&message[REQUEST_HEADER..]) {
        let (name, value) = pair.expect("a whole block");
        let name = str::from_utf8(name).expect("plain names");
        assert!(names.insert(name), "{name} twice");
        match name {
            "REQUEST_URI" => assert_eq!(value, target.as_bytes()),
            "PATH_INFO" => assert!(!value.contains(&0) && !value.is_empty()),
            "HTTP_HOST" => assert_eq!(value, client.host.as_bytes()),
            _ => {}
        }
        let Some(field) = name.strip_prefix("HTTP_").filter(|_| !OWN.contains(&name)) else {
            assert!(OWN.contains(&name), "{name}");
            continue;
        };
        let spelt = field.to_ascii_lowercase().replace('_', "-");
        assert!(head.headers.contains_key(&spelt), "{name}");
        let refused = ["TRANSFER_ENCODING", "CONTENT_LENGTH", "CONTENT_TYPE"];
        assert!(!refused.contains(&field), "{name}");
        let spelt = HeaderName::try_from(spelt).expect("a field's name");
        assert!(
            !is_noticed(&spelt, &Trust::default()),
            "what no trusted proxy says: {name}"
        );
    }
}
