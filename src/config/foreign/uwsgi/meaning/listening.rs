//! Addresses, and as whom the server runs.

use super::addresses::{HTTP, HTTPS, address, bound};
use super::processes::time;
use super::{Meaning, has_number, tls};
use crate::config::foreign::Verdict;
use crate::config::foreign::uwsgi::options;
use crate::config::foreign::uwsgi::reader::Item;

/// Bytes of request headers that pyserve takes, as many as the largest `buffer-size`.
const LARGEST_HEAD: i64 = 64 << 10;
/// Bytes of them that the target may have.
const LONGEST_TARGET: i64 = 32 << 10;

pub(super) fn decide(meaning: &mut Meaning<'_>) {
    of_no_router(meaning);
    let protocol = meaning.last(&["protocol", "socket-protocol"]);
    let is_http = protocol.is_some_and(|at| meaning.value(at) == "http");
    let shared = shared_sockets(meaning);
    for at in meaning.all(&HTTP) {
        listen(meaning, at, &shared);
    }
    for at in meaning.all(&["socket"]).into_iter().filter(|_| is_http) {
        listen(meaning, at, &shared);
    }
    tls::decide(meaning, &shared);
    if let Some(at) = protocol {
        match is_http {
            true => meaning.say(at, Verdict::Honoured("the sockets speak HTTP".to_owned())),
            false => meaning.no_effect(at, MET_THERE),
        }
    }
    for at in meaning.all(&["socket", "uwsgi-socket"]) {
        let address = meaning.value(at).to_owned();
        meaning.draft.layer.sockets.push(address);
        met_there(meaning, at);
    }
    for at in shared.iter().map(|(at, _)| *at) {
        if meaning.verdicts[at].is_none() {
            meaning.no_effect(at, "no line listens there");
        }
    }
    socket_files(meaning);
    users(meaning);
    stats(meaning);
    limits(meaning);
}

const MET_THERE: &str = "front server and uWSGI met there; pyserve is both";

fn met_there(meaning: &mut Meaning<'_>, at: usize) {
    match meaning.binds.is_empty() {
        true => {
            let why = format!(
                "{MET_THERE}, and listens for HTTP at `bind` (without it at $PORT, or 127.0.0.1:8000)"
            );
            meaning.say(at, Verdict::Noted(why));
        }
        false => meaning.no_effect(at, MET_THERE),
    }
}

/// `shared-socket = ADDR`, which other lines name as `=0`.
fn shared_sockets(meaning: &Meaning<'_>) -> Vec<(usize, String)> {
    let all = meaning.all(&["shared-socket", "undeferred-shared-socket"]);
    all.into_iter()
        .map(|at| (at, meaning.value(at).to_owned()))
        .collect()
}

fn listen(meaning: &mut Meaning<'_>, at: usize, shared: &[(usize, String)]) {
    let given = meaning.value(at).to_owned();
    match bound(meaning, at, &given, shared) {
        Ok(address) if meaning.binds.contains(&address) => {
            meaning.no_effect(at, "another line listens there");
        }
        Ok(address) => {
            meaning.binds.push(address.clone());
            meaning.append(at, "bind", address);
            meaning.note(at, SCHEME);
        }
        Err(problem) => meaning.say(at, Verdict::Wrong(problem)),
    }
}

/// The difference in `wsgi.url_scheme`, which uWSGI takes from every client's `X-Forwarded-Proto`.
const SCHEME: &str = "the scheme that a proxy states counts with `trust` alone";

fn socket_files(meaning: &mut Meaning<'_>) {
    let is_unix = |address: &String| address.starts_with("unix:");
    let has_files = meaning.binds.iter().any(is_unix);
    if let Some(at) = meaning.last(&["chmod-socket", "chmod"]) {
        let mode = match meaning.value(at) {
            "" | "1" => "666".to_owned(),
            mode => mode.to_owned(),
        };
        match has_files {
            true => meaning.honour(at, "bind_mode", vec![mode]),
            false => meaning.no_effect(at, "pyserve listens on no Unix socket"),
        }
    }
    if let Some(at) = meaning.last(&["chown-socket"]) {
        let owner = meaning.value(at).to_owned();
        match has_files && meaning.around.is_root {
            true => meaning.honour(at, "bind_owner", vec![owner]),
            false if has_files => meaning.no_effect(at, "only root can change the owner"),
            false => meaning.no_effect(at, "pyserve listens on no Unix socket"),
        }
    }
}

fn users(meaning: &mut Meaning<'_>) {
    for (names, setting) in [
        (["uid", "immediate-uid"], "uid"),
        (["gid", "immediate-gid"], "gid"),
    ] {
        let Some(at) = meaning.last(&names) else {
            continue;
        };
        let name = meaning.value(at).to_owned();
        if !meaning.around.is_root {
            meaning.no_effect(at, "only root can become another user, as in uWSGI");
        } else if name.is_empty() {
            meaning.no_effect(at, "no name");
        } else if setting == "uid" {
            let has_group = !meaning.all(&["gid", "immediate-gid"]).is_empty();
            let note = match has_group {
                true => AS_THAT_USER.to_owned(),
                false => {
                    format!("and its own group, where uWSGI keeps that of root; {AS_THAT_USER}")
                }
            };
            meaning.honour_with_note(at, setting, vec![name], &note);
        } else {
            meaning.honour(at, setting, vec![name]);
        }
    }
}

/// The differences for an application that runs as another user.
const AS_THAT_USER: &str = "HOME, USER and LOGNAME follow, which uWSGI leaves as they are; without supplementary groups of the user, and sudo gives no rights";

