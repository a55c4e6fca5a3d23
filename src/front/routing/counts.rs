//! The counts of connections and requests in the form of nginx's `stub_status`, which monitoring agents
//! read (`ngx_http_stub_status_module`).

use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderValue, Method, Response, StatusCode};

use crate::front::body::Body;
use crate::observe::handled_by::HandledBy;
use crate::observe::metrics::METRICS;

/// Numbers of one moment.
#[derive(Debug, Clone, Copy)]
struct Counts {
    accepted: u64,
    open: u64,
    reading: u64,
    writing: u64,
    requests: u64,
}

/// The response: nginx's also refuses other methods.
pub fn answer(method: &Method) -> Response<Body> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        let mut response = Response::new(Body::Empty);
        *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
        let allowed = HeaderValue::from_static("GET, HEAD");
        response.headers_mut().insert(ALLOW, allowed);
        return response;
    }
    let mut response = Response::new(Body::Full(now().text().into()));
    let text = HeaderValue::from_static("text/plain");
    response.headers_mut().insert(CONTENT_TYPE, text);
    response
}

fn now() -> Counts {
    let connections = &METRICS.connections;
    let writing = connections.active.get();
    let of_place = |by| {
        let places = METRICS.requests.all();
        places.filter_map(move |place| place.if_handled(by))
    };
    let answered = HandledBy::ALL.into_iter().flat_map(of_place);
    let answered = answered.flat_map(|requests| requests.statuses().map(|(_, count)| count));
    Counts {
        accepted: connections.accepted.get(),
        open: connections.open.get(),
        reading: connections.reading.get(),
        writing,
        // As in nginx, with those that are not answered yet.
        requests: answered.sum::<u64>() + writing,
    }
}

impl Counts {
    fn text(self) -> String {
        let Self {
            accepted,
            open,
            reading,
            writing,
            requests,
        } = self;
        // The counters are read one after another.
        let waiting = open.saturating_sub(reading + writing);
        format!(
            "Active connections: {open} \nserver accepts handled requests\n {accepted} {accepted} {requests} \n\
             Reading: {reading} Writing: {writing} Waiting: {waiting} \n"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_that_of_nginx() {
        let counts = Counts {
            accepted: 16,
            open: 3,
            reading: 0,
            writing: 1,
            requests: 31,
        };
        assert_eq!(
            counts.text(),
            "Active connections: 3 \nserver accepts handled requests\n 16 16 31 \nReading: 0 Writing: 1 Waiting: 2 \n"
        );
    }
}
