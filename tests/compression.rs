//! Compression of what the application answers: when, in which coding, with which head, and
//! that nothing waits in the encoder.

use std::io::Read;

use crate::support::raw::{Connection, Response, latin1};
use crate::support::server::{Pyserve, Server, request};

const ALL: &str = "gzip, deflate, br, zstd";

fn ask(server: &Server, target: &str, accepted: &str) -> Response {
    server.exchange(&request(
        "GET",
        target,
        &format!("Accept-Encoding: {accepted}\r\n"),
    ))
}

fn dressed() -> Server {
    Pyserve::app("dressed.py").ready()
}

/// What `dressed.py` sends.
fn text(bytes: usize) -> Vec<u8> {
    let line = b"{\"name\": \"value\", \"number\": 12345},\n";
    line.iter().copied().cycle().take(bytes).collect()
}

fn decoded(response: &Response) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoded = &response.body[..];
    match response.header("Content-Encoding").as_deref() {
        Some("gzip") => flate2::read::GzDecoder::new(encoded).read_to_end(&mut bytes),
        Some("br") => brotli::Decompressor::new(encoded, 4096).read_to_end(&mut bytes),
        Some("zstd") => zstd::stream::copy_decode(&mut encoded, &mut bytes).map(|()| 0),
        Some(other) => panic!("{other}"),
        None => encoded.read_to_end(&mut bytes),
    }
    .expect("it decodes");
    bytes
}

#[test]
fn the_client_gets_the_cheapest_coding_that_it_accepts_most() {
    let server = dressed();
    for (accepted, coding) in [
        (ALL, Some("zstd")),
        ("gzip, deflate, br", Some("br")),
        ("gzip", Some("gzip")),
        ("gzip;q=1, zstd;q=0.5", Some("gzip")),
        ("*", Some("zstd")),
        ("zstd;q=0, *", Some("br")),
        ("identity", None),
        ("deflate", None),
        ("identity;q=0, deflate", None),
    ] {
        for target in [
            "/",
            "/?bytes=100000",
            "/?pieces=3",
            "/?pieces=50&bytes=5000000&length=no",
        ] {
            let response = ask(&server, target, accepted);
            let shown = format!("{accepted} {target}");
            assert_eq!(
                response.header("Content-Encoding").as_deref(),
                coding,
                "{shown}"
            );
            assert_eq!(
                response.header("Vary").as_deref(),
                Some("Accept-Encoding"),
                "{shown}"
            );
            assert_eq!(response.broken, None, "{shown}");
            let size = target
                .split_once("bytes=")
                .map_or("2000", |(_, rest)| rest.split('&').next().unwrap());
            assert!(decoded(&response) == text(size.parse().unwrap()), "{shown}");
            assert!(coding.is_none() || response.body.len() < 60_000, "{shown}");
        }
    }
}

#[test]
fn what_must_not_be_compressed_is_left_alone() {
    let server = dressed();
    for (target, fields) in [
        ("/?bytes=1000", ""),
        ("/?Content_Type=image/png", ""),
        ("/?Content_Type=text/event-stream", ""),
        ("/?Content_Encoding=x-own", ""),
        ("/?Cache_Control=public,+no-transform", ""),
        ("/?Cache_Control=NO-TRANSFORM", ""),
        ("/?Content_Digest=sha-256=:AAAA:", ""),
        (
            "/?status=206+Partial+Content&Content_Range=bytes+0-1999/4000",
            "",
        ),
        ("/?status=204+No+Content", ""),
        ("/?status=304+Not+Modified", ""),
        ("/?Set_Cookie=session=1", ""),
        ("/", "Cookie: session=1\r\n"),
        ("/", "Authorization: Basic dTpw\r\n"),
    ] {
        let fields = format!("Accept-Encoding: {ALL}\r\n{fields}");
        let response = server.exchange(&request("GET", target, &fields));
        let coding = response.header("Content-Encoding");
        assert!(
            matches!(coding.as_deref(), None | Some("x-own")),
            "{target} {fields}"
        );
        let expected = if response.body.is_empty() {
            0
        } else {
            response.body.len()
        };
        assert!(response.body == text(expected), "{target}");
    }
    let off = Pyserve::app("dressed.py")
        .args(["--compress", "no"])
        .ready();
    let response = ask(&off, "/", ALL);
    assert_eq!(
        (response.header("Content-Encoding"), response.header("Vary")),
        (None, None)
    );
}

