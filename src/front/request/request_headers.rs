//! Header fields of requests that the settings set, add or remove before an application or server gets
//! them. Pure: rules and facts about the request in, fields out.

use http::{Extensions, HeaderMap, HeaderValue};

use crate::config::request_headers::{
    FORWARDED_HOST, RequestFact, RequestHeaderChange, RequestHeaderRule, RequestValue, ValuePart,
};
use crate::front::context::{Client, HostIsStated, RequestLabel};

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

/// Applies the rules in order, and marks requests whose `X-Forwarded-Host` one of them sets.
pub fn change(
    rules: &[RequestHeaderRule],
    facts: Facts<'_>,
    (headers, extensions): (&mut HeaderMap, &mut Extensions),
) {
    for rule in rules {
        match &rule.change {
            RequestHeaderChange::Set(value) => match facts.value(value) {
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
                if let Some(value) = facts.value(value) {
                    let _ = headers.try_append(&rule.name, value);
                }
            }
            RequestHeaderChange::Remove => {
                headers.remove(&rule.name);
            }
        }
    }
    if rules.iter().any(|rule| rule.name == FORWARDED_HOST) {
        extensions.insert(HostIsStated);
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

    /// The value for this request; `None` for an empty one.
    fn value(self, value: &RequestValue) -> Option<HeaderValue> {
        let parts = match value {
            RequestValue::Text(text) => return Some(text.clone()),
            RequestValue::Made(parts) => parts,
        };
        let mut made = String::new();
        for part in parts {
            match part {
                ValuePart::Text(text) => made.push_str(text),
                ValuePart::Fact(fact) => self.push(*fact, &mut made),
            }
        }
        // Hosts and targets were checked, so every made value is one of a field.
        (!made.is_empty())
            .then(|| HeaderValue::try_from(made).ok())
            .flatten()
    }

    fn push(self, fact: RequestFact, made: &mut String) {
        match fact {
            RequestFact::Client => {
                if let Some(address) = self.client.address {
                    made.push_str(&address.to_string());
                }
            }
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
        check("remove X-A", None);
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
