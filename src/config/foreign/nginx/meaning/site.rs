//! Settings for all locations: addresses, limits, compression, logging.

use super::numbers::{bytes, longest, seconds};
use super::served::Site;
use super::{Meaning, forwarding, tls};
use crate::config::foreign::Verdict;
use crate::config::{Trust, trust};

/// Sets what the servers, and the blocks around them, say about everything.
pub fn decide(meaning: &mut Meaning<'_>, sites: &[Site]) {
    let Some(first) = sites.first() else { return };
    binds(meaning, sites);
    meaning.imply(
        "root",
        "none",
        "nginx serves no directory that its file does not name",
    );
    tls::certificates(meaning, sites);
    let blocks: Vec<usize> = sites.iter().map(|site| site.at).collect();
    max_body(meaning, &blocks);
    times(meaning, &blocks);
    dropped_field(meaning);
    let server = first_with(meaning, &blocks, "gzip");
    compression(meaning, server);
    logging(meaning, first.at);
    without_proxies(meaning);
    proxies(meaning, first.at);
    rates(meaning, sites);
    types(meaning, first.at);
}

/// The first server for which a directive holds, else the first one: a default server that only
/// refuses hosts says nothing.
fn first_with(meaning: &Meaning<'_>, servers: &[usize], name: &str) -> usize {
    let found = servers
        .iter()
        .copied()
        .find(|server| !meaning.nearest(Some(*server), name).is_empty());
    found.or(servers.first().copied()).unwrap_or_default()
}

fn binds(meaning: &mut Meaning<'_>, sites: &[Site]) {
    let mut values: Vec<String> = Vec::new();
    let mut first = None;
    let mut is_proxied = None;
    for listen in sites.iter().flat_map(|site| &site.listens) {
        if !values.contains(&listen.bind) {
            values.push(listen.bind.clone());
        }
        first = first.or(listen.at);
        if listen.has_proxy_protocol {
            is_proxied = is_proxied.or(listen.at);
        }
    }
    // `0.0.0.0` has every address of its port.
    let all: Vec<String> = values
        .iter()
        .filter_map(|bind| bind.strip_prefix("0.0.0.0:").map(str::to_owned))
        .collect();
    values.retain(|bind| {
        bind.starts_with("0.0.0.0:")
            || bind.starts_with('[')
            || !all.iter().any(|port| bind.ends_with(&format!(":{port}")))
    });
    match first {
        Some(at) => meaning.set(at, "bind", values),
        None => meaning.imply(
            "bind",
            "0.0.0.0:80",
            "nginx listens on port 80 without a listen",
        ),
    }
    for listen in sites.iter().flat_map(|site| &site.listens) {
        if let Some(at) = listen.at {
            meaning.honoured(at, format!("bind = {:?}", listen.bind));
        }
    }
    let is_of_all = sites
        .iter()
        .flat_map(|site| &site.listens)
        .all(|listen| listen.has_proxy_protocol);
    if let Some(at) = is_proxied.filter(|_| !is_of_all) {
        let text = "proxy_protocol at some addresses: here it is required at all or none, so it is read at none: give it to every listen, or serve the others apart";
        meaning.unsupported(at, text);
    } else if let Some(at) = is_proxied {
        let all = ["0.0.0.0/0", "::/0", "unix"].map(str::to_owned).to_vec();
        meaning.set(at, "proxy_protocol", all);
    }
}

fn max_body(meaning: &mut Meaning<'_>, servers: &[usize]) {
    let mut values = Vec::new();
    for server in servers {
        let line = meaning.scalar(Some(*server), "client_max_body_size");
        let value = line.map(|at| (at, bytes(meaning.arg(at, 0))));
        if let Some((at, None)) = value {
            meaning.say(at, Verdict::Wrong("no size".to_owned()));
        }
        values.push(value.and_then(|(at, value)| Some((at, value?))));
    }
    let Some((at, first)) = values.first().cloned().flatten() else {
        meaning.imply("max_body", "1M", "nginx's client_max_body_size");
        return;
    };
    meaning.set(at, "max_body", vec![first.clone()]);
}

