//! Servers behind pyserve that accept and then fail: which requests the next one gets, and when
//! a failing one is left alone. nginx's rules: `proxy_next_upstream error timeout` (and
//! `invalid_header`) without `non_idempotent`; RFC 9110 §9.2.2 says which methods these are.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};

use crate::support::backend::{Backend, Call, page};
use crate::support::server::{Pyserve, Server, post, request};

/// Which protocol servers speak, over which sockets.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Http,
    Https,
    HttpUnix,
    Uwsgi,
}

/// A server, and how many connections brought it requests.
struct Behind {
    backend: Backend,
    calls: Arc<AtomicUsize>,
}

impl Behind {
    fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }
}

const KINDS: [Kind; 4] = [Kind::Http, Kind::Https, Kind::HttpUnix, Kind::Uwsgi];

impl Kind {
    fn backend(self, script: impl Fn(Call) + Send + Sync + 'static) -> Behind {
        let calls = Arc::<AtomicUsize>::default();
        let counted = Arc::clone(&calls);
        let script = move |call: Call| {
            if !(matches!(self, Self::Uwsgi) && call.is_question()) {
                counted.fetch_add(1, Ordering::SeqCst);
                script(call);
            }
        };
        let backend = match self {
            Self::Http => Backend::tcp(script),
            Self::Https => Backend::tls(script),
            Self::HttpUnix | Self::Uwsgi => Backend::unix(script),
        };
        Behind { backend, calls }
    }

    /// A server that answers every request with this page, behind reading it.
    fn saying(self, text: &'static str) -> Behind {
        self.backend(move |mut call| {
            while self.read(&mut call).is_some() {
                call.send(page(text));
                if matches!(self, Self::Uwsgi) {
                    return;
                }
            }
        })
    }

    /// Reads one request, and gives its body.
    fn read(self, call: &mut Call) -> Option<Vec<u8>> {
        match self {
            Self::Http | Self::Https | Self::HttpUnix => {
                let head = call.http_head()?;
                let length = head
                    .lines()
                    .find_map(|line| line.strip_prefix("Content-Length: "));
                Some(call.exactly(length.map_or(0, |digits| digits.parse().unwrap())))
            }
            Self::Uwsgi => {
                let packet = call.packet();
                Some(call.body(&packet))
            }
        }
    }

    fn before(self, backends: &[&Behind]) -> Pyserve {
        let mut pyserve = Pyserve::new().without("PYSERVE_PYTHON");
        for backend in backends {
            let backend = &backend.backend;
            let url = match self {
                Self::Uwsgi => format!("uwsgi+{}", backend.address()),
                Self::Http | Self::Https | Self::HttpUnix => backend.url(),
            };
            pyserve = pyserve.args(["--upstream", &url]);
        }
        let trust = backends.first().map(|behind| behind.backend.trust());
        pyserve = pyserve.args(trust.unwrap_or_default());
        pyserve
    }
}

/// Accepts, reads the request, and fails like this.
#[derive(Debug, Clone, Copy)]
enum Failing {
    /// Closes without a word.
    Closes,
    /// Closes with the request unread, which resets the connection.
    Resets,
    Garbage,
    /// Half of a head.
    HalfHead,
    /// A head, part of the body that it announces, and the end.
    HalfBody,
    /// No word at all.
    Silent,
}

const FAILING: [Failing; 6] = [
    Failing::Closes,
    Failing::Resets,
    Failing::Garbage,
    Failing::HalfHead,
    Failing::HalfBody,
    Failing::Silent,
];

fn failing(kind: Kind, how: Failing) -> Behind {
    kind.backend(move |mut call| {
        if let Failing::Resets = how {
            // The first byte alone has been read.
            return;
        }
        kind.read(&mut call);
        match how {
            Failing::Closes | Failing::Resets => {}
            Failing::Garbage => {
                call.send("\x16\x03\x01 this is no answer\r\n\r\n");
            }
            Failing::HalfHead => {
                call.send("HTTP/1.1 200 OK\r\nContent-Le");
            }
            Failing::HalfBody => {
                call.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf");
            }
            Failing::Silent => {
                call.rest();
            }
        }
    })
}

fn ready(pyserve: Pyserve) -> Server {
    pyserve.args(["--upstream-read-timeout", "200ms"]).ready()
}