#[test]
fn settings_choose_codings_types_lengths_and_private_responses() {
    let check = |args: &[&str], target: &str, fields: &str, coding: Option<&str>| {
        let server = Pyserve::app("dressed.py").args(args).ready();
        let fields = format!("Accept-Encoding: {ALL}\r\n{fields}");
        let response = server.exchange(&request("GET", target, &fields));
        assert_eq!(
            response.header("Content-Encoding").as_deref(),
            coding,
            "{args:?}"
        );
    };
    check(&["--compress", "gzip,br"], "/", "", Some("br"));
    check(&["--compress-min", "3K"], "/", "", None);
    check(&["--compress-min", "100"], "/?bytes=200", "", Some("zstd"));
    check(&["--compress-types", "text/*"], "/", "", None);
    check(
        &["--compress-types", "image/png"],
        "/?Content_Type=image/png",
        "",
        Some("zstd"),
    );
    let private = ["--compress-private", "yes"];
    check(
        &private,
        "/?Set_Cookie=a=1",
        "Cookie: a=1\r\n",
        Some("zstd"),
    );
}

#[test]
fn the_head_is_that_of_the_encoded_form_and_the_same_for_head_requests() {
    let server = dressed();
    let target = "/?ETag=%22one%22&Vary=Cookie&Accept_Ranges=bytes&bytes=50000";
    let got = ask(&server, target, "gzip");
    let head = server.exchange(&request("HEAD", target, "Accept-Encoding: gzip\r\n"));
    for response in [&got, &head] {
        assert_eq!(response.header("ETag").as_deref(), Some("W/\"one\""));
        assert_eq!(response.headers("Vary"), ["Cookie", "Accept-Encoding"]);
        assert_eq!(response.header("Content-Encoding").as_deref(), Some("gzip"));
        assert_eq!(response.header("Accept-Ranges"), None);
    }
    // A whole body's length is known again; a HEAD would have to make it.
    assert_eq!(head.header("Content-Length"), None);
    let small = ask(&server, "/?ETag=W/%22two%22&Vary=*", "gzip");
    assert_eq!(
        small.header("Content-Length"),
        Some(small.body.len().to_string())
    );
    assert_eq!(small.header("ETag").as_deref(), Some("W/\"two\""));
    assert_eq!(small.headers("Vary"), ["*"]);
    let other = ask(&server, target, "identity");
    assert_eq!(other.header("ETag").as_deref(), Some("\"one\""));
    assert_eq!(other.header("Content-Length").as_deref(), Some("50000"));
}

#[test]
fn a_head_request_is_answered_as_the_get_would_be() {
    let server = Pyserve::app("dressed.py")
        .args(["--compress-min", "2"])
        .ready();
    let fields = |method: &str, target: &str| {
        let response = server.exchange(&request(method, target, "Accept-Encoding: gzip\r\n"));
        let mut fields = response.fields();
        // Values of these are known when the content is made; `Transfer-Encoding` is its own.
        const OF_THE_CONTENT: [&str; 4] = [
            "Content-Length",
            "Transfer-Encoding",
            "Date",
            "X-Request-Id",
        ];
        fields.retain(|(name, _)| !OF_THE_CONTENT.contains(&&**name));
        fields.sort();
        fields
    };
    for (target, coding) in [
        ("/?ETag=%22one%22", Some("gzip")),
        // Longer by gzip than without.
        ("/?bytes=5", Some("gzip")),
        ("/?bytes=1", None),
        ("/?bytes=50000&pieces=3", Some("gzip")),
        ("/?Content_Type=image/png", None),
        ("/?Cache_Control=no-transform", None),
    ] {
        let (get, head) = (fields("GET", target), fields("HEAD", target));
        let said = get.iter().find(|(name, _)| name == "Content-Encoding");
        assert_eq!(said.map(|(_, value)| &**value), coding, "{target}");
        assert_eq!(get, head, "{target}");
    }
    // Whether these are long enough nobody says before they are made.
    for target in ["/?bytes=1&pieces=1&length=no", "/?pieces=3&length=no"] {
        let target = format!("{target}&ETag=%22one%22");
        let (get, mut head) = (fields("GET", &target), fields("HEAD", &target));
        let vary = ("Vary".to_owned(), "Accept-Encoding".to_owned());
        assert!(get.contains(&vary), "{target}: {get:?}");
        let weak = ("ETag".to_owned(), "W/\"one\"".to_owned());
        let tag = head.iter().position(|field| *field == weak);
        head.remove(tag.expect("one that holds for both forms"));
        assert!(head.iter().all(|field| get.contains(field)), "{head:?}");
    }
}