/// The longest body of the first server, which is that for all.
pub fn max_body_of(meaning: &mut Meaning<'_>, first: Option<&Site>) -> String {
    let line = first.and_then(|site| meaning.scalar(Some(site.at), "client_max_body_size"));
    let value = line.and_then(|line| bytes(meaning.arg(line, 0)));
    value.unwrap_or_else(|| "1M".to_owned())
}

fn times(meaning: &mut Meaning<'_>, servers: &[usize]) {
    let one = |meaning: &mut Meaning<'_>, name: &str, setting: &'static str| {
        let server = first_with(meaning, servers, name);
        let at = meaning.scalar(Some(server), name)?;
        match seconds(meaning.arg(at, 0)) {
            Some(0) if setting != "keepalive_timeout" => {
                meaning.unsupported(at, "a time of zero");
            }
            Some(seconds) => set_time(meaning, at, setting, seconds),
            None => meaning.say(at, Verdict::Wrong("no time".to_owned())),
        }
        Some(at)
    };
    one(meaning, "keepalive_timeout", "keepalive_timeout");
    one(meaning, "client_header_timeout", "header_timeout");
    let body = one(meaning, "client_body_timeout", "body_timeout");
    let server = first_with(meaning, servers, "send_timeout");
    if let Some(at) = meaning.scalar(Some(server), "send_timeout") {
        let reading = reading_time(meaning, body.unwrap_or(at));
        match seconds(meaning.arg(at, 0)) {
            None => meaning.say(at, Verdict::Wrong("no time".to_owned())),
            Some(own) if body.is_some() && own == reading => {
                meaning.honoured(at, "body_timeout");
            }
            // It may end no upload that nginx waits for.
            Some(own) if body.is_some() || own <= reading => meaning.say(at, one_time(reading)),
            Some(own) => {
                let (own, note) = longest(own);
                meaning.set(at, "body_timeout", vec![own.to_string()]);
                let text = format!("body_timeout = {own}, for reading and sending{note}");
                meaning.verdicts[at] = Some(Verdict::Honoured(text));
            }
        }
    }
}

/// Sets a time for all.
pub fn set_time(meaning: &mut Meaning<'_>, at: usize, setting: &'static str, seconds: u64) {
    let (seconds, note) = longest(seconds);
    meaning.set(at, setting, vec![seconds.to_string()]);
    if !note.is_empty() {
        meaning.verdicts[at] = Some(Verdict::Honoured(format!("{setting} = {seconds}{note}")));
    }
}

/// Seconds that a client may pause while it sends a body: those of `client_body_timeout` in a block, else of
/// nginx.
pub fn reading_time(meaning: &mut Meaning<'_>, at: usize) -> u64 {
    let line = meaning
        .nearest(Some(at), "client_body_timeout")
        .first()
        .copied();
    let given = line.and_then(|line| seconds(meaning.arg(line, 0)));
    given.filter(|seconds| *seconds > 0).unwrap_or(60)
}

/// The verdict of a time for sending that is not the one for reading.
pub fn one_time(reading: u64) -> Verdict {
    Verdict::Differs(format!(
        "reading and sending have one time limit (body_timeout), that of client_body_timeout ({reading})"
    ))
}

/// True if nothing is compressed for the first server of which the file says it.
pub fn is_uncompressed(meaning: &mut Meaning<'_>, sites: &[Site]) -> bool {
    let blocks: Vec<usize> = sites.iter().map(|site| site.at).collect();
    let server = first_with(meaning, &blocks, "gzip");
    !sites.is_empty() && meaning.scalar_value(Some(server), "gzip") == Some("off")
}

