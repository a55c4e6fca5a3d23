//! Responses that have no content, and what they say about its length: RFC 9110 §8.6 (never on a
//! 1xx or 204), §15.3.6 (205), §15.4.5 (304), RFC 9112 §6.1 (no Transfer-Encoding on a 204). Over
//! HTTP/2 a length without content is malformed (RFC 9113 §8.1.1).

use crate::support::backend::Backend;
use crate::support::curl;
use crate::support::server::{Pyserve, Server, request};
use crate::support::{temp_dir, write_files};

const STATUSES: [&str; 3] = ["204 No Content", "205 Reset Content", "304 Not Modified"];

/// Header fields about content that such answers were seen with, and the bytes behind them.
const CLAIMS: [(&str, &str); 5] = [
    ("", ""),
    ("Content-Length: 0", ""),
    ("Content-Length: 5", ""),
    ("Content-Length: 5", "hello"),
    ("Transfer-Encoding: chunked", "5\r\nhello\r\n0\r\n\r\n"),
];

/// Answers what the target says: `/STATUS/CLAIM`.
fn http() -> Backend {
    Backend::tcp(|mut call| {
        while let Some(head) = call.http_head() {
            call.send(answer(head.split(' ').nth(1).unwrap()));
        }
    })
}

fn uwsgi() -> Backend {
    Backend::unix(|mut call| {
        let packet = call.packet();
        call.send(answer(&packet.vars["REQUEST_URI"]));
    })
}

fn answer(target: &str) -> String {
    let mut numbers = target[1..]
        .split('/')
        .map(|part| part.parse::<usize>().unwrap());
    let status = STATUSES[numbers.next().unwrap()];
    let (claim, body) = CLAIMS[numbers.next().unwrap()];
    let line = if claim.is_empty() {
        String::new()
    } else {
        format!("{claim}\r\n")
    };
    format!(
        "HTTP/1.1 {status}\r\nConnection: close\r\nX-Kept: 1\r\nETag: \"x\"\r\n{line}\r\n{body}"
    )
}

const APPLICATION: &str = r#"
STATUSES = ["204 No Content", "205 Reset Content", "304 Not Modified"]

def application(environ, start_response):
    status, claim = map(int, environ["PATH_INFO"][1:].split("/"))
    headers = [("X-Kept", "1"), ("ETag", '"x"')]
    if claim in (1, 2, 3):
        headers.append(("Content-Length", "0" if claim == 1 else "5"))
    start_response(STATUSES[status], headers)
    return [b"hello"] if claim == 3 else []
"#;

fn check(server: &Server, claims: &[usize]) {
    let mut client = server.connect();
    for (number, status) in STATUSES.iter().enumerate() {
        let code: u16 = status[..3].parse().unwrap();
        for claim in claims {
            let target = format!("/{number}/{claim}");
            for method in ["GET", "HEAD"] {
                let what = format!("{method} {status} {:?}", CLAIMS[*claim]);
                // The connection stays in step: the next response begins where this one ends.
                let response = client.exchange(request(method, &target, ""));
                assert_eq!(response.status(), code, "{what}");
                assert_eq!(response.text(), "", "{what}");
                assert_eq!(response.header("X-Kept").as_deref(), Some("1"), "{what}");
                assert_eq!(response.header("Transfer-Encoding"), None, "{what}");
                let length = response.header("Content-Length");
                match (code, method) {
                    // RFC 9112 §6.3: a 205 has the framing of any other.
                    (205, "GET") => assert_eq!(length.as_deref(), Some("0"), "{what}"),
                    (205, _) => assert!(matches!(length.as_deref(), None | Some("0")), "{what}"),
                    _ => assert_eq!(length, None, "{what}"),
                }
            }
            let Some(got) = curl::http2(server, &target, &[]) else {
                continue;
            };
            let what = format!("HTTP/2 {status} {:?}", CLAIMS[*claim]);
            assert_eq!(
                (got.code, got.response.status()),
                (0, code),
                "{what}: {got:?}"
            );
            assert!(got.response.body.is_empty(), "{what}");
            if code != 205 {
                assert_eq!(got.response.header("Content-Length"), None, "{what}");
            }
        }
    }
}

#[test]
fn servers_of_http_may_say_what_they_like_about_content_that_is_not_there() {
    let backend = http();
    let url = format!("http://{}", backend.address());
    let server = Pyserve::new().args(["--upstream", &url]).ready();
    check(&server, &[0, 1, 2, 3, 4]);
}

#[test]
fn so_may_servers_of_uwsgi() {
    let backend = uwsgi();
    let server = Pyserve::new().args(["--uwsgi", backend.address()]).ready();
    check(&server, &[0, 1, 2, 3, 4]);
}

#[test]
fn so_may_applications() {
    let dir = temp_dir();
    write_files(dir.path(), &[("content.py", APPLICATION)]);
    let server = Pyserve::new()
        .args(["--app", "content.py", "--chdir"])
        .args([dir.path()])
        .ready();
    check(&server, &[0, 1]);
}

#[test]
fn a_head_has_the_length_that_its_get_would_have_and_nothing_else() {
    let backend = Backend::tcp(|mut call| {
        while call.http_head().is_some() {
            call.send("HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n");
        }
    });
    let url = format!("http://{}", backend.address());
    let server = Pyserve::new().args(["--upstream", &url]).ready();
    let response = server.exchange(&request("HEAD", "/", ""));
    assert_eq!(response.header("Content-Length").as_deref(), Some("5000"));
    let Some(got) = curl::http2(&server, "/", &["--head"]) else {
        return;
    };
    assert_eq!(got.code, 0, "{got:?}");
    assert_eq!(
        got.response.header("Content-Length").as_deref(),
        Some("5000")
    );
}

#[test]
fn what_may_be_bytes_behind_a_204_is_no_answer_to_the_next_request() {
    let backend = Backend::tcp(|mut call| {
        while call.http_head().is_some() {
            call.send("HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n");
        }
    });
    let url = format!("http://{}", backend.address());
    let server = Pyserve::new().args(["--upstream", &url]).ready();
    for calls in 1..4 {
        assert_eq!(server.get("/").status(), 204);
        assert_eq!(backend.calls(), calls);
    }
}

#[test]
fn an_application_cannot_answer_with_an_informational_status() {
    let dir = temp_dir();
    let text = "def application(environ, start_response):\n    \
                start_response(environ['PATH_INFO'][1:] + ' Odd', [('Upgrade', 'x')])\n    return []\n";
    write_files(dir.path(), &[("odd.py", text)]);
    let server = Pyserve::new()
        .args(["--app", "odd.py", "--chdir"])
        .args([dir.path()])
        .ready();
    for status in [100, 101, 103] {
        let response = server.get(&format!("/{status}"));
        assert!([500, 502].contains(&response.status()), "{response:?}");
        assert_eq!(server.get("/200").status(), 200);
    }
}
