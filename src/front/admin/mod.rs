//! Probes, metrics and status over HTTP, on a listener of their own (`--admin`).
//!
//! | path | answer |
//! |---|---|
//! | `/-/live` | 200 while the front runs |
//! | `/-/ready` | 200 if requests would be served, else 503 and why |
//! | `/-/metrics` | Prometheus' text format, or OpenMetrics where `Accept` wants it |
//! | `/-/status` | JSON, see `observe::status` |
//!
//! Only GET and HEAD, and nothing that changes anything: orders go through the control
//! socket. What is asked goes to the supervisor and never into the queue of the workers, so
//! there is an answer while all of them hang. With `--admin-on-main` the first two paths
//! are answered on the other listeners as well ([`Probes::on_main`]).

mod exposition;

use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, Response};
use tokio::sync::{mpsc, oneshot};

use super::error::Refusal;
use crate::observe::status::Status;
use exposition::Format;

/// Time limit for the supervisor's reply. Only a start of processes on a loaded machine delays it a
/// moment.
const PATIENCE: Duration = Duration::from_secs(2);

/// A query that only the supervisor can answer, with the channel for its reply.
#[derive(Debug)]
pub enum SupervisorQuery {
    /// The complete status.
    Status(oneshot::Sender<Status>),
    /// The readiness; `Err` has the reason why requests would not be served.
    Ready(oneshot::Sender<Result<(), String>>),
}

/// Answers the paths below `/-/`.
#[derive(Debug, Clone)]
pub struct Probes(mpsc::Sender<SupervisorQuery>);

/// The paths below `/-/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probe {
    /// `/-/live`: the front runs.
    Live,
    /// `/-/ready`: requests would be served.
    Ready,
    /// `/-/metrics`.
    Metrics,
    /// `/-/status`.
    Status,
}

impl Probe {
    /// The probe at a path; the query is ignored.
    fn at(target: &str) -> Option<Self> {
        match target.split('?').next().unwrap_or_default() {
            "/-/live" => Some(Self::Live),
            "/-/ready" => Some(Self::Ready),
            "/-/metrics" => Some(Self::Metrics),
            "/-/status" => Some(Self::Status),
            _ => None,
        }
    }
}

impl Probes {
    /// Sends the queries to the reader of this channel.
    pub fn new(questions: mpsc::Sender<SupervisorQuery>) -> Self {
        Self(questions)
    }

    /// Answers a path of the admin listener.
    pub async fn answer(
        &self,
        method: &Method,
        target: &str,
        headers: &HeaderMap,
    ) -> Response<Bytes> {
        match Probe::at(target) {
            Some(probe) => self.say(probe, method, headers).await,
            None => refused(&Refusal::NotFound),
        }
    }

    /// The probe at a path of the main listeners, if there is one.
    pub fn on_main(target: &str) -> Option<Probe> {
        // Fast check: most paths are not below `/-/`.
        let probe = target.starts_with("/-/").then(|| Probe::at(target))??;
        matches!(probe, Probe::Live | Probe::Ready).then_some(probe)
    }

    /// Responds to a probe.
    pub async fn say(&self, probe: Probe, method: &Method, headers: &HeaderMap) -> Response<Bytes> {
        if !matches!(*method, Method::GET | Method::HEAD) {
            return refused(&Refusal::MethodNotAllowed);
        }
        let said = match probe {
            Probe::Live => Ok(said("text/plain; charset=utf-8", "live\n")),
            Probe::Ready => self
                .ask(SupervisorQuery::Ready)
                .await
                .and_then(|ready| ready.map_err(Refusal::NotReady))
                .map(|()| said("text/plain; charset=utf-8", "ready\n")),
            Probe::Metrics => self.ask(SupervisorQuery::Status).await.map(|status| {
                let format = Format::accepted(headers.get(ACCEPT));
                said(format.content_type(), exposition::write(&status, format))
            }),
            Probe::Status => self.ask(SupervisorQuery::Status).await.map(|status| {
                let mut json = serde_json::to_string_pretty(&status).unwrap_or_default();
                json.push('\n');
                said("application/json", json)
            }),
        };
        said.unwrap_or_else(|refusal| refused(&refusal))
    }

    async fn ask<T>(
        &self,
        question: impl FnOnce(oneshot::Sender<T>) -> SupervisorQuery,
    ) -> Result<T, Refusal> {
        let (sender, receiver) = oneshot::channel();
        let asked = async {
            self.0.send(question(sender)).await.ok()?;
            receiver.await.ok()
        };
        let answered = tokio::time::timeout(PATIENCE, asked).await;
        let silent = || Refusal::NotReady("the supervisor does not answer".to_owned());
        answered.ok().flatten().ok_or_else(silent)
    }
}

fn said(content_type: &'static str, body: impl Into<Bytes>) -> Response<Bytes> {
    let mut response = Response::new(body.into());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn refused(refusal: &Refusal) -> Response<Bytes> {
    let words = match refusal {
        Refusal::NotFound => {
            "not found; there are /-/live, /-/ready, /-/metrics and /-/status\n".to_owned()
        }
        Refusal::MethodNotAllowed => "only GET and HEAD\n".to_owned(),
        Refusal::NotReady(why) => format!("not ready: {why}\n"),
    };
    let mut response = said("text/plain; charset=utf-8", words);
    *response.status_mut() = refusal.status();
    if *refusal == Refusal::MethodNotAllowed {
        let allowed = HeaderValue::from_static("GET, HEAD");
        response.headers_mut().insert(ALLOW, allowed);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_main_listeners_tell_two_things_only() {
        for (target, expected) in [
            ("/-/live", Some(Probe::Live)),
            ("/-/ready?x=1", Some(Probe::Ready)),
            ("/-/metrics", None),
            ("/-/status", None),
            ("/-/", None),
            ("/", None),
            ("*", None),
        ] {
            assert_eq!(Probes::on_main(target), expected, "{target}");
        }
    }

    #[tokio::test]
    async fn a_supervisor_that_has_gone_is_not_ready() {
        let (sender, receiver) = mpsc::channel(1);
        drop(receiver);
        let probes = Probes::new(sender);
        let answer = |path: &'static str| {
            let probes = probes.clone();
            async move { probes.answer(&Method::GET, path, &HeaderMap::new()).await }
        };
        assert_eq!(answer("/-/ready").await.status(), 503);
        assert_eq!(answer("/-/live").await.status(), 200);
        assert_eq!(answer("/metrics").await.status(), 404);
    }
}