fn compression(meaning: &mut Meaning<'_>, server: usize) {
    let Some(at) = meaning.scalar(Some(server), "gzip") else {
        return;
    };
    if meaning.arg(at, 0) == "off" {
        for setting in ["static_compress", "compress"] {
            meaning.insert(at, setting, vec!["no".to_owned()]);
        }
        meaning.honoured(at, "compress = \"no\", static_compress = \"no\"");
        return;
    }
    meaning.already(at, "text is compressed, by zstd, brotli or gzip");
    if let Some(at) = meaning.scalar(Some(server), "gzip_min_length")
        && let Some(bytes) = bytes(meaning.arg(at, 0)).filter(|bytes| bytes != "0")
    {
        meaning.set(at, "compress_min", vec![bytes]);
    }
    if let Some(at) = meaning.scalar(Some(server), "gzip_types") {
        let types: Vec<String> = meaning.args(at).into_iter().map(str::to_owned).collect();
        if types.iter().any(|kind| kind == "*") {
            meaning.say(
                at,
                Verdict::Differs("media types that compress well are compressed".to_owned()),
            );
            return;
        }
        let mut all = vec!["text/html".to_owned()];
        all.extend(
            types
                .into_iter()
                .filter(|kind| kind != "text/html" && kind.contains('/')),
        );
        all.dedup();
        meaning.set(at, "compress_types", all);
        meaning.honoured(at, "compress_types, with text/html");
    }
}

fn logging(meaning: &mut Meaning<'_>, server: usize) {
    let all = meaning.nearest(Some(server), "access_log");
    for at in all {
        match meaning.arg(at, 0) {
            "off" => meaning.set(at, "access_log", vec!["off".to_owned()]),
            _ => log_target(meaning, at),
        }
    }
}

/// A log in a file.
pub fn log_target(meaning: &mut Meaning<'_>, at: usize) {
    if meaning.arg(at, 0) == "off" {
        return;
    }
    let args = meaning.args(at);
    let condition = args.iter().find_map(|arg| arg.strip_prefix("if="));
    if let Some(condition) = condition {
        return log_condition(meaning, at, condition);
    }
    match meaning.arg(at, 0) {
        "/dev/stdout" | "/dev/stderr" | "/proc/self/fd/1" => {
            meaning.already(at, "requests are logged on standard output")
        }
        _ => meaning.say(
            at,
            Verdict::Differs("requests are logged on standard output (--access-log)".to_owned()),
        ),
    }
}

/// A condition whose `map` has a known shape: by status, or by path.
fn log_condition(meaning: &mut Meaning<'_>, at: usize, variable: &str) {
    let is_map = |line: &usize| meaning.name(*line) == "map" && meaning.arg(*line, 1) == variable;
    let map = (0..meaning.tree.items.len()).find(is_map);
    let entries: Vec<(usize, &str, bool)> = map
        .into_iter()
        .flat_map(|map| meaning.tree.children(Some(map)))
        .map(|entry| {
            (
                entry,
                meaning.name(entry),
                !matches!(meaning.arg(entry, 0), "0" | ""),
            )
        })
        .collect();
    let source = map.map_or("", |map| meaning.arg(map, 0));
    let others = entries
        .iter()
        .find(|(_, key, _)| *key == "default")
        .is_some_and(|(_, _, is_logged)| *is_logged);
    let keys = entries.iter().filter(|(_, key, _)| *key != "default");
    let keys: Vec<(&str, bool)> = keys.map(|(_, key, is_logged)| (*key, *is_logged)).collect();
    let known = match source {
        "$status" => logged_statuses(&keys, others).map(|values| ("access_log_status", values)),
        "$uri" | "$request_uri" if others => {
            skipped_paths(&keys).map(|values| ("access_log_skip", values))
        }
        _ => None,
    };
    let (Some((setting, values)), Some(map)) = (known, map) else {
        let text = "a condition for the access log: --access-log-skip PATH, --access-log-status";
        return meaning.unsupported(at, text);
    };
    let shown = format!("{setting} = {values:?}");
    meaning.set(at, setting, values);
    meaning.steers(map, format!("the condition of the access log: {shown}"));
    for (entry, _, _) in entries {
        meaning.steers(entry, "a part of that condition");
    }
}

