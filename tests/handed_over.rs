//! `wsgi.file_wrapper` over a file on disk: the worker hands it over and is free.

use std::sync::LazyLock;

use crate::support::raw::Response;
use crate::support::server::{Pyserve, Server, get, request};

/// More than the front would keep in memory for a client that does not read.
const SIZE: usize = 24 << 20;

/// What the file of `handed_over.py` holds.
static CONTENT: LazyLock<Vec<u8>> = LazyLock::new(|| {
    (0..SIZE / 8)
        .flat_map(|number| format!("{number:07}\n").into_bytes())
        .collect()
});

fn server() -> Server {
    Pyserve::app("handed_over.py").ready()
}

#[test]
fn a_file_arrives_whole_from_where_it_stands_however_it_was_opened() {
    let server = server();
    for (query, from) in [
        ("how=plain", 0),
        ("how=raw", 0),
        ("how=tempfile", 0),
        ("how=gzip", 0),
        ("how=plain&seek=800001", 800_001),
        ("how=gzip&seek=5", 5),
    ] {
        let response = server.get(&format!("/?{query}"));
        assert_eq!(response.status(), 200, "{query}");
        assert!(response.body == CONTENT[from..], "{query}");
        server.probe.notes.wait_for("closed");
    }
}

#[test]
fn a_declared_length_cuts_the_file_and_a_longer_one_is_an_error() {
    let server = server();
    let response = server.get("/?length=1000000&seek=8");
    assert!(response.body == CONTENT[8..1_000_008]);
    let response = server.get(&format!("/?length={}", SIZE + 1));
    assert_eq!(response.status(), 500);
    server.stderr.wait_for("Content-Length");
}

