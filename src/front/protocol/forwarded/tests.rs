//! Tests of [`super`]: headers of proxies, and the client derived from them.

use super::*;
use proptest::prelude::*;

fn trust(list: &[&str]) -> Trust {
    let mut trust = Trust::default();
    for text in list {
        trust.add(text).unwrap();
    }
    trust
}

fn ends(trusted: bool) -> Endpoints {
    Endpoints {
        peer: Some("10.0.0.1:4000".parse().unwrap()),
        local: Some("10.0.0.2:8000".parse().unwrap()),
        trusted,
        ..Endpoints::default()
    }
}

fn headers(fields: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        headers.append(
            HeaderName::from_bytes(name.as_bytes()).unwrap(),
            HeaderValue::from_bytes(value.as_bytes()).unwrap(),
        );
    }
    headers
}

fn resolved(fields: &[(&str, &str)]) -> (Client, HeaderMap) {
    let mut headers = headers(fields);
    let trust = trust(&["10.0.0.0/8", "fd00::/8"]);
    let client = resolve(&mut headers, None, &ends(true), &trust);
    (client, headers)
}

fn address_of(client: &Client) -> String {
    let address = client.address.map_or("none".to_owned(), |a| a.to_string());
    match client.port {
        Some(port) => format!("{address} {port}"),
        None => address,
    }
}

#[test]
fn fields_of_untrusted_peers_are_removed_and_change_nothing() {
    let names = FORWARDING.into_iter().chain(["proxy", "accept"]);
    let fields: Vec<_> = names.map(|name| (name, "1.2.3.4")).collect();
    let mut headers = headers(&fields);
    let client = resolve(&mut headers, None, &ends(false), &trust(&["10.0.0.0/8"]));
    assert_eq!(client, Client::direct(&ends(false)));
    assert_eq!(headers.keys().collect::<Vec<_>>(), ["accept"]);
}

#[test]
fn the_client_is_read_from_the_one_field_of_the_settings() {
    let check = |fields: &[(&str, &str)], is_trusted: bool, expected: &str| {
        let mut headers = headers(fields);
        let mut trust = trust(&["10.0.0.0/8"]);
        trust.read_client_from(HeaderName::from_static("cf-connecting-ip"));
        let client = resolve(&mut headers, None, &ends(is_trusted), &trust);
        assert_eq!(address_of(&client), expected, "{fields:?}");
        let is_kept = headers.contains_key("cf-connecting-ip");
        assert!(!is_kept || is_trusted, "{fields:?}");
    };
    let own = ("cf-connecting-ip", "203.0.113.9");
    let by_for = ("x-forwarded-for", "192.0.2.1");
    check(&[own, by_for], true, "203.0.113.9");
    check(&[own], false, "10.0.0.1 4000");
    check(&[by_for], true, "10.0.0.1 4000");
    check(&[("forwarded", "for=192.0.2.1")], true, "10.0.0.1 4000");
    // nginx 1.22: the first field of the name, the last address of a list that is not trusted.
    check(&[own, (own.0, "192.0.2.2")], true, "203.0.113.9");
    check(&[(own.0, "192.0.2.1, 192.0.2.2")], true, "192.0.2.2");
    check(&[(own.0, "192.0.2.1 10.0.0.7, ")], true, "192.0.2.1");
    check(&[(own.0, "2001:db8::1")], true, "2001:db8::1");
    check(&[(own.0, "unknown"), by_for], true, "10.0.0.1 4000");

    let mut trust = trust(&["10.0.0.0/8"]);
    trust.read_client_from(FOR);
    for (field, expected) in [
        (by_for, "192.0.2.1"),
        (("forwarded", "for=192.0.2.1"), "10.0.0.1 4000"),
    ] {
        let client = resolve(&mut headers(&[field]), None, &ends(true), &trust);
        assert_eq!(address_of(&client), expected);
    }
}

