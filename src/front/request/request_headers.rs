//! Header fields of requests that the settings set, add or remove before an application or server gets
//! them. Pure: rules and facts about the request in, fields out.

use http::{Extensions, HeaderMap, HeaderValue};

use crate::config::request_headers::{
    FORWARDED_FOR, FORWARDED_HOST, FORWARDED_PORT, FORWARDED_PROTO, RequestFact,
    RequestHeaderChange, RequestHeaderRule, RequestValue, ValuePart,
};
use crate::front::context::{Client, RequestLabel, Stated};

/// The facts about a request that a value may have.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// The client and the host that it requests.
    client: &'a Client,
    /// The request's id.
    request_id: &'a str,
    /// Path and query as the client sent them.
    target: &'a str,
}

/// Applies the rules in order, and marks requests of which one of them sets a field that servers get in
/// any case.
pub fn change(
    rules: &[RequestHeaderRule],
    facts: Facts<'_>,
    (headers, extensions): (&mut HeaderMap, &mut Extensions),
) {
    for rule in rules {
        match &rule.change {
            RequestHeaderChange::Set(value) => match facts.value(value, headers) {
                Some(value) => {
                    headers.insert(&rule.name, value);
                }
                // nginx: a field with an empty value is not passed on, nor is the client's.
                None => {
                    headers.remove(&rule.name);
                }
            },
            // A map that is full has thousands of fields; no client takes as many.
            RequestHeaderChange::Add(value) => {
                if let Some(value) = facts.value(value, headers) {
                    let _ = headers.try_append(&rule.name, value);
                }
            }
            RequestHeaderChange::Remove => {
                headers.remove(&rule.name);
            }
        }
    }
    let has = |name| rules.iter().any(|rule| rule.name == name);
    let stated = Stated {
        host: has(FORWARDED_HOST),
        addresses: has(FORWARDED_FOR),
        scheme: has(FORWARDED_PROTO),
        port: has(FORWARDED_PORT),
    };
    if stated.host || stated.addresses || stated.scheme || stated.port {
        extensions.insert(stated);
    }
}

impl<'a> Facts<'a> {
    /// The facts about the request of this label; `target` as the client sent it.
    pub fn of(client: &'a Client, label: &'a RequestLabel, target: &'a str) -> Self {
        Self {
            client,
            request_id: &label.request_id,
            target,
        }
    }

    /// The value for a request with these fields; `None` for an empty one.
    fn value(self, value: &RequestValue, headers: &HeaderMap) -> Option<HeaderValue> {
        let parts = match value {
            RequestValue::Text(text) => return Some(text.clone()),
            RequestValue::Made(parts) => parts,
        };
        let mut made = String::new();
        for part in parts {
            match part {
                ValuePart::Text(text) => made.push_str(text),
                ValuePart::Fact(fact) => self.push(*fact, headers, &mut made),
            }
        }
        // Hosts and targets were checked, so every made value is one of a field.
        (!made.is_empty())
            .then(|| HeaderValue::try_from(made).ok())
            .flatten()
    }

    fn push(self, fact: RequestFact, headers: &HeaderMap, made: &mut String) {
        match fact {
            RequestFact::Client => {
                if let Some(address) = self.client.address {
                    made.push_str(&address.to_string());
                }
            }
            RequestFact::ForwardedFor => self.push_addresses(headers, made),
            RequestFact::Scheme => made.push_str(self.client.scheme.as_str()),
            RequestFact::Host => made.push_str(&self.client.host_name()),
            RequestFact::Authority => made.push_str(&self.client.host),
            RequestFact::Port => {
                made.push_str(itoa::Buffer::new().format(self.client.server_port));
            }
            RequestFact::Target => made.push_str(self.target),
            RequestFact::RequestId => made.push_str(self.request_id),
        }
    }

    /// nginx's `$proxy_add_x_forwarded_for`.
    fn push_addresses(self, headers: &HeaderMap, made: &mut String) {
        let said = headers.get_all(FORWARDED_FOR).into_iter();
        for list in said.filter_map(|value| value.to_str().ok()) {
            made.push_str(list);
            made.push_str(", ");
        }
        match self.client.address {
            Some(address) => made.push_str(&address.to_string()),
            None => made.truncate(made.trim_end_matches(", ").len()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;
    use crate::config::Scheme;
    use crate::config::request_headers::parse;
    use crate::front::context::Endpoints;

    #[test]
    fn values_have_the_facts_of_the_request() {
        let mut client = Client::direct(&Endpoints::default());
        client.address = Some(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 7)));
        client.scheme = Scheme::Https;
        client.host = "Shop.example:8443".to_owned();
        client.server_port = 8443;
        let facts = Facts {
            client: &client,
            request_id: "id-1",
            target: "/a%20b?c=d",
        };
        let check = |text: &str, expected: Option<&str>| {
            let mut headers = HeaderMap::new();
            headers.insert("x-a", HeaderValue::from_static("of the client"));
            let fields = (&mut headers, &mut Extensions::new());
            change(&[parse(text).unwrap()], facts, fields);
            let found = headers.get("x-a").and_then(|value| value.to_str().ok());
            assert_eq!(found, expected, "{text}");
        };
        check("X-A: {client}", Some("10.0.0.7"));
        check(
            "X-A: {scheme}://{host}:{port}{target}",
            Some("https://shop.example:8443/a%20b?c=d"),
        );
        check(
            "X-A: {authority} {request_id}",
            Some("Shop.example:8443 id-1"),
        );
        check("X-A: text", Some("text"));
        check("X-A: {forwarded_for}", Some("10.0.0.7"));
        check("remove X-A", None);
    }

    #[test]
    fn the_addresses_of_proxies_stand_before_that_of_the_client() {
        let mut client = Client::direct(&Endpoints::default());
        let check = |client: &Client, expected: &str| {
            let facts = Facts {
                client,
                request_id: "id-1",
                target: "/",
            };
            let mut headers = HeaderMap::new();
            headers.append(FORWARDED_FOR, HeaderValue::from_static("192.0.2.1"));
            headers.append(FORWARDED_FOR, HeaderValue::from_static("192.0.2.2"));
            let rule = parse("X-Forwarded-For: {forwarded_for}").unwrap();
            let mut extensions = Extensions::new();
            change(&[rule], facts, (&mut headers, &mut extensions));
            assert_eq!(headers[FORWARDED_FOR], expected);
            assert!(extensions.get::<Stated>().unwrap().addresses);
        };
        check(&client, "192.0.2.1, 192.0.2.2");
        client.address = Some(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 7)));
        check(&client, "192.0.2.1, 192.0.2.2, 10.0.0.7");
    }

    #[test]
    fn an_unknown_client_leaves_no_field() {
        let client = Client::direct(&Endpoints::default());
        let facts = Facts {
            client: &client,
            request_id: "id-1",
            target: "/",
        };
        let mut headers = HeaderMap::new();
        headers.insert("x-real-ip", HeaderValue::from_static("forged"));
        let rule = parse("X-Real-IP: {client}").unwrap();
        change(&[rule], facts, (&mut headers, &mut Extensions::new()));
        assert!(headers.is_empty());
    }
}