/// The classes of statuses that are logged, where whole classes are.
fn logged_statuses(keys: &[(&str, bool)], others: bool) -> Option<Vec<String>> {
    let mut logged = [others; 5];
    let mut is_known = [false; 5];
    for (key, is_logged) in keys {
        let classes = key.strip_prefix("~^")?;
        let classes = classes
            .strip_prefix(['[', '('])
            .and_then(|classes| classes.strip_suffix([']', ')']))
            .unwrap_or(classes);
        for class in classes.chars().filter(|char| *char != '|') {
            let class = usize::try_from(class.to_digit(10)?).ok()?.checked_sub(1)?;
            // The first expression that matches decides.
            if !std::mem::replace(is_known.get_mut(class)?, true) {
                logged[class] = *is_logged;
            }
        }
    }
    let classes = (1..=5).zip(logged).filter(|(_, is_logged)| *is_logged);
    Some(classes.map(|(class, _)| format!("{class}xx")).collect())
}

/// The paths that are not logged.
fn skipped_paths(keys: &[(&str, bool)]) -> Option<Vec<String>> {
    let skipped = |(key, is_logged): &(&str, bool)| {
        if *is_logged {
            return None;
        }
        match key.strip_prefix('~') {
            None if key.starts_with('/') => Some(vec![(*key).to_owned()]),
            None => None,
            Some(pattern) => {
                match super::regex::shape(pattern.strip_prefix('*').unwrap_or(pattern))? {
                    super::regex::Shape::Paths(all) => Some(all),
                    super::regex::Shape::Prefixes(all) => {
                        Some(all.into_iter().map(|prefix| prefix + "*").collect())
                    }
                    super::regex::Shape::Extensions(all, None) => {
                        let ends = all.into_iter().map(|extension| format!("*.{extension}"));
                        Some(ends.collect())
                    }
                    _ => None,
                }
            }
        }
    };
    let all: Option<Vec<_>> = keys.iter().map(skipped).collect();
    Some(all?.concat())
}

/// A `types` block, beside the types that are built in.
fn types(meaning: &mut Meaning<'_>, server: usize) {
    let Some(block) = meaning.nearest(Some(server), "types").first().copied() else {
        return;
    };
    let values = super::types::entries(meaning, block);
    if values.is_empty() {
        meaning.already(block, "media types are built in");
    } else {
        meaning.set(block, "types", values);
        let text = "types, beside those that are built in".to_owned();
        meaning.verdicts[block] = Some(Verdict::Honoured(text));
    }
}

/// Lines about proxies whose field never reaches nginx.
fn dropped_field(meaning: &mut Meaning<'_>) {
    if !forwarding::is_never_read(meaning) {
        return;
    }
    for at in 0..meaning.tree.items.len() {
        if meaning.name(at).starts_with("real_ip_") || meaning.name(at) == "set_real_ip_from" {
            let text = "nginx drops fields whose name has an underscore, so that the client is the peer of the connection";
            meaning.no_effect(at, text);
        }
    }
}

/// Lines that say from which field a client is read, where no proxy is trusted.
fn without_proxies(meaning: &mut Meaning<'_>) {
    if forwarding::has_real_ip(meaning) {
        return;
    }
    let is_it = |at: &usize| meaning.name(*at).starts_with("real_ip_");
    for at in (0..meaning.tree.items.len())
        .filter(is_it)
        .collect::<Vec<_>>()
    {
        meaning.no_effect(at, "nginx trusts no proxy without a set_real_ip_from");
    }
    // The proxy that settings of the application trust was nginx.
    if meaning.given.trusts {
        let reason = "nginx trusts no proxy without a set_real_ip_from, and the application's own settings trusted nginx";
        meaning.imply_all("trust", Vec::new(), reason);
    }
}