#[test]
fn peers_say_no_more_than_the_settings_read_from_them() {
    use ForwardedFact::{For, Host, Proto};
    let fields = [
        ("x-forwarded-for", "192.0.2.7, 10.0.0.3"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-ssl", "on"),
        ("x-forwarded-host", "forged.example:444"),
        ("x-forwarded-port", "444"),
        ("x-forwarded-prefix", "/forged"),
    ];
    let check = |facts: &[ForwardedFact], hops, expected: (&str, Scheme, &str, u16, &str)| {
        let mut trust = trust(&["10.0.0.0/8"]);
        trust.limit(facts.to_vec(), hops);
        let mut headers = headers(&fields);
        let client = resolve(&mut headers, None, &ends(true), &trust);
        let address = client.address.unwrap().to_string();
        let found = (
            &*address,
            client.scheme,
            &*client.host,
            client.server_port,
            &*client.prefix,
        );
        assert_eq!(found, expected, "{facts:?}");
        // What is not read is passed on as it is.
        if !facts.is_empty() {
            assert_eq!(headers["x-forwarded-prefix"], "/forged", "{facts:?}");
            assert_eq!(headers["x-forwarded-ssl"], "on", "{facts:?}");
        }
    };
    check(
        &[],
        None,
        (
            "192.0.2.7",
            Scheme::Https,
            "forged.example:444",
            444,
            "/forged",
        ),
    );
    check(&[For], None, ("192.0.2.7", Scheme::Http, "", 8000, ""));
    check(&[For], Some(1), ("10.0.0.3", Scheme::Http, "", 8000, ""));
    check(
        &[For, Proto],
        None,
        ("192.0.2.7", Scheme::Https, "", 443, ""),
    );
    check(
        &[Host],
        None,
        ("10.0.0.1", Scheme::Http, "forged.example:444", 444, ""),
    );
}

#[test]
fn the_first_untrusted_address_from_the_right_is_the_client() {
    for (chain, expected) in [
        ("203.0.113.9", "203.0.113.9"),
        ("6.6.6.6, 203.0.113.9", "203.0.113.9"),
        ("203.0.113.9, 10.1.1.1,10.2.2.2", "203.0.113.9"),
        ("203.0.113.9:5123", "203.0.113.9 5123"),
        ("2001:db8::1", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("[2001:db8::1]:443, fd00::1", "2001:db8::1 443"),
        ("\"[2001:db8::1]:443\"", "2001:db8::1 443"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        (",, 203.0.113.9 ,, 10.1.1.1 ,", "203.0.113.9"),
        // All are trusted: the outermost is the client.
        ("10.3.3.3, 10.1.1.1", "10.3.3.3"),
        // An element that is not an address ends the walk at the proxy that wrote it.
        ("203.0.113.9, unknown, 10.1.1.1", "10.1.1.1"),
        ("203.0.113.9, garbage", "10.0.0.1 4000"),
        ("unknown", "10.0.0.1 4000"),
        ("203.0.113.9:99999", "10.0.0.1 4000"),
        ("203.0.113.9:+80", "10.0.0.1 4000"),
        ("203.0.113.9 6.6.6.6", "10.0.0.1 4000"),
        ("[203.0.113.9]", "10.0.0.1 4000"),
        ("[2001:db8::1]x", "10.0.0.1 4000"),
        ("fe80::1%eth0", "10.0.0.1 4000"),
        ("1.2.3", "10.0.0.1 4000"),
        ("", "10.0.0.1 4000"),
    ] {
        let (client, _) = resolved(&[("x-forwarded-for", chain)]);
        assert_eq!(address_of(&client), expected, "{chain:?}");
    }
}

#[test]
fn several_lines_are_one_list() {
    let (client, _) = resolved(&[
        ("x-forwarded-for", "6.6.6.6"),
        ("x-forwarded-for", "203.0.113.9, 10.1.1.1"),
    ]);
    assert_eq!(address_of(&client), "203.0.113.9");
    let (client, _) = resolved(&[
        ("x-forwarded-for", "203.0.113.9"),
        ("x-forwarded-for", "10.1.1.1"),
    ]);
    assert_eq!(address_of(&client), "203.0.113.9");
}

#[test]
fn the_walk_ends_after_fifty_proxies() {
    let chain = |hops: usize| format!("203.0.113.9{}", ", 10.1.1.1".repeat(hops));
    let (client, _) = resolved(&[("x-forwarded-for", &chain(49))]);
    assert_eq!(address_of(&client), "203.0.113.9");
    let (client, _) = resolved(&[("x-forwarded-for", &chain(50))]);
    assert_eq!(address_of(&client), "10.1.1.1");
}

#[test]
fn forwarded_is_read_as_rfc_7239_writes_it() {
    for (field, expected) in [
        ("for=203.0.113.9", "203.0.113.9"),
        ("For=\"[2001:db8:cafe::17]:4711\"", "2001:db8:cafe::17 4711"),
        (
            "for=203.0.113.9;proto=http;by=203.0.113.43, for=10.1.1.1",
            "203.0.113.9",
        ),
        ("for=6.6.6.6, for=\"203.0.113.9:80\"", "203.0.113.9 80"),
        ("for=\"203.0.113.9:_hidden\"", "203.0.113.9"),
        ("for=\"203.0.113\\.9\"", "203.0.113.9"),
        ("for=203.0.113.9, for=unknown, for=10.1.1.1", "10.1.1.1"),
        ("for=_gazonk", "10.0.0.1 4000"),
        ("for=203.0.113.9, proto=https", "10.0.0.1 4000"),
        // A quote that a client leaves open hides nothing to its right from the walk: the whole
        // line is ignored.
        ("for=\"6.6.6.6, for=203.0.113.9", "10.0.0.1 4000"),
        ("for=203.0.113.9;for=6.6.6.6", "10.0.0.1 4000"),
        ("nonsense", "10.0.0.1 4000"),
        ("", "10.0.0.1 4000"),
    ] {
        let (client, _) = resolved(&[("forwarded", field)]);
        assert_eq!(address_of(&client), expected, "{field:?}");
    }
}

#[test]
fn scheme_host_and_port_of_forwarded_stand_beside_the_client() {
    let (client, headers) = resolved(&[(
        "forwarded",
        "for=6.6.6.6;proto=http;host=evil, for=203.0.113.9;proto=https;host=\"shop.example:8443\", \
         for=10.1.1.1;proto=http;host=inner",
    )]);
    assert_eq!(address_of(&client), "203.0.113.9");
    assert_eq!(client.scheme, Scheme::Https);
    assert_eq!(client.host, "shop.example:8443");
    assert_eq!(client.server_port, 8443);
    // For applications that read the other field only.
    assert_eq!(headers[PROTO], "https");
}

#[test]
fn x_fields_win_and_forwarded_is_removed() {
    let (client, headers) = resolved(&[
        ("forwarded", "for=6.6.6.6;proto=https;host=evil"),
        ("x-forwarded-for", "203.0.113.9"),
    ]);
    assert_eq!(address_of(&client), "203.0.113.9");
    assert_eq!(
        (client.scheme, &*client.host),
        (Scheme::Http, ""),
        "no part of it is believed"
    );
    assert!(!headers.contains_key("forwarded"));
}

#[test]
fn lists_are_read_at_the_clients_place() {
    let check = |chain: &str, list: &str, expected: Scheme| {
        let (client, _) = resolved(&[("x-forwarded-for", chain), ("x-forwarded-proto", list)]);
        assert_eq!(client.scheme, expected, "{chain:?} {list:?}");
    };
    // The client's own elements stand to the left of those of its proxy.
    check("6.6.6.6, 203.0.113.9", "https, http", Scheme::Http);
    check("203.0.113.9, 10.1.1.1", "https, http", Scheme::Https);
    check("203.0.113.9, 10.1.1.1", "http, https, http", Scheme::Https);
    // The outermost proxy wrote it, and the inner ones kept it.
    check("203.0.113.9, 10.1.1.1, 10.1.1.1", "https", Scheme::Https);
    check("203.0.113.9", "HTTPS", Scheme::Https);
    check("203.0.113.9", "wss", Scheme::Https);
    check("203.0.113.9", "gopher", Scheme::Http);
    check("", "http, https", Scheme::Https);
}

#[test]
fn fields_of_few_proxies_declare_the_scheme_where_the_settings_name_them() {
    use ForwardedFact::{For, Proto, Protocol, Ssl};
    let check = |facts: &[ForwardedFact], fields: &[(&str, &str)], expected: Scheme| {
        let mut trust = trust(&["10.0.0.0/8"]);
        trust.limit(facts.to_vec(), None);
        let mut headers = headers(fields);
        let client = resolve(&mut headers, None, &ends(true), &trust);
        assert_eq!(client.scheme, expected, "{facts:?} {fields:?}");
        headers
    };
    let (on, off) = (("x-forwarded-ssl", "on"), ("x-forwarded-ssl", "off"));
    let ssl = ("x-forwarded-protocol", "ssl");
    let http = ("x-forwarded-proto", "http");
    check(&[], &[on, ssl], Scheme::Http);
    check(&[For, Proto], &[on, ssl], Scheme::Http);
    check(&[Proto, Ssl, Protocol], &[ssl, off], Scheme::Http);
    check(&[Proto, Ssl, Protocol], &[on, ssl, http], Scheme::Http);
    check(&[Ssl], &[on, http], Scheme::Https);
    check(&[Ssl], &[ssl], Scheme::Http);
    check(&[Ssl], &[("forwarded", "proto=https")], Scheme::Http);
    let headers = check(&[Proto, Ssl, Protocol], &[ssl], Scheme::Https);
    assert_eq!(headers["x-forwarded-protocol"], "ssl", "as it was sent");
    assert_eq!(headers["x-forwarded-proto"], "https");
    let headers = check(&[Proto, Ssl, Protocol], &[on], Scheme::Https);
    assert_eq!(headers["x-forwarded-ssl"], "on");
    check(
        &[Protocol],
        &[("x-forwarded-protocol", "https")],
        Scheme::Https,
    );
}

#[test]
fn host_port_and_prefix_are_taken_over_if_they_are_such() {
    let declared = |fields: &[(&str, &str)]| {
        let (client, _) = resolved(fields);
        (client.host, client.server_port, client.prefix)
    };
    let expect = |host: &str, port, prefix: &str| (host.to_owned(), port, prefix.to_owned());
    assert_eq!(
        declared(&[
            ("x-forwarded-host", "shop.example"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-prefix", "/app/"),
        ]),
        expect("shop.example", 443, "/app")
    );
    assert_eq!(
        declared(&[("x-forwarded-host", "shop.example:8080")]),
        expect("shop.example:8080", 8080, "")
    );
    assert_eq!(
        declared(&[
            ("x-forwarded-host", "[2001:db8::1]"),
            ("x-forwarded-port", "8443")
        ]),
        expect("[2001:db8::1]", 8443, "")
    );
    assert_eq!(
        declared(&[("x-forwarded-for", "203.0.113.9")]),
        expect("", 8000, "")
    );
    for bad in ["a b", "a/b", "u@h", "h:x", "\u{e9}"] {
        assert_eq!(declared(&[("x-forwarded-host", bad)]).0, "", "{bad:?}");
    }
    for bad in ["0", "65536", "+80", "80x", "-1", "http"] {
        assert_eq!(declared(&[("x-forwarded-port", bad)]).1, 8000, "{bad:?}");
    }
    for bad in [
        "//evil.example",
        "app",
        "/a/../b",
        "/a//b",
        "/a b",
        "/a?b",
        "/a%0d",
        "/",
    ] {
        let (client, headers) = resolved(&[("x-forwarded-prefix", bad)]);
        assert_eq!(client.prefix, "", "{bad:?}");
        assert!(!headers.contains_key(PREFIX), "{bad:?}");
    }
}

#[test]
fn the_port_of_the_host_that_was_asked_counts_where_a_scheme_is_declared_and_no_port() {
    let port = |fields: &[(&str, &str)], authority: Option<&str>| {
        let trust = trust(&["10.0.0.0/8"]);
        resolve(&mut headers(fields), authority, &ends(true), &trust).server_port
    };
    let (https, host) = (("x-forwarded-proto", "https"), ("host", "name:8443"));
    assert_eq!(port(&[https, host], None), 8443);
    assert_eq!(port(&[https, host], Some("name:9443")), 9443);
    assert_eq!(port(&[https, host], Some("name")), 443);
    assert_eq!(port(&[https, ("host", "name")], None), 443);
    assert_eq!(port(&[https, ("host", "[::1]:8443")], None), 8443);
    assert_eq!(port(&[https, ("host", "[::1]")], None), 443);
    assert_eq!(port(&[("forwarded", "proto=https"), host], None), 8443);
    assert_eq!(
        port(&[https, host, ("x-forwarded-host", "other")], None),
        443
    );
    assert_eq!(port(&[https, host, ("x-forwarded-port", "1")], None), 1);
    assert_eq!(port(&[("x-forwarded-for", "1.2.3.4"), host], None), 8000);
}

#[test]
fn every_field_that_tells_a_scheme_tells_the_one_found() {
    let names = SCHEMES;
    let all = |proto: &str| {
        let mut fields = vec![("x-forwarded-proto", proto)];
        for (name, _) in &names {
            fields.extend([(name.as_str(), "https"), (name.as_str(), "on")]);
        }
        let (_, headers) = resolved(&fields);
        let values = |name: &HeaderName| {
            let values = headers.get_all(name).iter();
            let values = values.map(|value| value.to_str().unwrap().to_owned());
            values.collect::<Vec<_>>().join(",")
        };
        SCHEMES
            .iter()
            .map(|(name, _)| values(name))
            .chain([values(&PROTO)])
            .collect::<Vec<_>>()
    };
    assert_eq!(
        all("http"),
        ["http", "http", "http", "http", "off", "off", "http"]
    );
    assert_eq!(
        all("https"),
        ["https", "https", "https", "https", "on", "on", "https"]
    );
    assert_eq!(
        all("nonsense")[6],
        "",
        "what cannot be read is not passed on"
    );
}

#[test]
fn a_unix_peer_that_is_trusted_names_its_client() {
    let mut headers = headers(&[("x-forwarded-for", "203.0.113.9, 10.1.1.1")]);
    let ends = Endpoints {
        trusted: true,
        ..Endpoints::default()
    };
    let client = resolve(&mut headers, None, &ends, &trust(&["unix", "10.0.0.0/8"]));
    assert_eq!(address_of(&client), "203.0.113.9");
}

/// Random text that resembles valid headers.
fn chains() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "203.0.113.9",
        "10.1.1.1",
        "::1",
        "[fd00::1]",
        ":80",
        "for=",
        "proto=",
        "https",
        "host=",
        "\"",
        "\\",
        ";",
        ",",
        " ",
        "=",
        "unknown",
        "_x",
        "[",
        "]",
        ":",
        "/a",
        "\u{e9}",
        "9",
    ]);
    prop::collection::vec(piece, 0..30).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_a_panic(
        values in prop::collection::vec((0..FORWARDING.len(), prop::collection::vec(any::<u8>(), 0..80)), 0..6),
        near in prop::collection::vec((0..FORWARDING.len(), chains()), 0..6),
    ) {
        let mut headers = HeaderMap::new();
        let near = near.into_iter().map(|(name, text)| (name, text.into_bytes()));
        for (name, value) in values.into_iter().chain(near) {
            if let Ok(value) = HeaderValue::from_bytes(&value) {
                headers.append(FORWARDING[name], value);
            }
        }
        let client = resolve(&mut headers, None, &ends(true), &trust(&["10.0.0.0/8"]));
        prop_assert!(client.prefix.is_empty() || client.prefix.starts_with('/'));
        prop_assert!(!client.prefix.starts_with("//"));
        if let Some(proto) = headers.get(PROTO) {
            prop_assert_eq!(proto, client.scheme.as_str());
        }
    }

    #[test]
    fn what_a_client_writes_to_the_left_changes_nothing(forged in chains(), is_own_line: bool) {
        let declared = "203.0.113.9, 10.1.1.1";
        let (honest, _) = resolved(&[("x-forwarded-for", declared), ("x-forwarded-proto", "https, http")]);
        let joined = format!("{forged}, {declared}");
        let chain: &[(&str, &str)] = match is_own_line {
            true => &[("x-forwarded-for", &forged), ("x-forwarded-for", declared)],
            false => &[("x-forwarded-for", &joined)],
        };
        let list = format!("{forged}, https, http");
        let fields = [chain, &[("x-forwarded-proto", &list)]].concat();
        prop_assert_eq!(resolved(&fields).0, honest);
    }

    #[test]
    fn a_client_can_hide_behind_its_proxy_but_name_nobody(forged in chains()) {
        let declared = "for=\"[2001:db8::9]:80\";by=\"[fd00::1]\";proto=https";
        let (honest, _) = resolved(&[("forwarded", declared)]);
        let (client, _) = resolved(&[("forwarded", &format!("{forged}, {declared}"))]);
        let hidden = client.address == Some("10.0.0.1".parse().unwrap());
        prop_assert!(client == honest || hidden && client.scheme == Scheme::Http, "{client:?}");
    }

    #[test]
    fn a_list_is_the_same_on_one_line_and_on_several(members in prop::collection::vec("[0-9a-f.:]{1,12}", 1..8), cut in 0usize..8) {
        let (left, right) = members.split_at(cut.min(members.len()));
        let (left, right) = (left.join(", "), right.join(", "));
        let one = members.join(", ");
        let (whole, _) = resolved(&[("x-forwarded-for", &one)]);
        let (split, _) = resolved(&[("x-forwarded-for", &left), ("x-forwarded-for", &right)]);
        prop_assert_eq!(whole, split);
    }

    #[test]
    fn an_address_is_read_back_in_every_spelling(address: IpAddr, port in 1u16..) {
        let address = address.to_canonical();
        let bracketed = match address {
            IpAddr::V4(address) => address.to_string(),
            IpAddr::V6(address) => format!("[{address}]"),
        };
        prop_assert_eq!(node(address.to_string().as_bytes()), Some((address, None)));
        prop_assert_eq!(node(bracketed.as_bytes()), Some((address, None)));
        prop_assert_eq!(node(format!("{bracketed}:{port}").as_bytes()), Some((address, Some(port))));
    }
}
