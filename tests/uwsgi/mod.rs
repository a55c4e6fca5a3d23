//! `--uwsgi`: a server behind pyserve that speaks the uwsgi protocol and does exactly what a test
//! says. The real ones are in `real_upstreams.rs`.

mod answers;
mod availability;
mod pace;
mod packet;

use crate::support::backend::Backend;
use crate::support::raw::Response;
use crate::support::server::{Pyserve, Server};

/// pyserve before these servers.
fn before(addresses: &[&str]) -> Pyserve {
    let mut pyserve = Pyserve::new().without("PYSERVE_PYTHON");
    for address in addresses {
        pyserve = pyserve.args(["--uwsgi", address]);
    }
    pyserve
}

fn in_front_of(backend: &Backend) -> Server {
    before(&[backend.address()]).ready()
}

fn answered(answer: impl Into<Vec<u8>>) -> Response {
    let backend = Backend::saying(answer);
    in_front_of(&backend).get("/")
}
