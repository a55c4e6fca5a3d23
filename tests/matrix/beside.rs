//! A real nginx under the same rules: where a rule names nginx, it has to be right about it, and
//! where nginx does otherwise, a reason stands here.

use super::answerers::Answerer;
use super::compare;
use super::exchange::{followers, over_http1};
use super::listeners::{Listener, Protocol, Proxy, Security, Transport};
use super::shapes::{Shape, request};
use super::site::Site;
use super::{Cell, Delivery, rules};
use crate::support::nginx::Nginx;

/// Whether a difference shows in a cell, in an aspect; and why nginx has it.
type Difference = (fn(&Cell, &str) -> bool, &'static str);

/// Cells and aspects in which nginx breaks a rule, and why that is so.
const DIFFERENCES: &[Difference] = &[
    (
        |cell, aspect| cell.answerer.is_file() && cell.shape.is_post() && aspect == "allow",
        "nginx sends no Allow with its 405",
    ),
    (
        |cell, aspect| {
            let is_missing = cell.answerer == Answerer::Missing && cell.shape.is_post();
            is_missing && aspect == "status"
        },
        "nginx looks for the file before the method: 404",
    ),
    (
        |cell, aspect| {
            let is_bodiless = matches!(cell.shape, Shape::Conditional | Shape::NoContent);
            cell.answerer.is_page() && is_bodiless && aspect == "content-length"
        },
        "nginx passes a length on that a server behind says of nothing",
    ),
    (
        |cell, aspect| {
            let is_packed = cell.answerer == Answerer::Precompressed;
            is_packed && cell.shape == Shape::Range && aspect == "status"
        },
        "nginx sends all of a precompressed file where a part is asked for",
    ),
];

/// What nginx does otherwise than the rules, and no reason stands here for; and reasons for
/// nothing. The number of cells comes with them.
pub fn complaints(site: &Site, nginx: &Nginx) -> (usize, Vec<String>) {
    let tags = site.learn_tags(|| nginx.connect());
    let mut complaints = Vec::new();
    let mut used = vec![false; DIFFERENCES.len()];
    let cells: Vec<_> = Cell::all().filter(|cell| is_served(cell, site)).collect();
    for (number, cell) in cells.iter().enumerate() {
        let expected = rules::expected(cell, &tags);
        let received = over_http1(
            nginx.connect(),
            cell.listener.protocol,
            &request(cell, &tags, &format!("cell={number}")),
            &followers(cell, &tags, number),
            Delivery::Whole,
        );
        for mismatch in compare::response(&expected, &received) {
            let mut reasons = DIFFERENCES.iter();
            match reasons.position(|(applies, _)| applies(cell, mismatch.aspect)) {
                Some(at) => used[at] = true,
                None => complaints.push(format!("nginx: {cell}: {mismatch}")),
            }
        }
    }
    for ((_, reason), used) in DIFFERENCES.iter().zip(used) {
        if !used {
            complaints.push(format!("nginx does not differ any more: {reason}"));
        }
    }
    (cells.len(), complaints)
}

/// Whether nginx has the same: HTTP/1 over its socket, and no application in it.
fn is_served(cell: &Cell, site: &Site) -> bool {
    let Listener {
        protocol,
        transport: Transport::Unix,
        proxy: Proxy::None,
        security: Security::Clear,
    } = cell.listener
    else {
        return false;
    };
    let has = match cell.answerer {
        Answerer::App(_) | Answerer::AppFile | Answerer::AppInternal => false,
        // gunicorn in front of nginx's uwsgi module says nothing about nginx; and nginx passes
        // no upgrades on by default.
        Answerer::GunicornUwsgi(_) | Answerer::Nginx => false,
        Answerer::Uvicorn(_) => !cell.shape.is_upgrade(),
        _ => site.has(cell.answerer),
    };
    has && protocol != Protocol::Http2
        && !is_by_chance(cell)
        && !matches!(cell.shape, Shape::ClientLeaves | Shape::ClientLeavesLater)
        && rules::impossible(cell).is_none()
}

/// Cells in which nginx does now this, now that: it gives up a client that half-closes and has
/// to wait, for a server or for room in the socket; and behind a body that a server has not read
/// it announces keep-alive and closes, or answers 502.
fn is_by_chance(cell: &Cell) -> bool {
    let is_at_once = cell.answerer.is_fixed() || cell.answerer == Answerer::FileInMemory;
    match cell.shape {
        Shape::HalfClosed => !is_at_once,
        Shape::EarlyAnswer => cell.answerer.is_page(),
        _ => false,
    }
}
