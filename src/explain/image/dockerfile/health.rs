//! `HEALTHCHECK`: a check of a server that is not there any more becomes `pyserve health`.

use crate::config::foreign::Verdict;
use crate::explain::image::instructions::Instruction;

/// Words of checks that look for the servers themselves.
const OF_SERVERS: &[&str] = &[
    "supervisorctl",
    "service nginx",
    "pgrep",
    "pidof",
    "nginx -t",
    "uwsgi.sock",
];

/// The verdict of the instruction, where these ports are listened on, and its new lines.
pub fn of(instruction: &Instruction<'_>, ports: Option<&[u16]>) -> (Verdict, Option<Vec<String>>) {
    let text = &instruction.arguments;
    let Some(reason) = failure(text, ports) else {
        let note = match text.contains("curl") || text.contains("wget") {
            true => "it stays; `pyserve health` needs no curl",
            false => "it stays",
        };
        return (Verdict::Read(note.to_owned()), None);
    };
    let options = text
        .split_whitespace()
        .take_while(|word| word.starts_with("--"));
    let words = ["HEALTHCHECK"].into_iter().chain(options);
    let line = words.chain(["CMD [\"pyserve\", \"health\"]"]);
    let line = line.collect::<Vec<_>>().join(" ");
    let verdict = Verdict::Differs(format!(
        "`pyserve health`, since {reason}: it asks for the state of the workers, and requests no page"
    ));
    (verdict, Some(vec![line]))
}

/// The reason for which a check fails once pyserve listens on these ports.
pub fn failure(text: &str, ports: Option<&[u16]>) -> Option<String> {
    match (port(text), ports) {
        (Some(port), Some(ports)) if !ports.contains(&port) => {
            Some(format!("nothing listens on port {port} any more"))
        }
        _ => OF_SERVERS
            .iter()
            .find(|word| text.contains(**word))
            .map(|_| "the servers that it looks for are not there".to_owned()),
    }
}

/// The port of this machine that a check asks.
fn port(text: &str) -> Option<u16> {
    let hosts = ["localhost", "127.0.0.1", "0.0.0.0", "[::1]"];
    let found = hosts
        .iter()
        .find_map(|host| text.find(host).map(|at| &text[at + host.len()..]));
    let behind = found?;
    match behind.strip_prefix(':') {
        Some(port) => {
            let end = port
                .find(|c: char| !c.is_ascii_digit())
                .unwrap_or(port.len());
            port[..end].parse().ok()
        }
        None if text.contains("https://") => Some(443),
        None => text.contains("http://").then_some(80),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explain::image::instructions::instructions;

    #[test]
    fn a_check_of_a_port_that_is_not_there_becomes_one_of_pyserve() {
        let check = |text: &str, ports: Option<&[u16]>, expected: Option<&str>| {
            let text = format!("HEALTHCHECK {text}");
            let (_, after) = of(&instructions(&text)[0], ports);
            let after = after.map(|lines| lines.join("\n"));
            assert_eq!(after.as_deref(), expected, "{text}");
        };
        let ours = Some("HEALTHCHECK --timeout=3s CMD [\"pyserve\", \"health\"]");
        check(
            "--timeout=3s CMD curl -f http://localhost:8001/",
            Some(&[80]),
            ours,
        );
        check(
            "--timeout=3s CMD curl -f http://localhost:8001/",
            Some(&[8001]),
            None,
        );
        check(
            "--timeout=3s CMD curl -f http://localhost:8001/",
            None,
            None,
        );
        check(
            "--timeout=3s CMD curl -f http://localhost/",
            Some(&[80]),
            None,
        );
        check(
            "--timeout=3s CMD curl -f http://localhost:$PORT/",
            Some(&[80]),
            None,
        );
        check("--timeout=3s CMD supervisorctl status", None, ours);
        check("NONE", Some(&[80]), None);
    }
}
