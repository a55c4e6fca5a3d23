//! PEP 3333: the status and the headers of a response.

use super::{SERVER, alone, check_is_500};
use crate::support::server::get;

#[test]
fn the_reason_phrase_is_kept() {
    for (status, line) in [
        ("418+I'm+tired", "HTTP/1.1 418 I'm tired"),
        ("404+", "HTTP/1.1 404 "),
        ("299+Mostly+%E9", "HTTP/1.1 299 Mostly \u{e9}"),
        ("200+Fine", "HTTP/1.1 200 Fine"),
    ] {
        let response = SERVER.get(&format!("/status?plain&body&status={status}"));
        assert_eq!(response.status_line(), line);
    }
}

#[test]
fn a_wrong_status_is_an_error_in_the_app() {
    for (number, query) in [
        "status=20+OK",
        "status=OK",
        "status=",
        "status=2000+OK",
        "status=200OK",
        "status=-20+OK",
        "status=200+O%0AK",
        "status=200+O%0DK",
        "status=200+O%00K",
        "status=200+OK%0D%0AX-Injected:+1",
        "status=099+Low",
        "status=101+Switching+Protocols",
        "status=103+Early+Hints",
        "kind=bytes",
        "kind=none",
        "kind=number",
    ]
    .into_iter()
    .enumerate()
    {
        let token = format!("status {number}");
        let response = SERVER.get(&format!(
            "/status?{query}&token={}",
            token.replace(' ', "+")
        ));
        check_is_500(&response);
        assert_eq!(response.header("X-Injected"), None, "{query}");
        let note = SERVER.probe.notes.wait_for(&format!("{token}: "));
        let known = ["ValueError", "TypeError", "AssertionError"];
        assert!(
            known.iter().any(|name| note.ends_with(name)),
            "{query}: {note}"
        );
    }
}

#[test]
fn a_header_that_could_inject_something_is_an_error_in_the_app() {
    for (number, query) in [
        "name=X-A&value=a%0D%0AX-Injected:+1",
        "name=X-A&value=a%0AX-Injected:+1",
        "name=X-A&value=a%0DX-Injected:+1",
        "name=X-A&value=a%00b",
        "name=X-A%0D%0AX-Injected&value=1",
        "name=X-A%0AX-Injected&value=1",
        "name=X%00A&value=1",
        "name=X-Injected:+1%0D%0AX&value=1",
        "name=&value=1",
        "name=X+A&value=1",
        "name=X-A:&value=1",
        "kind=tuple",
        "kind=generator",
        "kind=dict",
        "kind=none",
        "kind=triples",
        "kind=byte+name",
        "kind=byte+value",
        "kind=wide+value",
        "kind=number+value",
    ]
    .into_iter()
    .enumerate()
    {
        let token = format!("header {number}");
        let response = SERVER.get(&format!(
            "/header?{query}&token={}",
            token.replace(' ', "+")
        ));
        check_is_500(&response);
        assert_eq!(response.header("X-Injected"), None, "{query}");
        let note = SERVER.probe.notes.wait_for(&format!("{token}: "));
        let known = [
            "ValueError",
            "TypeError",
            "AssertionError",
            "UnicodeEncodeError",
        ];
        assert!(
            known.iter().any(|name| note.ends_with(name)),
            "{query}: {note}"
        );
    }
}

#[test]
fn header_values_of_latin_1_reach_the_wire_as_single_bytes() {
    let response = SERVER.get("/header?name=X-Name&value=caf%E9");
    assert_eq!(response.header("X-Name").as_deref(), Some("caf\u{e9}"));
}

#[test]
fn the_list_of_headers_is_left_as_the_app_made_it() {
    let server = alone("1");
    let mut connection = server.connect();
    for _ in 0..3 {
        assert_eq!(connection.exchange(get("/kept_list")).text(), "the same");
    }
}

#[test]
fn duplicate_response_headers_survive_in_order_and_names_keep_their_case() {
    let response = SERVER.get("/duplicates");
    assert_eq!(
        response.headers("Set-Cookie"),
        ["a=1; Path=/", "b=2, 3", "c=4"]
    );
    assert_eq!(
        response.headers("Link"),
        ["</a.css>; rel=preload", "</b.css>; rel=preload"]
    );
    let names: Vec<_> = response
        .fields()
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    for name in ["Set-Cookie", "X-CaSeD", "Link", "Content-Type"] {
        assert!(names.iter().any(|at| at == name), "{name} in {names:?}");
    }
}

#[test]
fn hop_by_hop_headers_of_the_app_are_not_sent() {
    let server = alone("1");
    for (name, value) in [
        ("Connection", "x-mine"),
        ("Keep-Alive", "timeout=1"),
        ("Proxy-Authenticate", "Basic"),
        ("Proxy-Authorization", "Basic"),
        ("TE", "trailers"),
        ("Trailer", "X-Late"),
        ("Trailers", "X-Late"),
        ("Transfer-Encoding", "gzip"),
        ("Upgrade", "h2c"),
    ] {
        let mut connection = server.connect();
        let response = connection.exchange(get(&format!("/hop_by_hop?name={name}&value={value}")));
        if response.status() == 200 {
            assert!(
                !response.headers(name).contains(&value.to_owned()),
                "{response:?}"
            );
            assert_eq!(response.text(), "ok", "{name}");
        } else {
            check_is_500(&response);
        }
        assert_eq!(connection.exchange(get("/")).text(), "hello", "{name}");
        server.stderr.wait_for(name);
    }
}

#[test]
fn date_and_server_are_added_only_if_absent() {
    let response = SERVER.get("/hop_by_hop");
    assert_eq!(response.headers("Date").len(), 1);
    assert_eq!(response.headers("Server"), ["pyserve"]);
    let date = "Thu,+01+Jan+1970+00:00:00+GMT";
    let response = SERVER.get(&format!("/hop_by_hop?name=Date&value={date}"));
    assert_eq!(response.headers("Date"), ["Thu, 01 Jan 1970 00:00:00 GMT"]);
    let response = SERVER.get("/hop_by_hop?name=Server&value=mine");
    assert_eq!(response.headers("Server"), ["mine"]);
}
