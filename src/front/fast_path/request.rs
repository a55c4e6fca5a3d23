//! The fast path of a plain request for a file in memory: the steps of
//! [`answer`](crate::front::request::answer) that apply to it, in the same order and by the same
//! functions, within one call, with the response as bytes.
//!
//! A request that would be rejected, redirected or wait is [`Recognised::NotEligible`], and takes
//! the full pipeline from its first byte. So no decision here can differ from the one there.

use std::borrow::Cow;
use std::cell::Cell;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::Method;
use http::header::STRICT_TRANSPORT_SECURITY;

use crate::config::tls::HttpsRedirect;
use crate::config::{Scheme, Trust};
use crate::front::activity::Activity;
use crate::front::admin::Probes;
use crate::front::body::negotiate::Accepted;
use crate::front::context;
use crate::front::protocol::forwarded;
use crate::front::protocol::limits::valid_host;
use crate::front::protocol::plain;
use crate::front::protocol::plain::{Plain, Recognised};
use crate::front::request::common_fields::common_fields;
use crate::front::request::files::Covering;
use crate::front::request::record::FastPathRecord;
use crate::front::routing::normal_target;
use crate::front::routing::origin::RequestedOrigin;
use crate::front::site::Site;
use crate::front::static_files::{Plainly, Sealed};
use crate::observe::access_log::AccessLog;
use crate::observe::metrics::METRICS;

/// A complete response: the head, which the caller has, and this.
pub struct AtOnce<'a> {
    /// The body.
    pub body: Bytes,
    /// The memory file of which the body is all, if it is in one.
    pub sealed: Option<Arc<Sealed>>,
    /// The request's record.
    pub brief: FastPathRecord<'a>,
    /// The access log.
    pub log: Arc<AccessLog>,
}

/// Results of the last request of a connection, usually valid for the next one.
#[derive(Debug, Default)]
pub struct ConnectionMemo {
    /// A valid host.
    host: Vec<u8>,
    /// A value of `Accept-Encoding`; `accepted` is its parsed form.
    accept: Vec<u8>,
    accepted: Accepted,
}

/// Answers the request at the start of `bytes`; writes the head to `out`.
pub fn answer<'a>(
    site: &Site,
    activity: &Activity,
    bytes: &'a [u8],
    memo: &mut ConnectionMemo,
    out: &mut Vec<u8>,
) -> Recognised<AtOnce<'a>> {
    if activity.lacks_tls {
        return Recognised::NotEligible;
    }
    let target = match plain::target(bytes) {
        Recognised::Plain(target) => target,
        Recognised::Incomplete => return Recognised::Incomplete,
        Recognised::NotEligible => return Recognised::NotEligible,
    };
    let is_normal = matches!(normal_target::normal(target), Ok(Cow::Borrowed(_)));
    if !is_normal {
        return Recognised::NotEligible;
    }
    let origin = match site.hosts.is_empty() {
        true => RequestedOrigin::of_method(method(bytes)),
        false => match origin(site, activity, bytes) {
            Recognised::Plain(origin) => origin,
            Recognised::Incomplete => return Recognised::Incomplete,
            Recognised::NotEligible => return Recognised::NotEligible,
        },
    };
    let Some(files) = Covering::of(site, target, origin) else {
        return Recognised::NotEligible;
    };
    match plain::read(bytes, trusted(site, activity)) {
        Recognised::Plain(plain) => match for_file(site, activity, &files, plain, memo, out) {
            Some(answer) => Recognised::Plain(answer),
            None => Recognised::NotEligible,
        },
        Recognised::Incomplete => Recognised::Incomplete,
        Recognised::NotEligible => Recognised::NotEligible,
    }
}

/// The settings of trusted proxies, if the peer is one.
fn trusted<'a>(site: &'a Site, activity: &Activity) -> Option<&'a Trust> {
    activity.ends.trusted.then_some(&site.trust)
}

/// The method of a request that [`plain::target`] recognises.
fn method(bytes: &[u8]) -> &'static Method {
    match bytes.first() {
        Some(b'H') => &Method::HEAD,
        _ => &Method::GET,
    }
}

/// The origin of a request, where the settings name hosts or schemes. What proxies say of it takes the
/// full pipeline.
fn origin<'a>(
    site: &'a Site,
    activity: &Activity,
    bytes: &[u8],
) -> Recognised<RequestedOrigin<'a>> {
    match plain::read(bytes, trusted(site, activity)) {
        Recognised::Plain(plain) if plain.fields.forwarded.is_empty() => {
            match str::from_utf8(plain.fields.host) {
                Ok(host) => {
                    Recognised::Plain(site.hosts.find(activity.ends.scheme, host, method(bytes)))
                }
                Err(_) => Recognised::NotEligible,
            }
        }
        Recognised::Incomplete => Recognised::Incomplete,
        Recognised::Plain(_) | Recognised::NotEligible => Recognised::NotEligible,
    }
}

