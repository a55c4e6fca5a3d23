//! One request's line in the access log, from its first byte to the last byte of its response, or
//! to the client's disconnect (status 499, as in nginx).

use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Instant, SystemTime};

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, HOST, REFERER, USER_AGENT};
use http::{HeaderName, HeaderValue, Method, StatusCode, Version, request, response};
use http_body::{Body as _, Frame, SizeHint};

use super::ended::{Answer, Ended};
use super::environ::protocol;
use crate::front::activity::InUse;
use crate::front::body::Body;
use crate::front::body::flushed::Break;
use crate::front::client_limits::in_hand::InHand;
use crate::front::context::{Client, RequestLabel, Target};
use crate::front::protocol::plain::Plain;
use crate::front::response_rules::ResponseRules;
use crate::front::sendfile::queue::Unsent;
use crate::observe::access_log::{AccessLog, TlsSession};
use crate::observe::handled_by::HandledBy;
use crate::observe::metrics::{LocationMetrics, METRICS};

/// Longest part of a response that waits for the window of an HTTP/2 client.
const LONGEST_PART: usize = 64 << 10;

/// Status that nginx logs for a client that disconnected before its response was complete.
const CLIENT_CLOSED_REQUEST: u16 = 499;

/// A request in progress.
pub struct Record {
    log: Arc<AccessLog>,
    identity: Arc<RequestLabel>,
    remote: Option<IpAddr>,
    /// The client's TLS session.
    tls: Option<TlsSession>,
    version: Version,
    headers: Kept,
    began: Instant,
    time: SystemTime,
    status: u16,
    bytes: u64,
    answer: Answer,
    /// The location's metrics.
    place: &'static LocationMetrics,
    /// The location's rules for responses; `None` outside of locations.
    rules: Option<ResponseRules>,
    /// The time when the response began to be sent.
    sending: Option<Instant>,
    /// True if the request is counted but not logged.
    is_unlogged: bool,
    /// Set when all of the request's body has been passed on, where it is passed on while it
    /// arrives.
    streamed: Option<Arc<AtomicBool>>,
}

/// State of a request's body when the head of the response is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyRead {
    /// Read to its end.
    Whole,
    /// The application still reads it, or has stopped to.
    Begun,
    /// Dropped.
    Unwanted,
}

/// Header values that the log shows.
#[derive(Default)]
struct Kept {
    authorization: Option<HeaderValue>,
    host: Option<HeaderValue>,
    referer: Option<HeaderValue>,
    user_agent: Option<HeaderValue>,
}

impl Record {
    /// Begins the record of a request.
    pub fn begin(
        log: &Arc<AccessLog>,
        identity: &Arc<RequestLabel>,
        client: &Client,
        head: &request::Parts,
    ) -> Self {
        let keep = |name: HeaderName| head.headers.get(name).cloned();
        // Over HTTP/2 the host is in the target (RFC 9113 §8.3.1).
        let authority = || {
            let authority = head.uri.authority()?.as_str();
            HeaderValue::from_str(authority).ok()
        };
        let headers = match log.is_off() {
            true => Kept::default(),
            false => Kept {
                authorization: keep(AUTHORIZATION),
                host: keep(HOST).or_else(authority),
                referer: keep(REFERER),
                user_agent: keep(USER_AGENT),
            },
        };
        Self {
            log: Arc::clone(log),
            identity: Arc::clone(identity),
            remote: client.address,
            tls: None,
            version: head.version,
            headers,
            began: Instant::now(),
            time: SystemTime::now(),
            status: CLIENT_CLOSED_REQUEST,
            bytes: 0,
            answer: Answer::default(),
            place: METRICS.requests.at(""),
            rules: None,
            sending: None,
            is_unlogged: false,
            streamed: None,
        }
    }

    /// Sets the client's TLS session.
    pub fn inside(mut self, tls: Option<TlsSession>) -> Self {
        self.tls = tls;
        self
    }

    /// Sets the location of the request; until then it is the whole site.
    pub fn located(&mut self, prefix: &str, rules: &ResponseRules) {
        self.place = METRICS.requests.at(prefix);
        self.rules = Some(rules.clone());
    }

    /// Takes the rules of the location; `None` outside of locations.
    pub fn take_rules(&mut self) -> Option<ResponseRules> {
        self.rules.take()
    }

    /// The component that answered.
    pub fn answered_by(&self) -> HandledBy {
        self.answer.by
    }

    /// Excludes the request from the access log.
    pub fn leave_unlogged(&mut self) {
        self.is_unlogged = true;
    }

    /// Sets the component that answered.
    pub fn answered(&mut self, answer: Answer) {
        self.answer = answer;
    }

    /// The application gets the request's body while it arrives; `is_over` is set once it has all
    /// of it.
    pub fn streams(&mut self, is_over: Arc<AtomicBool>) {
        self.streamed = Some(is_over);
    }