/// The `real_ip` module.
fn proxies(meaning: &mut Meaning<'_>, server: usize) {
    let all = meaning.nearest(Some(server), "set_real_ip_from");
    let Some(first) = all.first().copied() else {
        return;
    };
    if forwarding::is_never_read(meaning) {
        return;
    }
    let header = meaning
        .scalar_value(Some(server), "real_ip_header")
        .unwrap_or("X-Real-IP")
        .to_ascii_lowercase();
    let line = meaning.scalar(Some(server), "real_ip_header");
    if header != "proxy_protocol" && trust::client_field(&header).is_err() {
        let text = "the client of a trusted proxy is read from another field: have the balancer set X-Forwarded-For or X-Real-IP";
        for at in all {
            meaning.unsupported(at, text);
        }
        if let Some(line) = line {
            meaning.unsupported(line, text);
        }
        return;
    }
    let values: Vec<String> = all
        .iter()
        .map(|at| meaning.arg(*at, 0).trim_end_matches(':').to_owned())
        .collect();
    if let Some(wrong) = all.iter().find(|at| {
        Trust::default()
            .add(meaning.arg(**at, 0).trim_end_matches(':'))
            .is_err()
    }) {
        meaning.unsupported(*wrong, "no network or address");
        return;
    }
    if header == "proxy_protocol" {
        let is_read = meaning.layer.entry("proxy_protocol").is_some();
        if is_read {
            meaning.set(first, "proxy_protocol", values);
        }
        for at in all.into_iter().chain(line) {
            meaning.verdicts[at] = Some(match is_read {
                true => {
                    Verdict::Honoured("proxy_protocol: connections of others are closed".to_owned())
                }
                false => Verdict::NoEffect("no listen has proxy_protocol".to_owned()),
            });
        }
        if let Some(at) = meaning.scalar(Some(server), "real_ip_recursive") {
            meaning.no_effect(at, "a PROXY header has one address");
        }
        return;
    }
    let text = format!("trust = {values:?}, trust_fields = \"for\"");
    meaning.set(first, "trust", values);
    meaning.set(first, "trust_fields", vec!["for".to_owned()]);
    for at in all {
        meaning.honoured(at, text.clone());
    }
    match line {
        Some(line) => {
            let name = meaning.arg(line, 0).to_owned();
            meaning.set(line, "trust_header", vec![name]);
        }
        None => meaning.imply("trust_header", "X-Real-IP", "nginx's real_ip_header"),
    }
    let recursive = meaning.scalar(Some(server), "real_ip_recursive");
    match recursive.map(|at| (at, meaning.arg(at, 0))) {
        Some((at, "on")) => meaning.already(at, "the first address that is not trusted counts"),
        Some((at, _)) => meaning.set(at, "trust_hops", vec!["1".to_owned()]),
        None => meaning.imply("trust_hops", "1", "nginx's real_ip_recursive off"),
    }
}

/// `limit_req` and `limit_conn` by address, for the whole site.
fn rates(meaning: &mut Meaning<'_>, sites: &[Site]) {
    // Beside one server with TLS, those without mostly redirect to it.
    let first = sites.first().map(|site| site.scheme);
    let is_alone = sites
        .iter()
        .filter(|site| Some(site.scheme) == first)
        .count()
        == 1;
    for (name, zone, setting) in [
        ("limit_req", "limit_req_zone", "rate_limit"),
        ("limit_conn", "limit_conn_zone", "max_connections_per_ip"),
    ] {
        let uses: Vec<usize> = (0..meaning.tree.items.len())
            .filter(|at| meaning.name(*at) == name)
            .collect();
        for at in uses {
            let in_location = meaning.around(at, "location").is_some();
            let in_server = meaning.around(at, "server").is_some();
            let id = match name {
                "limit_req" => meaning
                    .args(at)
                    .iter()
                    .find_map(|arg| arg.strip_prefix("zone="))
                    .unwrap_or_default(),
                _ => meaning.arg(at, 0),
            };
            let named = |line: &usize| {
                meaning.args(*line).iter().any(|arg| {
                    arg.strip_prefix("zone=")
                        .and_then(|arg| arg.split(':').next())
                        == Some(id)
                })
            };
            let found = (0..meaning.tree.items.len())
                .filter(|line| meaning.name(*line) == zone)
                .find(named);
            let Some(found) = found else {
                meaning.say(
                    at,
                    Verdict::Wrong(format!("there is no {zone} of this name")),
                );
                continue;
            };
            let is_by_address = matches!(
                meaning.arg(found, 0),
                "$binary_remote_addr" | "$remote_addr"
            );
            let value = value_of_limit(meaning, name, (at, found));
            if let Some(fault) = fault_of_limit(name, &value).filter(|_| is_by_address) {
                let line = if name == "limit_req" { found } else { at };
                meaning.say(line, Verdict::Wrong(fault.to_owned()));
                continue;
            }
            let is_first = meaning.layer.entry(setting).is_none();
            match value {
                value if is_by_address && is_first && !in_location && (!in_server || is_alone) => {
                    limit(meaning, (at, found), setting, value);
                }
                value if is_by_address => {
                    let text = format!(
                        "limits are for all paths together: {setting} = {value:?} would be for the whole site, so have the application limit these requests"
                    );
                    meaning.unsupported(at, text);
                    meaning.no_effect(found, "no line uses it here");
                }
                _ => {
                    let text =
                        "limits are for each address: --rate-limit, --max-connections-per-ip";
                    meaning.unsupported(at, text);
                    meaning.no_effect(found, "no line uses it here");
                }
            }
        }
    }
}

