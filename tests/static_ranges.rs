//! Parts of files: what is asked for is sent, to the byte, and nothing that is not there.

use std::fs::File;
use std::os::unix::fs::FileExt;

use tempfile::TempDir;

use crate::support::raw::{End, Response};
use crate::support::server::{self, Pyserve, Server, get};
use crate::support::{temp_dir, write_files};

const LARGE: usize = 3_000_001;

/// A small file, which is sent from memory, and a large one, which is sent from the disk.
fn site() -> TempDir {
    let dir = temp_dir();
    write_files(
        dir.path(),
        &[
            ("static/ten.txt", "0123456789"),
            ("static/one.txt", "x"),
            ("static/empty.txt", ""),
        ],
    );
    std::fs::write(dir.path().join("static/large.bin"), numbered(LARGE)).unwrap();
    dir
}

fn numbered(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at % 251) as u8).collect()
}

fn server(site: &TempDir) -> Server {
    Pyserve::new()
        .current_dir(site.path())
        .args(["--static-check", "0"])
        .ready()
}

fn request(target: &str, lines: &[&str]) -> String {
    let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
    server::request("GET", target, &lines)
}

#[test]
fn one_range_is_that_part_of_the_file() {
    let site = site();
    let server = server(&site);
    let mut connection = server.connect();
    let content = numbered(LARGE);
    for (range, first, last) in [
        ("0-0", 0, 0),
        ("0-99", 0, 99),
        ("1000-70000", 1000, 70_000),
        ("100000-2999999", 100_000, 2_999_999),
        ("3000000-", LARGE - 1, LARGE - 1),
        ("2000000-", 2_000_000, LARGE - 1),
        ("2999990-9999999999999999999999", 2_999_990, LARGE - 1),
        ("-1", LARGE - 1, LARGE - 1),
        ("-1000000", LARGE - 1_000_000, LARGE - 1),
        ("-99999999", 0, LARGE - 1),
        ("0-", 0, LARGE - 1),
    ] {
        let line = format!("Range: bytes={range}");
        let response = connection.exchange(request("/static/large.bin", &[&line]));
        assert_eq!(response.status(), 206, "{range}: {response:?}");
        let expected = format!("bytes {first}-{last}/{LARGE}");
        assert_eq!(response.header("Content-Range"), Some(expected), "{range}");
        let length = (last - first + 1).to_string();
        assert_eq!(response.header("Content-Length"), Some(length), "{range}");
        assert!(response.body == content[first..=last], "{range}");
        assert!(response.header("ETag").is_some());
        assert_eq!(response.header("Accept-Ranges").as_deref(), Some("bytes"));
    }
    let response = connection.exchange(request("/static/ten.txt", &["Range: bytes=2-4"]));
    assert_eq!(response.text(), "234");
    let kind = response.header("Content-Type");
    assert_eq!(kind.as_deref(), Some("text/plain; charset=utf-8"));
    let whole = connection.exchange(get("/static/ten.txt"));
    assert_eq!(whole.header("Accept-Ranges").as_deref(), Some("bytes"));
    assert_eq!(whole.header("Content-Range"), None);
}