#[test]
fn a_304_says_what_the_200_would_say() {
    let server = dressed();
    let check = |query: &str, fields: &str, vary: &[&str], tag: &str| {
        let fields = format!("Accept-Encoding: {ALL}\r\n{fields}");
        let answered = |status: &str| {
            let target = format!("/?status={status}&ETag=%22one%22{query}");
            let response = server.exchange(&request("GET", &target, &fields));
            assert_eq!(response.headers("Vary"), vary, "{target} {fields}");
            response
        };
        answered("200+OK");
        let response = answered("304+Not+Modified");
        assert_eq!(response.header("ETag").as_deref(), Some(tag), "{query}");
        assert_eq!(response.header("Content-Encoding"), None);
    };
    let varies = &["Accept-Encoding"][..];
    // The tag is that of the form which the client holds.
    check(
        "",
        "If-None-Match: \"o\", W/\"one\"\r\n",
        varies,
        "W/\"one\"",
    );
    check("", "If-None-Match: \"one\"\r\n", varies, "\"one\"");
    check(
        "&Vary=Cookie",
        "",
        &["Cookie", "Accept-Encoding"],
        "\"one\"",
    );
    check("&Vary=*", "", &["*"], "\"one\"");
    let weak = "If-None-Match: W/\"one\"\r\n";
    check("&Content_Type=image/png", weak, &[], "\"one\"");
    check("&Cache_Control=no-transform", weak, &[], "\"one\"");
    check("&Set_Cookie=a=1", weak, &[], "\"one\"");
    let private = format!("{weak}Cookie: a=1\r\n");
    check("", &private, &[], "\"one\"");

    // As frameworks send it: without a type, or with the length of no content.
    for query in ["type=no", "type=no&Content_Length=0", "Content_Length=0"] {
        let target = format!("/?status=304+Not+Modified&{query}");
        let response = ask(&server, &target, "identity");
        assert_eq!(response.headers("Vary"), varies, "{query}");
    }
    let target = "/?status=304+Not+Modified&Content_Length=5";
    assert_eq!(ask(&server, target, ALL).header("Vary"), None);
}

#[test]
fn what_the_application_has_given_goes_out_whenever_it_pauses() {
    let server = Pyserve::app("events.py")
        .args(["--compress-types", "text/event-stream"])
        .args(["--access-log", "combined"])
        .ready();
    for (turn, coding) in ["zstd", "br", "gzip"].into_iter().enumerate() {
        let mut client = server.connect();
        client.send(request(
            "GET",
            "/",
            &format!("Accept-Encoding: {coding}\r\n"),
        ));
        server.probe.held("before event 0").release();
        let head = client.response_to_head();
        assert_eq!(head.header("Content-Encoding").as_deref(), Some(coding));
        let mut encoded = Vec::new();
        for number in 0..3 {
            // The next one is not made before this one has been decoded.
            let held = server.probe.held(&format!("before event {}", number + 1));
            let event = format!("data: event {number}\n\n");
            read_until(&mut client, coding, &mut encoded, &event);
            held.release();
        }
        let held = server.probe.held("before event 4");
        drop(client);
        server.stdout.wait_for_nth(" 499 ", turn + 1);
        held.release();
        let noted = server.probe.notes.wait_for_nth("closed after", turn + 1);
        assert_eq!(noted, "closed after 5", "one event is made for nobody");
    }
}

/// Reads chunks until what they decode to ends so.
fn read_until(client: &mut Connection, coding: &str, encoded: &mut Vec<u8>, end: &str) {
    loop {
        let mut bytes = Vec::new();
        // The stream goes on, so each decoder misses its end.
        let _unfinished = match coding {
            "gzip" => flate2::read::GzDecoder::new(&encoded[..]).read_to_end(&mut bytes),
            "br" => brotli::Decompressor::new(&encoded[..], 4096).read_to_end(&mut bytes),
            _ => zstd::stream::read::Decoder::new(&encoded[..])
                .and_then(|mut decoder| decoder.read_to_end(&mut bytes)),
        };
        if latin1(&bytes).ends_with(end) {
            return;
        }
        encoded.extend(client.chunk().expect("more comes"));
    }
}

#[test]
fn a_response_that_breaks_off_breaks_its_encoded_form() {
    let server = Pyserve::app("long.py")
        .args(["--compress-types", "application/octet-stream"])
        .ready();
    let response = ask(&server, "/?blocks=100&dies=50", "gzip");
    assert_eq!(response.header("Content-Encoding").as_deref(), Some("gzip"));
    assert!(response.broken.is_some());
}