/// The most requests of a burst.
const LONGEST_BURST: u32 = 10_000_000;

/// The value of the `limit_req` or `limit_conn` at `at`, by the zone at `found`.
fn value_of_limit(meaning: &Meaning<'_>, name: &str, (at, found): (usize, usize)) -> String {
    if name != "limit_req" {
        return meaning.arg(at, 1).to_owned();
    }
    let args = meaning.args(found);
    let rate = args.iter().find_map(|arg| arg.strip_prefix("rate="));
    // nginx's own rate is one in a second.
    rate_of(rate.unwrap_or("1r/s")).unwrap_or_default()
}

/// The rate of `5r/s`, as the setting takes it; `None` for one that nginx refuses.
fn rate_of(text: &str) -> Option<String> {
    let (number, unit) = match (text.strip_suffix("r/s"), text.strip_suffix("r/m")) {
        (Some(number), _) => (number, "s"),
        (None, Some(number)) => (number, "m"),
        (None, None) => (text, "s"),
    };
    let number = number.parse::<u32>().ok().filter(|number| *number > 0)?;
    Some(format!("{}/{unit}", number.min(HIGHEST_RATE)))
}

/// The most requests of a rate.
const HIGHEST_RATE: u32 = 1_000_000;

/// The fault of a rate or a number of connections that nginx refuses.
fn fault_of_limit(name: &str, value: &str) -> Option<&'static str> {
    match name {
        "limit_req" => value.is_empty().then_some("no rate: give one as 5r/s"),
        _ => {
            let number = value.parse::<u16>();
            let is_wrong = number.is_err() || number == Ok(0);
            is_wrong.then_some("no number of connections from 1 to 65535")
        }
    }
}

/// Sets a limit of each address for the whole site, by the `limit_…` at `at` of a zone.
fn limit(
    meaning: &mut Meaning<'_>,
    (at, zone): (usize, usize),
    setting: &'static str,
    value: String,
) {
    if setting != "rate_limit" {
        let text = format!("{setting} = {value} (idle connections count as well)");
        meaning.set(at, setting, vec![value]);
        meaning.verdicts[at] = Some(Verdict::Honoured(text));
        meaning.honoured(zone, setting);
        return;
    }
    let args = meaning.args(at);
    let burst = args.iter().find_map(|arg| arg.strip_prefix("burst="));
    let given = |burst: &str| burst.parse::<u32>().ok().filter(|burst| *burst > 0);
    let burst = burst.map_or(Some(0), given);
    let Some(burst) = burst.map(|burst| burst.min(LONGEST_BURST - 1) + 1) else {
        return meaning.say(at, Verdict::Wrong("no number of requests".to_owned()));
    };
    // "burst" counts the requests beyond the first.
    let note = match burst {
        LONGEST_BURST => " (the longest burst)",
        _ => "",
    };
    let text = format!("rate_limit = {value:?}, rate_burst = {burst}{note}");
    meaning.set(at, "rate_burst", vec![burst.to_string()]);
    meaning.set(at, setting, vec![value]);
    meaning.verdicts[at] = Some(Verdict::Honoured(text));
    meaning.honoured(
        zone,
        "rate_limit (429 beyond it; requests of a burst do not wait)",
    );
}
