//! The pieces of the front that every request pays for, alone and in memory.
//!
//! `cargo bench --bench hot_paths`; whole requests: `whole_request.rs`; beside other servers: `compare.py`.

#![allow(clippy::disallowed_methods, reason = "a benchmark may block")]

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use http::header::{ETAG, HeaderName, IF_NONE_MATCH, RANGE};
use http::{HeaderMap, HeaderValue, Method, Request};
use pyserve::internals::context;
use pyserve::internals::context::{Client, Endpoints, RequestFacts};
use pyserve::internals::protocol::{forwarded, limits};
use pyserve::internals::request::environ;
use pyserve::internals::routing::origin::RequestedOrigin;
use pyserve::internals::sendfile::file_pool::FilePool;
use pyserve::internals::static_files::{Cache, Locations, StaticFiles};
use pyserve::internals::{StaticLocation, StaticSettings, Trust};
use pyserve_wire::frames::{self, ReplyKind};
use pyserve_wire::vars;

/// A browser's request, with ten fields.
fn browser() -> http::request::Parts {
    let request = Request::get("/blog/2026/november/?page=2&sort=new")
        .header("host", "www.example.org")
        .header(
            "user-agent",
            "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
        )
        .header(
            "accept",
            "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
        )
        .header("accept-language", "en-US,en;q=0.5")
        .header("accept-encoding", "gzip, deflate, br, zstd")
        .header("referer", "http://www.example.org/blog/")
        .header("connection", "keep-alive")
        .header(
            "cookie",
            "sessionid=6f3c1f0e8d4a4b0f9a3f; csrftoken=Zm9vYmFyYmF6",
        )
        .header("upgrade-insecure-requests", "1")
        .header("priority", "u=0, i");
    request.body(()).expect("a valid request").into_parts().0
}

fn environ_building(criterion: &mut Criterion) {
    let head = browser();
    let ends = Endpoints {
        peer: "203.0.113.9:51234".parse().ok(),
        local: "127.0.0.1:8000".parse().ok(),
        ..Endpoints::default()
    };
    let client = Client {
        host: "www.example.org".to_owned(),
        ..Client::direct(&ends)
    };
    let facts = RequestFacts {
        mount: "",
        path: head.uri.path(),
        ends: &ends,
        tls: None,
        client: &client,
        normal_path: false,
        request_id: "0123456789abcdef",
        body_length: None,
        variables: &[],
    };
    criterion.bench_function("environ of ten fields", |bencher| {
        bencher.iter(|| environ::build(black_box(&head), black_box(&facts)));
    });
    criterion.bench_function("check of a head", |bencher| {
        bencher.iter(|| limits::check(black_box(&head)));
    });
    criterion.bench_function("client of a request without forwarding fields", |bencher| {
        let (mut head, trust) = (browser(), Trust::default());
        bencher.iter(|| forwarded::resolve(black_box(&mut head.headers), None, &ends, &trust));
    });
    criterion.bench_function("request id", |bencher| {
        let headers = HeaderMap::new();
        bencher.iter(|| context::request_id(black_box(&headers), false));
    });
}

fn packets(criterion: &mut Criterion) {
    let mut fields = Vec::new();
    for (name, value) in [
        ("Content-Type", "text/html; charset=utf-8"),
        ("X-Frame-Options", "DENY"),
        ("Vary", "Cookie"),
    ] {
        vars::push(&mut fields, name.as_bytes(), value.as_bytes()).expect("short");
    }
    let head = frames::ReplyHeadFrame {
        status: 200,
        reason: b"OK",
        fields: &fields,
    };
    let mut payload = Vec::new();
    frames::push_head(&mut payload, &head).expect("short");
    let mut reply = Vec::new();
    criterion.bench_function("encode a reply of 4 KiB", |bencher| {
        let page = [b'x'; 4096];
        bencher.iter(|| {
            reply.clear();
            frames::push_reply(&mut reply, ReplyKind::Head, 1, 9, &payload);
            frames::push_reply(&mut reply, ReplyKind::Body, 1, 9, black_box(&page));
            frames::push_reply(&mut reply, ReplyKind::End, 1, 9, b"");
        });
    });
    criterion.bench_function("decode a reply of 4 KiB", |bencher| {
        bencher.iter(|| {
            let mut rest = black_box(&reply[..]);
            while let Ok(Some((frame, used))) = frames::read_reply(rest) {
                black_box(frame);
                rest = &rest[used..];
            }
        });
    });
}

fn router(criterion: &mut Criterion) {
    let prefixes = ["/static", "/css", "/js", "/images", "/media"]
        .map(|prefix| StaticLocation::new(prefix, "/srv"));
    let locations = Locations::new(prefixes).expect("valid prefixes");
    for (what, target) in [
        ("file", "/static/admin/css/base.css"),
        ("page", "/blog/2026/november/?page=2"),
    ] {
        criterion.bench_function(&format!("route a {what}"), |bencher| {
            bencher.iter(|| {
                locations
                    .find(black_box(target), RequestedOrigin::ANY)
                    .is_some()
            });
        });
    }
}

/// A whole answer of the static files, the file being in memory as it is at every request but
/// one in a second: path, negotiation, conditions, ranges, header fields.
fn static_files(criterion: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    std::fs::write(dir.path().join("base.css"), [b'x'; 1024]).expect("a file");
    let settings = StaticSettings {
        check: Duration::from_secs(3600),
        ..StaticSettings::default()
    };
    let locations = Locations::new([StaticLocation::new("/static", dir.path())]);
    let locations = locations.expect("a valid prefix");
    let cache = Cache::new(&settings);
    let files = StaticFiles::new(locations, settings, FilePool::default(), &cache);
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let runtime = runtime.expect("a runtime");
    let answer = |headers: &HeaderMap| {
        let (location, rest) = files
            .find("/static/base.css", RequestedOrigin::ANY)
            .expect("it has the prefix");
        let served = files.serve(location, rest, &Method::GET, headers);
        runtime.block_on(served).expect("it is there")
    };
    let first = answer(&HeaderMap::new());
    let etag = first.headers()[ETAG].clone();
    let of_browser = browser().headers;
    let with = |name: HeaderName, value: HeaderValue| {
        let mut headers = of_browser.clone();
        headers.insert(name, value);
        headers
    };
    for (what, headers) in [
        ("a file from memory", of_browser.clone()),
        ("a 304", with(IF_NONE_MATCH, etag)),
        (
            "one range",
            with(RANGE, HeaderValue::from_static("bytes=100-200")),
        ),
        (
            "three ranges",
            with(RANGE, HeaderValue::from_static("bytes=0-9,100-200,-5")),
        ),
    ] {
        criterion.bench_function(what, |bencher| {
            bencher.iter(|| answer(black_box(&headers)));
        });
    }
}

criterion_group!(benches, environ_building, packets, router, static_files);
criterion_main!(benches);