#[test]
fn several_ranges_are_parts_of_one_body() {
    let site = site();
    let server = server(&site);
    let mut connection = server.connect();
    let content = numbered(LARGE);
    let check = |response: Response, expected: &[(usize, usize)]| {
        assert_eq!(response.status(), 206, "{response:?}");
        assert_eq!(response.broken, None);
        assert_eq!(response.header("Content-Range"), None);
        let parts = response.byte_ranges();
        assert_eq!(parts.len(), expected.len());
        for ((range, bytes), (first, last)) in parts.into_iter().zip(expected) {
            assert_eq!(range, format!("bytes {first}-{last}/{LARGE}"));
            assert!(bytes == content[*first..=*last], "{range}");
        }
    };
    let ranges = "Range: bytes=0-9, 500000-1500000 ,-5";
    let response = connection.exchange(request("/static/large.bin", &[ranges]));
    check(
        response,
        &[(0, 9), (500_000, 1_500_000), (LARGE - 5, LARGE - 1)],
    );
    let backwards = "Range: bytes=100-109,0-9";
    let response = connection.exchange(request("/static/large.bin", &[backwards]));
    check(response, &[(100, 109), (0, 9)]);

    let response = connection.exchange(request("/static/ten.txt", &["Range: bytes=0-1,8-"]));
    let texts: Vec<_> = response
        .byte_ranges()
        .into_iter()
        .map(|(range, bytes)| (range, String::from_utf8(bytes).unwrap()))
        .collect();
    let part = |range: &str, text: &str| (range.to_owned(), text.to_owned());
    assert_eq!(
        texts,
        [part("bytes 0-1/10", "01"), part("bytes 8-9/10", "89")]
    );
    // What overlaps is sent once, and one range alone needs no parts.
    let response = connection.exchange(request("/static/ten.txt", &["Range: bytes=0-5,3-7"]));
    assert_eq!(response.text(), "01234567");
    let range = response.header("Content-Range");
    assert_eq!(range.as_deref(), Some("bytes 0-7/10"));
}

#[test]
fn a_range_that_is_not_there_is_416_with_the_length() {
    let site = site();
    let server = server(&site);
    let mut connection = server.connect();
    for (target, range, length) in [
        ("/static/ten.txt", "10-", 10),
        ("/static/ten.txt", "10-20,30-", 10),
        ("/static/ten.txt", "-0", 10),
        ("/static/ten.txt", "99999999999999999999-", 10),
        ("/static/empty.txt", "0-", 0),
        ("/static/large.bin", "3000001-", LARGE),
    ] {
        let line = format!("Range: bytes={range}");
        let response = connection.exchange(request(target, &[&line]));
        assert_eq!(response.status(), 416, "{target} {range}");
        let expected = format!("bytes */{length}");
        assert_eq!(response.header("Content-Range"), Some(expected), "{range}");
    }
}

#[test]
fn what_is_no_range_is_answered_with_the_whole_file() {
    let site = site();
    let server = server(&site);
    let mut connection = server.connect();
    let many: Vec<_> = (0..10_000)
        .map(|at| format!("{}-{}", at * 3, at * 3))
        .collect();
    let many = format!("bytes={}", many.join(","));
    let same = format!("bytes={}0-", "0-,".repeat(9_999));
    for range in [
        "bytes=5-2",
        "bytes=a-b",
        "bytes=",
        "bytes",
        "lines=0-1",
        "bytes=--1",
        "bytes=0-1-2",
        &same,
    ] {
        let line = format!("Range: {range}");
        let response = connection.exchange(request("/static/ten.txt", &[&line]));
        assert_eq!(response.status(), 200, "{range:.60}");
        assert_eq!(response.text(), "0123456789", "{range:.60}");
    }
    // Longer than a head may be; the connection ends, the server does not.
    let mut other = server.connect();
    let response = other.exchange(request("/static/large.bin", &[&format!("Range: {many}")]));
    assert!(
        matches!(response.status(), 200 | 431),
        "{}",
        response.status()
    );
    let head = "HEAD /static/ten.txt HTTP/1.1\r\nHost: localhost\r\nRange: bytes=0-1\r\n\r\n";
    let response = connection.exchange(head);
    assert_eq!(response.status(), 200, "RFC 9110 §14.2: for GET alone");
    assert_eq!(response.header("Content-Length").as_deref(), Some("10"));
    let response = connection.exchange(request("/static/empty.txt", &["Range: bytes=-5"]));
    assert_eq!((response.status(), response.text().as_str()), (200, ""));
}