#[test]
fn what_may_run_twice_goes_to_the_next_server_and_the_failing_one_is_left_alone() {
    for kind in KINDS {
        for how in FAILING {
            let (bad, good) = (failing(kind, how), kind.saying("good"));
            let server = ready(kind.before(&[&bad, &good]));
            for method in [
                "GET", "PUT", "DELETE", "OPTIONS", "GET", "GET", "GET", "GET",
            ] {
                let lines = if method == "PUT" {
                    "Content-Length: 5\r\n"
                } else {
                    ""
                };
                let body = if method == "PUT" { "hello" } else { "" };
                let request = request(method, "/", lines) + body;
                let response = server.exchange(&request);
                // The half of a body may have left by the time its end was seen.
                if let (Failing::HalfBody, 200, false) =
                    (how, response.status(), response.broken.is_none())
                {
                    continue;
                }
                let got = (response.status(), response.text());
                assert_eq!(got, (200, "good".into()), "{kind:?} {how:?} {method}");
            }
            if !matches!(how, Failing::HalfBody) {
                server
                    .stderr
                    .wait_for("upstream server failed repeatedly: skipping it");
                assert_eq!(bad.calls(), 3, "{kind:?} {how:?}");
            }
        }
    }
}

#[test]
fn what_must_not_run_twice_is_sent_to_one_server_and_the_failing_one_is_left_alone() {
    for kind in KINDS {
        for how in [Failing::Closes, Failing::Resets, Failing::Garbage] {
            let (bad, good) = (failing(kind, how), kind.saying("good"));
            let server = ready(kind.before(&[&bad, &good]));
            let mut statuses = Vec::new();
            for number in 0..20 {
                let method = ["POST", "PATCH"][number % 2];
                let request = request(method, "/", "Content-Length: 5\r\n") + "hello";
                statuses.push(server.exchange(&request).status());
            }
            let failed = statuses.iter().filter(|status| **status == 502).count();
            assert_eq!(failed, 3, "{kind:?} {how:?}: {statuses:?}");
            assert_eq!((bad.calls(), good.calls()), (3, 17), "{kind:?} {how:?}");
        }
    }
}

#[test]
fn a_body_that_is_sent_again_is_the_whole_body() {
    let long = "0123456789".repeat(300_000);
    for kind in KINDS {
        let bad = failing(kind, Failing::Closes);
        let (sender, receiver) = channel();
        let sender = Mutex::new(sender);
        let good = kind.backend(move |mut call| {
            let body = kind.read(&mut call).unwrap();
            sender.lock().unwrap().send(body).unwrap();
            call.send(page("good"));
        });
        let server = ready(kind.before(&[&bad, &good]));
        for body in ["short", &long] {
            for _ in 0..2 {
                let head = request("PUT", "/", &format!("Content-Length: {}\r\n", body.len()));
                let response = server.exchange(&(head + body));
                assert_eq!(response.text(), "good", "{kind:?}");
                assert!(receiver.recv().unwrap() == body.as_bytes(), "{kind:?}");
            }
        }
        assert!(bad.calls() >= 1);
    }
}

#[test]
fn a_body_that_is_passed_on_while_it_arrives_is_not_sent_again() {
    let kind = Kind::Http;
    let (bad, good) = (failing(kind, Failing::Closes), kind.saying("good"));
    let server = ready(
        kind.before(&[&bad, &good])
            .args(["--request-buffering", "no"]),
    );
    let request = request("PUT", "/", "Content-Length: 5\r\n") + "hello";
    let statuses: Vec<_> = (0..10)
        .map(|_| server.exchange(&request).status())
        .collect();
    let failed = statuses.iter().filter(|status| **status == 502).count();
    assert_eq!(failed, 3, "{statuses:?}");
}

#[test]
fn where_all_fail_each_is_tried_once_and_the_last_failure_is_the_answer() {
    for kind in KINDS {
        let bad = [Failing::Closes, Failing::Garbage].map(|how| failing(kind, how));
        let server = ready(kind.before(&[&bad[0], &bad[1]]));
        // Also when both are left alone: a request is never refused without a try.
        for number in 1..=6 {
            assert_eq!(server.get("/").status(), 502, "{kind:?}");
            let calls = [bad[0].calls(), bad[1].calls()];
            assert_eq!(calls, [number, number], "{kind:?}");
        }
        server.stderr.wait_for_nth("skipping it", 2);
    }
}

