//! Real clients of HTTP/2, with dynamic tables and Huffman codes of their own, on connections
//! whose header blocks are written again.

use std::process::{Command, Stdio};

use crate::support::provision;
use crate::support::server::{Pyserve, Server};
use crate::support::skipped;

fn said(program: &str, args: &[&str]) -> String {
    let run = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .output()
        .expect("a program that was provisioned");
    let errors = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "{program} {args:?}: {errors}");
    String::from_utf8_lossy(&run.stdout).into_owned()
}

fn url(server: &Server, target: &str) -> String {
    format!("http://127.0.0.1:{}{target}", server.port())
}

#[test]
fn nghttp_is_served_on_one_connection_behind_a_target_that_is_no_uri() {
    if let Err(why) = provision::debian(&["nghttp2-client"]) {
        return skipped("nghttp", &why);
    }
    let server = Pyserve::app("every.py").ready();
    let urls = [
        url(&server, "/environ?q=first"),
        url(&server, "/environ?q={a|b}"),
        url(&server, "/environ?q=plain"),
        url(&server, "/environ?q=last"),
    ];
    let mut args = vec!["-H", "x-kept: in the dynamic table"];
    args.extend(urls.iter().map(String::as_str));
    let said = said("nghttp", &args);
    let environs = serde_json::Deserializer::from_str(&said).into_iter::<serde_json::Value>();
    let mut queries: Vec<String> = environs
        .map(|environ| {
            let entries = &environ.expect("an environ")["entries"];
            assert_eq!(entries["HTTP_X_KEPT"][1], "in the dynamic table");
            entries["QUERY_STRING"][1].as_str().unwrap().to_owned()
        })
        .collect();
    queries.sort();
    let encoded = "q=%7Ba%7Cb%7D";
    assert_eq!(queries, [encoded, "q=first", "q=last", "q=plain"]);
}

#[test]
fn an_upgrade_to_http2_is_ignored() {
    // RFC 9113 §3.1 has no such upgrade any more; RFC 9110 §7.8 lets a server ignore any.
    let server = Pyserve::app("every.py").ready();
    let asked = "GET /hello HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade, HTTP2-Settings\r\n\
                 Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n";
    let response = server.exchange(asked);
    assert_eq!(
        (response.status(), response.text()),
        (200, "hello".to_owned())
    );
}

#[test]
fn h2load_is_served_whether_its_header_blocks_pass_or_are_written_again() {
    if let Err(why) = provision::debian(&["nghttp2-client"]) {
        return skipped("h2load", &why);
    }
    let server = Pyserve::app("every.py").ready();
    for target in ["/hello", "/hello?q=|"] {
        let url = url(&server, target);
        let said = said(
            "h2load",
            &[
                "-n",
                "600",
                "-c",
                "3",
                "-m",
                "32",
                "-H",
                "x-kept: yes",
                &url,
            ],
        );
        assert!(said.contains("600 succeeded, 0 failed"), "{said}");
        assert!(said.contains("600 2xx"), "{said}");
    }
}
