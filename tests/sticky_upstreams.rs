//! Upstream servers that are chosen by the client's address (`balance = "address"`).

use std::collections::{BTreeMap, BTreeSet};

use crate::support::backend::{Backend, page};
use crate::support::server::{Pyserve, Server, request};
use crate::support::{temp_dir, write_files};

fn saying(name: &'static str) -> Backend {
    Backend::tcp(move |mut call| {
        while call.http_head().is_some() {
            call.send(page(name));
        }
    })
}

fn server(addresses: &[String], keys: &str) -> (Server, tempfile::TempDir) {
    let dir = temp_dir();
    let servers: Vec<_> = addresses
        .iter()
        .map(|at| format!("'http://{at}'"))
        .collect();
    let toml = format!(
        "trust = '127.0.0.1'\n{keys}\n[[location]]\nupstream = [{}]\nbalance = 'address'\n",
        servers.join(", ")
    );
    write_files(dir.path(), &[("pyserve.toml", &*toml)]);
    (Pyserve::new().current_dir(dir.path()).listening(), dir)
}

/// The server of each client.
fn answers(server: &Server) -> BTreeMap<u8, String> {
    let answer = |client: u8| {
        let lines = format!("X-Forwarded-For: 10.0.{client}.1\r\n");
        let response = server.exchange(&request("GET", "/", &lines));
        assert_eq!(response.status(), 200, "{response:?}");
        (client, response.text())
    };
    (0..40).map(answer).collect()
}

#[test]
fn a_client_stays_with_its_server_and_only_those_of_a_dead_one_move() {
    let (one, two, three) = (saying("one"), saying("two"), saying("three"));
    let all = [&one, &two, &three].map(|backend| backend.address().to_owned());
    let (server, _dir) = self::server(&all, "");
    let before = answers(&server);
    assert_eq!(before, answers(&server));
    let used: BTreeSet<_> = before.values().collect();
    assert_eq!(used.len(), 3, "{before:?}");
    // The last byte does not count, as in nginx.
    let neighbour = request("GET", "/", "X-Forwarded-For: 10.0.7.250\r\n");
    assert_eq!(server.exchange(&neighbour).text(), before[&7]);

    // Of another process, and in another order.
    let (other, _dir) = self::server(&[all[2].clone(), all[1].clone(), all[0].clone()], "");
    assert_eq!(answers(&other), before);

    // Without one of them.
    let (fewer, _dir) = self::server(&[all[2].clone(), all[0].clone()], "");
    for (client, name) in answers(&fewer) {
        assert_ne!(name, "two");
        if before[&client] != "two" {
            assert_eq!(name, before[&client], "{client}");
        }
    }
}

#[test]
fn a_server_that_is_down_leaves_the_clients_of_others_alone() {
    let (one, two) = (saying("one"), saying("two"));
    let addresses = [&one, &two].map(|backend| backend.address().to_owned());
    let (both, _dir) = server(&addresses, "");
    let before = answers(&both);
    let dead = [
        "127.0.0.1:1".to_owned(),
        addresses[0].clone(),
        addresses[1].clone(),
    ];
    let (with_dead, _dir) = server(&dead, "");
    for _ in 0..3 {
        assert_eq!(answers(&with_dead), before);
    }
}

#[test]
fn check_shows_the_rule_and_other_words_are_refused() {
    let dir = temp_dir();
    let toml = "upstream = ['http://127.0.0.1:1', 'http://127.0.0.1:2']\nbalance = 'address'\n";
    write_files(dir.path(), &[("pyserve.toml", toml)]);
    let check = |args: &[&str]| Pyserve::new().current_dir(dir.path()).args(args).run();
    let shown = check(&["check"]).stdout;
    assert!(
        shown.contains("http 127.0.0.1:1, 127.0.0.1:2 by address"),
        "{shown}"
    );
    let refused = check(&["--balance", "ip_hash"]);
    assert_eq!(refused.code, 78, "{}", refused.stderr);
    assert!(refused.stderr.contains("requests") && refused.stderr.contains("address"));
}