#[test]
fn a_length_that_nobody_declared_is_found_out() {
    let server = server();
    let response = server.get("/?how=plain&seek=8");
    let length = (SIZE - 8).to_string();
    assert_eq!(response.header("Content-Length"), Some(length));
    let mut connection = server.connect();
    let head = connection.exchange("HEAD /?how=plain HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(head.header("Content-Length"), Some(SIZE.to_string()));
    assert!(head.body.is_empty());
}

#[test]
fn what_was_written_before_the_file_comes_first() {
    let server = server();
    let response = server.get("/?how=written");
    assert_eq!(&response.body[..7], b"before ");
    assert!(response.body[7..] == CONTENT[..]);
}

#[test]
fn a_download_to_a_client_that_does_not_read_costs_no_worker() {
    let server = server();
    let mut slow: Vec<_> = (0..3).map(|_| server.connect()).collect();
    for connection in &mut slow {
        connection.send(get("/?how=plain"));
    }
    // The one worker thread has closed all three files and answers others, while nobody
    // has read a byte of them.
    server.probe.notes.wait_for_nth("closed", 3);
    assert_eq!(server.get("/?how=small").text(), "small");
    for connection in &mut slow {
        assert!(connection.response().body == CONTENT[..]);
    }
}

#[test]
fn a_download_can_be_continued_and_is_not_repeated() {
    let server = server();
    let ask =
        |query: &str, lines: &str| server.exchange(&request("GET", &format!("/?{query}"), lines));
    let whole = ask("how=plain", "");
    assert_eq!(whole.header("Accept-Ranges").as_deref(), Some("bytes"));
    let tag = whole.header("ETag").expect("the file's own validator");
    let rest = ask(
        "how=plain",
        &format!("Range: bytes=8000000-\r\nIf-Range: {tag}\r\n"),
    );
    assert_eq!(rest.status(), 206);
    let declared = format!("bytes 8000000-{}/{SIZE}", SIZE - 1);
    assert_eq!(rest.header("Content-Range"), Some(declared));
    assert!(rest.body == CONTENT[8_000_000..]);
    let known = ask("how=plain", &format!("If-None-Match: {tag}\r\n"));
    assert_eq!((known.status(), known.body.len()), (304, 0));
    let beyond = ask("how=plain", &format!("Range: bytes={SIZE}-\r\n"));
    assert_eq!(beyond.status(), 416);
    let several = ask("how=plain&seek=8", "Range: bytes=0-7,8000000-9999999\r\n");
    let several = several.byte_ranges();
    assert!(several[0].1 == CONTENT[8..16]);
    assert!(several[1].1 == CONTENT[8_000_008..10_000_008]);
    let other = ask("how=plain", "Range: bytes=0-9\r\nIf-Range: \"other\"\r\n");
    assert_eq!(other.status(), 200);
    assert!(other.body == CONTENT[..]);
}

#[test]
fn a_part_of_a_file_gets_no_validators_but_ranges_within_it() {
    let server = server();
    let request = "GET /?how=plain&seek=8 HTTP/1.1\r\nHost: localhost\r\nRange: bytes=0-7\r\n\r\n";
    let response = server.exchange(request);
    assert_eq!(response.status(), 206);
    assert_eq!(response.header("ETag"), None);
    assert!(response.body == CONTENT[8..16]);
}

/// RFC 9110 §13, §14: validators, conditions and ranges do not depend on the length of the file.
#[test]
fn a_short_file_has_the_validators_conditions_and_ranges_of_a_long_one() {
    let server = server();
    // Around 64 KiB, up to which it is read at once.
    for size in [16, 65_536, 65_537] {
        let target = format!("/?size={size}");
        let ask = |method: &str, lines: &str| server.exchange(&request(method, &target, lines));
        let whole = ask("GET", "");
        assert_eq!(whole.status(), 200, "{size}");
        assert!(whole.body == CONTENT[..size], "{size}");
        assert_eq!(whole.header("Accept-Ranges").as_deref(), Some("bytes"));
        let tag = whole.header("ETag").expect("the file's own validator");
        let date = whole.header("Last-Modified").expect("its time");
        let head = ask("HEAD", "");
        for name in [
            "ETag",
            "Last-Modified",
            "Content-Length",
            "Accept-Ranges",
            "Content-Type",
        ] {
            assert_eq!(head.header(name), whole.header(name), "{size} {name}");
        }
        for held in [
            format!("If-None-Match: {tag}\r\n"),
            format!("If-Modified-Since: {date}\r\n"),
        ] {
            for method in ["GET", "HEAD"] {
                let known = ask(method, &held);
                assert_eq!(
                    (known.status(), known.body.len()),
                    (304, 0),
                    "{size} {held}"
                );
                assert_eq!(known.header("ETag").as_ref(), Some(&tag), "{size}");
            }
        }
        assert_eq!(ask("GET", "If-Match: \"other\"\r\n").status(), 412);
        let rest = ask("GET", &format!("Range: bytes=8-\r\nIf-Range: {tag}\r\n"));
        assert_eq!(rest.status(), 206, "{size}");
        let range = format!("bytes 8-{}/{size}", size - 1);
        assert_eq!(rest.header("Content-Range"), Some(range));
        assert!(rest.body == CONTENT[8..size], "{size}");
        let several = ask("GET", "Range: bytes=0-1,6-9\r\n").byte_ranges();
        assert!(several[0].1 == CONTENT[..2] && several[1].1 == CONTENT[6..10]);
        let beyond = ask("GET", &format!("Range: bytes={size}-\r\n"));
        assert_eq!(beyond.status(), 416, "{size}");
        server.probe.notes.wait_for("closed");
    }
    // From where it stands, it is a part of the file: ranges, but no validators.
    let part = server.exchange(&request("GET", "/?size=16&seek=8", "Range: bytes=0-3\r\n"));
    assert_eq!((part.status(), part.header("ETag")), (206, None));
    assert!(part.body == CONTENT[8..12]);
}

/// A short file is compressed as other responses are, and revalidated by the tag that it had then.
#[test]
fn a_short_file_of_text_is_still_compressed() {
    let server = server();
    let target = "/?size=20000&type=text/plain";
    let gzip = "Accept-Encoding: gzip\r\n";
    let ask = |lines: &str| server.exchange(&request("GET", target, lines));
    let (plain, packed) = (ask(""), ask(gzip));
    assert_eq!(packed.header("Content-Encoding").as_deref(), Some("gzip"));
    let (strong, weak) = (
        plain.header("ETag").unwrap(),
        packed.header("ETag").unwrap(),
    );
    assert_eq!(weak, format!("W/{strong}"));
    for response in [&plain, &packed] {
        assert_eq!(response.header("Vary").as_deref(), Some("Accept-Encoding"));
    }
    let known = ask(&format!("{gzip}If-None-Match: {weak}\r\n"));
    assert_eq!((known.status(), known.header("ETag")), (304, Some(weak)));
    let range = ask(&format!("{gzip}Range: bytes=8-15\r\n"));
    assert_eq!(
        (range.status(), range.header("Content-Encoding")),
        (206, None)
    );
    assert!(range.body == CONTENT[8..16]);
}

#[test]
fn a_head_has_the_fields_and_conditions_of_its_get() {
    let server = server();
    let ask = |method: &str, lines: &str| {
        let request = request(method, "/?how=plain", lines);
        server.exchange(&request)
    };
    let fields = |response: &Response| {
        let mut fields = response.fields();
        fields.retain(|(name, _)| !matches!(&**name, "Date" | "X-Request-Id"));
        (response.status(), fields)
    };
    let get = ask("GET", "");
    let tag = get.header("ETag").unwrap();
    let date = get.header("Last-Modified").unwrap();
    for lines in [
        String::new(),
        format!("If-None-Match: {tag}\r\n"),
        "If-None-Match: \"other\"\r\n".to_owned(),
        format!("If-Modified-Since: {date}\r\n"),
        format!("If-Match: {tag}\r\n"),
    ] {
        let (get, head) = (ask("GET", &lines), ask("HEAD", &lines));
        assert_eq!(fields(&head), fields(&get), "{lines}");
        assert!(head.body.is_empty());
    }
    assert_eq!(ask("HEAD", "If-Match: \"other\"\r\n").status(), 412);
    // RFC 9110 §14.2: a range is for GET.
    let ranged = ask("HEAD", "Range: bytes=0-9\r\n");
    assert_eq!(ranged.status(), 200);
    assert_eq!(ranged.header("Content-Length"), Some(SIZE.to_string()));
    assert_eq!(ranged.header("Content-Range"), None);
    let part = server.exchange(&request("HEAD", "/?how=plain&seek=8", ""));
    assert_eq!(part.header("Content-Length"), Some((SIZE - 8).to_string()));
    assert_eq!(part.header("ETag"), None);
}