fn for_file<'a>(
    site: &Site,
    activity: &Activity,
    files: &Covering<'_>,
    mut plain: Plain<'a>,
    memo: &mut ConnectionMemo,
    out: &mut Vec<u8>,
) -> Option<AtOnce<'a>> {
    let (began, time) = (Instant::now(), SystemTime::now());
    let request_id = context::request_id(&plain.fields.forwarded, activity.ends.trusted);
    let (address, scheme) = match plain.fields.forwarded.is_empty() {
        true => (activity.ends.peer_ip(), activity.ends.scheme),
        false => {
            let fields = &mut plain.fields.forwarded;
            let client = forwarded::resolve(fields, None, &activity.ends, &site.trust);
            (client.address, client.scheme)
        }
    };
    let is_probe = site.probes.is_some() && Probes::on_main(plain.target).is_some();
    let is_redirected = site.https.redirect != HttpsRedirect::Off && scheme == Scheme::Http;
    if is_probe
        || is_redirected
        || site.maintenance.is_on()
        || site.connections.is_full()
        || !site.keeps_alive
        || !memo.is_valid_host(plain.fields.host)
    {
        return None;
    }
    let otherwise = site.router.find(plain.target, files.origin());
    let asked = Plainly {
        with_body: !plain.is_head,
        accepted: memo.accepted(plain.fields.accept_encoding),
        if_none_match: plain.fields.if_none_match,
        if_modified_since: plain.fields.if_modified_since,
    };
    let (ready, place) = files.at_once(site, otherwise, &asked, began)?;
    // Last, because a request counts once. A request over the limit here is over it there too.
    if let (Some(limit), Some(address)) = (&site.rate_limit, address) {
        limit.admit(address).ok()?;
    }
    METRICS.static_fast_path.inc();
    activity.answered_at_once(began);
    out.extend_from_slice(&ready.head);
    finish(out, site, &request_id, scheme, time);
    Some(AtOnce {
        body: ready.body,
        sealed: ready.sealed,
        brief: FastPathRecord {
            plain,
            request_id,
            remote: address,
            tls: activity.tls.as_ref().map(|tls| tls.session()),
            began,
            time,
            status: ready.status,
            place,
        },
        log: Arc::clone(&site.access_log),
    })
}

impl ConnectionMemo {
    fn is_valid_host(&mut self, host: &[u8]) -> bool {
        if self.host == host && !host.is_empty() {
            return true;
        }
        let is_valid = valid_host(host).is_some();
        if is_valid {
            self.host.clear();
            self.host.extend_from_slice(host);
        }
        is_valid
    }

    fn accepted(&mut self, field: Option<&[u8]>) -> Accepted {
        let Some(field) = field else {
            return Accepted::default();
        };
        if self.accept != field {
            self.accepted = Accepted::of_field(field);
            self.accept.clear();
            self.accept.extend_from_slice(field);
        }
        self.accepted
    }
}

/// Ends a head: the fields that every response has, and the date, which hyper adds last too.
fn finish(out: &mut Vec<u8>, site: &Site, request_id: &str, scheme: Scheme, time: SystemTime) {
    for field in common_fields(site, request_id, scheme) {
        // The location may have set it.
        if field.name == STRICT_TRANSPORT_SECURITY && has_field(out, field.written) {
            continue;
        }
        out.extend_from_slice(field.written.as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(field.bytes());
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"Date: ");
    out.extend_from_slice(&date(time));
    out.extend_from_slice(b"\r\n\r\n");
}

/// True if this head has the field.
fn has_field(head: &[u8], name: &str) -> bool {
    let mut lines = head.split(|byte| *byte == b'\n');
    lines.any(|line| {
        let found = line.split_at_checked(name.len());
        found.is_some_and(|(found, rest)| {
            found.eq_ignore_ascii_case(name.as_bytes()) && rest.starts_with(b":")
        })
    })
}

/// `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110 §5.6.7), formatted once a second in each thread.
fn date(time: SystemTime) -> [u8; DATE] {
    thread_local! {
        static LAST: Cell<(u64, [u8; DATE])> = const { Cell::new((u64::MAX, [b' '; DATE])) };
    }
    let second = time
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    let (last, text) = LAST.get();
    if last == second {
        return text;
    }
    let mut text = [b' '; DATE];
    text.copy_from_slice(httpdate::fmt_http_date(time).as_bytes());
    LAST.set((second, text));
    text
}

/// Bytes of a date.
const DATE: usize = 29;