    /// State of the request's body, if it has one.
    pub fn body_read(&self) -> BodyRead {
        match (&self.streamed, self.answer.by) {
            (Some(is_over), _) if is_over.load(Ordering::Acquire) => BodyRead::Whole,
            (Some(_), _) => BodyRead::Begun,
            (None, HandledBy::App | HandledBy::Upstream) => BodyRead::Whole,
            (None, HandledBy::Static | HandledBy::Front) => BodyRead::Unwanted,
        }
    }

    /// The response is sent from now on: the record moves into its body. Boxed: hyper moves it
    /// several times, and has room for one in each connection.
    pub fn follow(
        mut self,
        head: &response::Parts,
        body: Body,
        mut in_use: InUse,
    ) -> Box<RecordedBody> {
        in_use.follow();
        let status = head.status;
        let is_close_delimited = self.version <= Version::HTTP_10
            && !head.headers.contains_key(CONTENT_LENGTH)
            && body.size_hint().exact().is_none();
        self.status = status.as_u16();
        self.sending = Some(Instant::now());
        let bodiless = self.identity.method == Method::HEAD
            || status == StatusCode::NO_CONTENT
            || status == StatusCode::NOT_MODIFIED;
        let in_hand = body.comes_in_parts(self.version).then(|| in_use.in_hand());
        Box::new(RecordedBody {
            body,
            in_hand,
            rest: Bytes::new(),
            version: self.version,
            record: Some(self),
            whole: bodiless,
            is_close_delimited,
            broken: None,
            in_use,
        })
    }
}

impl Record {
    /// The response ends; `unsent` of its files has not been sent.
    fn close(mut self, is_whole: bool, unsent: Unsent) {
        self.bytes = self.bytes.saturating_sub(unsent.bytes as u64);
        if !is_whole && !unsent.by_the_file {
            self.status = CLIENT_CLOSED_REQUEST;
        }
    }

    /// Counts body bytes of a response that is written without hyper.
    pub fn sent(&mut self, bytes: u64) {
        self.bytes += bytes;
    }

    /// Ends a response that is written without hyper.
    pub fn ends(&mut self, status: StatusCode) {
        self.status = status.as_u16();
    }
}

/// The record of a request for a file that is answered within one call: it borrows the data of a
/// [`Record`], and becomes one if the client does not take its response at once.
pub struct FastPathRecord<'a> {
    /// The request.
    pub plain: Plain<'a>,
    /// The request's id.
    pub request_id: String,
    /// The client's address.
    pub remote: Option<IpAddr>,
    /// The client's TLS session.
    pub tls: Option<TlsSession>,
    /// The time when the request's head was complete.
    pub began: Instant,
    /// That time by the wall clock.
    pub time: SystemTime,
    /// The status of the response.
    pub status: StatusCode,
    /// The location's metrics.
    pub place: &'static LocationMetrics,
}

impl FastPathRecord<'_> {
    /// The response was sent, with this number of body bytes.
    pub fn sent(&self, log: &AccessLog, bytes: u64) {
        let duration = self.began.elapsed();
        let fields = &self.plain.fields;
        let method = self.method();
        let ended = Ended {
            remote: self.remote,
            time: self.time,
            method: method.as_str().as_bytes(),
            target: self.plain.target.as_bytes(),
            protocol: protocol(Version::HTTP_11),
            tls: self.tls,
            status: self.status.as_u16(),
            bytes,
            authorization: fields.authorization,
            host: Some(fields.host),
            referer: fields.referer,
            user_agent: fields.user_agent,
            request_id: &self.request_id,
            duration,
            // The response was made without delay.
            sending: Some(duration),
            answer: &Answer::by(HandledBy::Static),
        };
        ended.count(self.place);
        ended.log(log);
    }

    /// The client does not take the response at once.
    pub fn into_record(self, log: &Arc<AccessLog>) -> Record {
        let value = |bytes: &[u8]| HeaderValue::from_bytes(bytes).ok();
        let fields = &self.plain.fields;
        let identity = RequestLabel {
            method: self.method(),
            target: Target(self.plain.target.to_owned()),
            request_id: self.request_id,
            as_sent: None,
        };
        Record {
            log: Arc::clone(log),
            identity: Arc::new(identity),
            remote: self.remote,
            tls: self.tls,
            version: Version::HTTP_11,
            headers: Kept {
                authorization: fields.authorization.and_then(value),
                host: value(fields.host),
                referer: fields.referer.and_then(value),
                user_agent: fields.user_agent.and_then(value),
            },
            began: self.began,
            time: self.time,
            status: CLIENT_CLOSED_REQUEST,
            bytes: 0,
            answer: Answer::by(HandledBy::Static),
            place: self.place,
            rules: None,
            sending: Some(self.began),
            is_unlogged: false,
            streamed: None,
        }
    }

    fn method(&self) -> Method {
        match self.plain.is_head {
            true => Method::HEAD,
            false => Method::GET,
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let now = Instant::now();
        let headers = &self.headers;
        let ended = Ended {
            remote: self.remote,
            time: self.time,
            method: self.identity.method_sent(),
            target: self.identity.target_sent(),
            protocol: protocol(self.version),
            tls: self.tls,
            status: self.status,
            bytes: self.bytes,
            authorization: headers.authorization.as_ref().map(HeaderValue::as_bytes),
            host: headers.host.as_ref().map(HeaderValue::as_bytes),
            referer: headers.referer.as_ref().map(HeaderValue::as_bytes),
            user_agent: headers.user_agent.as_ref().map(HeaderValue::as_bytes),
            request_id: &self.identity.request_id,
            duration: now - self.began,
            sending: self.sending.map(|sending| now - sending),
            answer: &self.answer,
        };
        ended.count(self.place);
        if !self.is_unlogged {
            ended.log(&self.log);
        }
    }
}