fn stats(meaning: &mut Meaning<'_>) {
    if let Some(at) = meaning.last(&["stats", "stats-server"]) {
        let given = meaning.value(at).to_owned();
        match address(&given) {
            Ok(address) => meaning.honour_with_note(
                at,
                "admin",
                vec![address],
                "over HTTP: /-/status as JSON, /-/metrics, /-/ready",
            ),
            Err(problem) => meaning.say(at, Verdict::Unsupported(problem)),
        }
    }
    for at in meaning.all(&["stats-http"]) {
        meaning.say(at, Verdict::AlreadySo("`admin` speaks HTTP".to_owned()));
    }
}

/// Options of uWSGI's HTTP router where no line starts it: it alone reads them (`plugins/http/http.c`).
fn of_no_router(meaning: &mut Meaning<'_>) {
    let is_router = |item: &Item| !item.is_placeholder && ROUTERS.contains(&&*item.key);
    if meaning.items.iter().any(is_router) {
        return;
    }
    for at in 0..meaning.items.len() {
        let item = &meaning.items[at];
        let is_its_own = item.key.starts_with("http-") && !OF_OTHERS.contains(&&*item.key);
        if is_its_own && !item.is_placeholder && options::named(&item.key).is_some() {
            meaning.no_effect(at, "uWSGI's HTTP router reads it, which no line starts");
        }
    }
}

/// Options that start the HTTP router.
const ROUTERS: [&str; 5] = ["http", "httprouter", "https", "https2", "http-to-https"];
/// Options that begin as those of the router do.
const OF_OTHERS: [&str; 4] = [
    "http-socket",
    "http-socket-modifier1",
    "http-socket-modifier2",
    "http-websockets",
];

/// The pauses of a client. Both the front of uWSGI and its worker limit them, so the shorter time counts.
fn pauses(meaning: &mut Meaning<'_>) {
    let speaks_http = speaks_http(meaning);
    let last = ["http-timeout", "socket-timeout"].map(|name| meaning.last(&[name]));
    let mut given = Vec::new();
    for at in last.into_iter().flatten() {
        match meaning.number(at) {
            None => {}
            _ if !speaks_http => meaning.no_effect(at, MET_THERE),
            Some(0) => meaning.no_effect(at, "no time"),
            Some(seconds) => given.push((seconds, at)),
        }
    }
    let Some((seconds, shorter)) = given.iter().min().copied() else {
        return;
    };
    for (_, at) in given.into_iter().filter(|(_, at)| *at != shorter) {
        let why = format!("{seconds} seconds, as {} says", meaning.items[shorter].key);
        meaning.no_effect(at, &why);
    }
    let note = "the pauses of a client; `request_timeout` limits the application";
    time(meaning, shorter, "body_timeout", seconds);
    if meaning.items[shorter].key == "http-timeout" {
        meaning.note(shorter, note);
    }
}

/// True if uWSGI itself speaks HTTP, perhaps at an address that is not known yet.
fn speaks_http(meaning: &Meaning<'_>) -> bool {
    let mut all = meaning.items.iter().zip(&meaning.verdicts);
    !meaning.binds.is_empty()
        || all.any(|(item, verdict)| {
            let is_open = matches!(verdict, Some(Verdict::AtStart(_) | Verdict::Unset(_)));
            is_open && (HTTP.contains(&&*item.key) || HTTPS.contains(&&*item.key))
        })
}

fn limits(meaning: &mut Meaning<'_>) {
    let speaks_http = speaks_http(meaning);
    pauses(meaning);
    if let Some(at) = meaning.last(&["http-keepalive"])
        && let Some(seconds) = meaning.number(at)
    {
        match seconds {
            // Off, if it is a number: `true` is 0 to uWSGI, too.
            0 if has_number(meaning.value(at)) => {
                let none = vec!["0".to_owned()];
                meaning.honour(at, "keepalive_timeout", none);
            }
            0 | 1 => {
                let so = "connections of clients stay open".to_owned();
                meaning.say(at, Verdict::AlreadySo(so));
            }
            _ => time(meaning, at, "keepalive_timeout", seconds),
        }
    }
    let sending = [
        "so-send-timeout",
        "socket-send-timeout",
        "so-write-timeout",
        "socket-write-timeout",
    ];
    for at in meaning.all(&sending) {
        meaning.no_effect(
            at,
            "responses wait in the front: `body_timeout` limits the pauses of a client",
        );
    }
    if let Some(at) = meaning.last(&["buffer-size"])
        && let Some(bytes) = meaning.number(at)
    {
        // uWSGI holds it in 16 bits.
        let bytes = bytes.min(LARGEST_HEAD);
        let so = format!("request headers may have {LARGEST_HEAD} bytes, which covers {bytes}");
        let verdict = match bytes > LONGEST_TARGET {
            true => Verdict::Differs(format!(
                "{so}, with at most {LONGEST_TARGET} in the address"
            )),
            false => Verdict::AlreadySo(so),
        };
        meaning.say(at, verdict);
    }
    for at in meaning.all(&["http-socket-modifier1"]) {
        meaning.no_effect(
            at,
            "the modifier chooses a plugin of uWSGI; here there is Python alone",
        );
    }
    match meaning.last(&["limit-post"]) {
        Some(at) => {
            if let Some(bytes) = meaning.number(at) {
                meaning.honour(at, "max_body", vec![bytes.to_string()]);
            }
        }
        None if speaks_http => {
            let why = "uWSGI sets no limit to bodies without `limit-post`";
            meaning.imply("max_body", "0", why);
        }
        // The front server's limit counted.
        None => {}
    }
}
