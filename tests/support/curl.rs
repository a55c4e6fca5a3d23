//! curl as a client of HTTP/2: nghttp2 refuses what RFC 9113 calls malformed.

use std::path::Path;
use std::process::Command;

use super::raw::Response;
use super::server::Server;
use super::{DEADLINE, skipped};

/// The result of a request.
#[derive(Debug)]
pub struct Got {
    /// Head and body; the status line is that of HTTP/2.
    pub response: Response,
    /// curl's exit code: 0 if the response was whole and well-formed, 18 and 92 if not.
    pub code: i32,
}

/// Asks over HTTP/2 with prior knowledge. `None`, and a line, where curl cannot.
pub fn http2(server: &Server, target: &str, args: &[&str]) -> Option<Got> {
    let url = format!("http://127.0.0.1:{}{target}", server.port());
    let ran = Command::new("curl")
        .args([
            "--silent",
            "--include",
            "--http2-prior-knowledge",
            "--max-time",
        ])
        .arg(DEADLINE.as_secs().to_string())
        .args(args)
        .arg(url)
        .current_dir(Path::new("/"))
        .output();
    let output = match ran {
        Ok(output) => output,
        Err(error) => {
            skipped("requests of curl", &error.to_string());
            return None;
        }
    };
    let code = output.status.code().unwrap_or(-1);
    if code == 2 || code == 4 {
        skipped(
            "requests of curl over HTTP/2",
            "this curl was built without it",
        );
        return None;
    }
    let mut head = output.stdout;
    let end = head.windows(4).position(|at| at == b"\r\n\r\n");
    let body = head.split_off(end.map_or(head.len(), |at| at + 4));
    // "HTTP/2 200 " is a byte shorter than a status line of HTTP/1.
    let head = match head.strip_prefix(b"HTTP/2 ") {
        Some(rest) => [b"HTTP/2.0 ", rest].concat(),
        None => head,
    };
    let response = Response {
        head,
        body,
        broken: None,
    };
    Some(Got { response, code })
}