/// A response body that counts its bytes, and closes the record when it is dropped.
pub struct RecordedBody {
    body: Body,
    /// The end of a part that was too long.
    rest: Bytes,
    version: Version,
    /// `None` once it is closed.
    record: Option<Record>,
    /// True if the complete body has been handed to the connection.
    whole: bool,
    /// True if the body ends with the connection.
    is_close_delimited: bool,
    /// The error that truncates the body, not yet passed to the connection.
    broken: Option<Box<Break>>,
    /// Charges the body's parts; `None` where they take no memory of their own.
    in_hand: Option<InHand>,
    in_use: InUse,
}

impl http_body::Body for RecordedBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = self.get_mut();
        if this.broken.is_some() {
            return this.poll_broken(context).map(Some);
        }
        this.in_use.asked();
        let frame = match this.rest.is_empty() {
            true => {
                if let Some(in_hand) = &mut this.in_hand {
                    ready!(in_hand.poll_room(context));
                    this.body.read_in_parts_of(in_hand.room());
                }
                let frame = Pin::new(&mut this.body).poll_frame(context);
                // As a whole: all slices of the part hold its memory.
                frame.map_ok(|frame| frame.map_data(|data| this.charged(data)))
            }
            false => Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut this.rest))))),
        };
        let frame = frame.map_ok(|frame| this.shortened(frame));
        match &frame {
            Poll::Ready(Some(Ok(frame))) => {
                let length = frame.data_ref().map_or(0, Bytes::len);
                this.in_use.gave(length);
                if let Some(record) = &mut this.record {
                    record.bytes += length as u64;
                }
                this.whole |= this.is_end_stream();
            }
            Poll::Ready(None) => this.whole = true,
            Poll::Ready(Some(Err(_))) => {}
            Poll::Pending => {
                if let Some(in_hand) = &mut this.in_hand
                    && !this.body.is_being_read()
                {
                    in_hand.has_none();
                }
            }
        }
        if let Poll::Ready(Some(Err(error))) = frame {
            this.broken = Some(Box::new(Break::new(error, this.version)));
            return this.poll_broken(context).map(Some);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl RecordedBody {
    /// Passes the error on when the bytes before it have been written: the log line counts the
    /// bytes that were sent to the client.
    fn poll_broken(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Frame<Bytes>>> {
        let Some(broken) = &mut self.broken else {
            return Poll::Pending;
        };
        let error = ready!(broken.poll(context, self.in_use.flushes()));
        if self.is_close_delimited {
            self.in_use.breaks();
        }
        // It is our own or the application's, and was logged where it happened.
        self.whole = true;
        Poll::Ready(Err(error))
    }

    fn charged(&mut self, data: Bytes) -> Bytes {
        match &mut self.in_hand {
            Some(in_hand) if !data.is_empty() => in_hand.charged(data),
            _ => data,
        }
    }

    /// Holds back the excess over the longest part for HTTP/2: hyper accepts a part as a whole,
    /// even if the client's window is smaller.
    fn shortened(&mut self, frame: Frame<Bytes>) -> Frame<Bytes> {
        if self.version != Version::HTTP_2 {
            return frame;
        }
        match frame.into_data() {
            Ok(mut data) => {
                self.rest = data.split_off(data.len().min(LONGEST_PART));
                Frame::data(data)
            }
            Err(frame) => frame,
        }
    }
}

impl Drop for RecordedBody {
    fn drop(&mut self) {
        let Some(mut record) = self.record.take() else {
            return;
        };
        if let Some(app_time) = self.body.app_time() {
            record.answer.app = Some(app_time);
        }
        let is_whole = self.whole || self.is_end_stream();
        let sendfile_queue = self.in_use.sendfile_queue();
        match sendfile_queue.unsent() {
            Unsent { bytes: 0, .. } => record.close(is_whole, Unsent::default()),
            // The end of a file is still on its way.
            _ if is_whole => {
                sendfile_queue.when_sent(move |unsent| record.close(unsent.bytes == 0, unsent))
            }
            unsent => record.close(false, unsent),
        }
    }
}