#[test]
fn one_server_alone_is_never_left_alone() {
    for kind in KINDS {
        let bad = failing(kind, Failing::Closes);
        let server = ready(kind.before(&[&bad]));
        for number in 1..=8 {
            assert_eq!(server.get("/").status(), 502);
            assert_eq!(bad.calls(), number, "{kind:?}");
        }
    }
}

#[test]
fn a_server_that_fails_every_second_time_does_not_get_more_than_its_share() {
    // A broken worker among good ones: it fails at once, so that it has the fewest in flight.
    for kind in KINDS {
        let turn = AtomicUsize::new(0);
        let flaky = kind.backend(move |mut call| {
            kind.read(&mut call);
            if turn.fetch_add(1, Ordering::SeqCst) % 2 == 1 {
                call.send(page("flaky").replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n"));
            }
        });
        let good = kind.saying("good");
        let server = ready(kind.before(&[&flaky, &good]));
        for _ in 0..30 {
            let text = server.get("/").text();
            assert!(["flaky", "good"].contains(&&*text), "{kind:?} {text}");
        }
        server.stderr.wait_for("skipping it");
    }
}

#[test]
fn a_server_that_works_again_is_found_by_one_request() {
    let kind = Kind::Http;
    let broken = Arc::new(AtomicBool::new(true));
    let is_broken = Arc::clone(&broken);
    let mended = kind.backend(move |mut call| {
        while kind.read(&mut call).is_some() {
            if is_broken.load(Ordering::SeqCst) {
                return;
            }
            call.send(page("mended"));
        }
    });
    let good = kind.saying("good");
    let server = ready(kind.before(&[&mended, &good]));
    while server.stderr.count("skipping it") == 0 {
        assert_eq!(server.get("/").text(), "good");
    }
    broken.store(false, Ordering::SeqCst);
    // It is left alone for a second.
    while server.get("/").text() != "mended" {
        std::thread::yield_now();
    }
    server.stderr.wait_for("upstream server recovered");
}

#[test]
fn a_request_that_is_too_large_counts_against_no_server() {
    let kind = Kind::Uwsgi;
    // As uWSGI does with its usual buffer.
    let small = |text: &'static str| {
        kind.backend(move |mut call| {
            let header = call.exactly(4);
            let size = usize::from(u16::from_le_bytes([header[1], header[2]]));
            if size <= 4096 {
                call.exactly(size);
                call.send(page(text));
            }
        })
    };
    let (one, two) = (small("one"), small("two"));
    let server = ready(kind.before(&[&one, &two]));
    let with_cookie = |length: usize| {
        let cookie = "c".repeat(length);
        request("GET", "/", &format!("Cookie: {cookie}\r\n"))
    };
    for _ in 0..5 {
        assert_eq!(server.exchange(&with_cookie(6_000)).status(), 502);
        // Ours to refuse: the protocol cannot say it.
        let refused = server.exchange(&with_cookie(60_000).replace(
            "Cookie: ",
            &format!("X-A: {}\r\nCookie: ", "a".repeat(5_000)),
        ));
        assert!([431, 502].contains(&refused.status()), "{refused:?}");
    }
    assert_eq!(server.stderr.count("skipping it"), 0);
    let answers: Vec<_> = (0..4).map(|_| server.get("/").text()).collect();
    for text in ["one", "two"] {
        assert!(answers.iter().any(|answer| answer == text), "{answers:?}");
    }
}

#[test]
fn a_status_is_no_failure_and_no_reason_to_ask_another() {
    let kind = Kind::Http;
    let angry = kind.backend(move |mut call| {
        while kind.read(&mut call).is_some() {
            call.send("HTTP/1.1 503 Busy\r\nContent-Length: 5\r\n\r\nangry");
        }
    });
    let good = kind.saying("good");
    let server = ready(kind.before(&[&angry, &good]));
    let statuses: Vec<_> = (0..20).map(|_| server.get("/").status()).collect();
    let angry_ones = statuses.iter().filter(|status| **status == 503).count();
    assert_eq!(angry_ones, 10, "{statuses:?}");
    assert_eq!(server.exchange(&post("/", "x")).broken, None);
}