#[test]
fn conditions_come_before_ranges() {
    let site = site();
    let server = server(&site);
    let mut connection = server.connect();
    let first = connection.exchange(get("/static/ten.txt"));
    let (tag, date) = (
        first.header("ETag").unwrap(),
        first.header("Last-Modified").unwrap(),
    );
    let range = "Range: bytes=0-1";
    for (line, status, text) in [
        (format!("If-Range: {tag}"), 206, "01"),
        (format!("If-Range: {date}"), 206, "01"),
        (format!("If-Range: W/{tag}"), 200, "0123456789"),
        ("If-Range: \"other\"".into(), 200, "0123456789"),
        (
            "If-Range: Thu, 01 Jan 1970 00:00:00 GMT".into(),
            200,
            "0123456789",
        ),
        ("If-Range: nonsense".into(), 200, "0123456789"),
        (format!("If-None-Match: {tag}"), 304, ""),
        (format!("If-Modified-Since: {date}"), 304, ""),
        (format!("If-Match: {tag}"), 206, "01"),
        (format!("If-Unmodified-Since: {date}"), 206, "01"),
    ] {
        let response = connection.exchange(request("/static/ten.txt", &[range, &line]));
        assert_eq!(response.status(), status, "{line}");
        assert_eq!(response.text(), text, "{line}");
    }
    for line in [
        "If-Match: \"other\"",
        "If-Unmodified-Since: Thu, 01 Jan 1970 00:00:00 GMT",
    ] {
        let response = connection.exchange(request("/static/ten.txt", &[range, line]));
        assert_eq!(response.status(), 412, "{line}");
    }
    // A download that goes on after the file has changed begins again.
    std::fs::write(site.path().join("static/ten.txt"), "ABCDEFGHIJ").unwrap();
    let line = format!("If-Range: {tag}");
    let response = connection.exchange(request("/static/ten.txt", &["Range: bytes=5-", &line]));
    assert_eq!(
        (response.status(), response.text().as_str()),
        (200, "ABCDEFGHIJ")
    );
}

#[test]
fn files_over_four_gib_are_addressed_in_full() {
    let site = site();
    let length = (5 << 30) + 3_u64;
    let file = File::create(site.path().join("static/huge.bin")).unwrap();
    file.set_len(length).unwrap();
    file.write_all_at(b"end", length - 3).unwrap();
    file.write_all_at(b"mid", 1 << 32).unwrap();
    let server = server(&site);
    let mut connection = server.connect();
    let head = connection.exchange("HEAD /static/huge.bin HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(head.header("Content-Length"), Some(length.to_string()));
    for (range, text) in [("-3", "end"), ("4294967296-4294967298", "mid")] {
        let line = format!("Range: bytes={range}");
        let response = connection.exchange(request("/static/huge.bin", &[&line]));
        assert_eq!((response.status(), response.text().as_str()), (206, text));
    }
    let both = "Range: bytes=4294967296-4294967298,-3";
    let response = connection.exchange(request("/static/huge.bin", &[both]));
    let bytes: Vec<_> = response
        .byte_ranges()
        .into_iter()
        .map(|part| part.1)
        .collect();
    assert_eq!(bytes, [b"mid", b"end"]);
}

#[test]
fn a_file_that_shrinks_inside_the_parts_breaks_the_transfer() {
    let site = site();
    let path = site.path().join("static/huge.bin");
    File::create(&path).unwrap().set_len(64 << 20).unwrap();
    let server = server(&site);
    let mut connection = server.connect();
    connection.send(request(
        "/static/huge.bin",
        &["Range: bytes=0-9,100-60000000"],
    ));
    let head = connection.response_to_head();
    let length: usize = head.header("Content-Length").unwrap().parse().unwrap();
    File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(1000)
        .unwrap();
    let (body, end) = connection.rest();
    assert!(body.len() < length, "{} of {length}", body.len());
    assert_ne!(end, End::TimedOut);
    assert_eq!(server.get("/static/ten.txt").status(), 200);
}
