//! The cells that fail today, with the fault that explains them. A fault that is mended must
//! leave this list: a listed cell that passes fails the test.

use super::Cell;
use super::answerers::{Answerer, Length};
use super::listeners::Protocol;
use super::shapes::Shape;

/// A fault and the cells that show it.
pub struct Known {
    pub fault: &'static str,
    /// The cells that fail by it. Where none does for certain, it shows by chance, and one
    /// failure of all is enough.
    pub fails: fn(&Cell) -> bool,
    /// The failures, by cell and aspect, that it explains.
    pub explains: fn(&Cell, &str) -> bool,
}

pub const KNOWN: &[Known] = &[
    Known {
        fault: "over HTTP/2, uWSGI repeats HTTP/2.0 in its status line, which is no status here",
        fails: |cell| {
            let has_answer = !cell.shape.is_upgrade()
                && !matches!(cell.shape, Shape::ClientLeaves | Shape::ClientLeavesLater);
            is_http2_to_uwsgi(cell) && has_answer
        },
        explains: |cell, aspect| {
            is_http2_to_uwsgi(cell) && ["status", "connection", "log"].contains(&aspect)
        },
    },
    Known {
        fault: "cookies of HTTP/2 reach servers of HTTP in several lines",
        fails: |cell| {
            let is_echo = matches!(
                cell.shape,
                Shape::Get
                    | Shape::PostLength
                    | Shape::PostUnsized
                    | Shape::PostExpect
                    | Shape::Range
            );
            is_http2_to_http(cell) && is_echo
        },
        explains: |cell, aspect| {
            is_http2_to_http(cell) && ["body", "content-length", "connection"].contains(&aspect)
        },
    },
    Known {
        fault: "an upgrade with Content-Length: 0 is passed on without the upgrade",
        fails: is_upgrade_with_length,
        explains: |cell, aspect| is_upgrade_with_length(cell) && aspect == "status",
    },
    Known {
        fault: "over HTTP/2, HEAD of a text of ours, an error's page or a response of the settings, gets it",
        fails: is_head_of_text,
        explains: |cell, aspect| is_head_of_text(cell) && ["body", "framing"].contains(&aspect),
    },
    Known {
        fault: "hyper drops the connection of a request that asked for an upgrade and got none, \
                without shutting it down first: nothing lingers, and an unread body resets it",
        fails: by_chance,
        explains: |cell, aspect| {
            cell.shape == Shape::UpgradeExpect && is_unread(cell) && aspect == "connection"
        },
    },
    Known {
        fault: "over HTTP/2, a 204 or 304 has the Content-Length of a body that is not there",
        fails: |cell| is_length_of_nothing(cell) && !matches!(cell.answerer, Answerer::Waitress(_)),
        explains: |cell, aspect| is_length_of_nothing(cell) && aspect == "content-length",
    },
    Known {
        fault: "requests that hyper refuses are logged without method and target",
        fails: is_faulty_framing,
        explains: |cell, aspect| is_faulty_framing(cell) && aspect == "log",
    },
    Known {
        fault: "a client that half-closes behind its request is taken to have left",
        fails: by_chance,
        explains: |cell, aspect| is_half_close(cell) && ["answer", "log"].contains(&aspect),
    },
    Known {
        fault: "every chunked request costs its connection",
        fails: is_chunked,
        explains: |cell, aspect| is_chunked(cell) && aspect == "connection",
    },
    Known {
        fault: "HTTP/1.0 keep-alive is announced for responses that end with the connection",
        fails: is_unknown_length_to_http10,
        explains: |cell, aspect| is_unknown_length_to_http10(cell) && aspect == "connection",
    },
    Known {
        fault: "HEAD of a wsgi.file_wrapper lacks the fields that its GET has",
        fails: is_head_of_file_wrapper,
        explains: |cell, aspect| is_head_of_file_wrapper(cell) && aspect == "etag",
    },
    Known {
        fault: "ranges are cut from the compressed form",
        fails: is_range_of_compressed,
        explains: |cell, aspect| {
            let aspects = ["body", "content-encoding", "content-range"];
            is_range_of_compressed(cell) && aspects.contains(&aspect)
        },
    },
];

fn by_chance(_: &Cell) -> bool {
    false
}

fn is_http2_to_uwsgi(cell: &Cell) -> bool {
    cell.listener.is_http2() && matches!(cell.answerer, Answerer::Uwsgi(_))
}

fn is_http2_to_http(cell: &Cell) -> bool {
    let is_http = matches!(
        cell.answerer,
        Answerer::Gunicorn(_) | Answerer::Waitress(_) | Answerer::Uvicorn(_)
    );
    cell.listener.is_http2() && is_http
}

fn is_upgrade_with_length(cell: &Cell) -> bool {
    cell.shape == Shape::UpgradeLengthZero
        && cell.listener.protocol == Protocol::Http11
        && matches!(cell.answerer, Answerer::Uvicorn(_))
}

fn is_length_of_nothing(cell: &Cell) -> bool {
    let passes_it_on = match cell.shape {
        Shape::Conditional => true,
        Shape::NoContent => matches!(cell.answerer, Answerer::Uvicorn(_)),
        _ => false,
    };
    cell.listener.is_http2() && cell.answerer.is_page() && passes_it_on && !is_http2_to_uwsgi(cell)
}

fn is_head_of_text(cell: &Cell) -> bool {
    let is_ours = matches!(cell.answerer, Answerer::Respond | Answerer::Missing);
    cell.listener.is_http2() && cell.shape == Shape::Head && is_ours
}

fn is_unread(cell: &Cell) -> bool {
    let is_file = cell.answerer.is_file() && cell.answerer != Answerer::Nginx;
    is_file || cell.answerer.is_fixed()
}

fn is_faulty_framing(cell: &Cell) -> bool {
    cell.listener.is_http10() && cell.shape == Shape::PostUnsized
}

fn is_half_close(cell: &Cell) -> bool {
    cell.shape == Shape::HalfClosed
}

fn is_chunked(cell: &Cell) -> bool {
    let is_read =
        !cell.answerer.is_fixed() && (!cell.answerer.is_file() || cell.answerer == Answerer::Nginx);
    cell.shape == Shape::PostUnsized && cell.listener.protocol == Protocol::Http11 && is_read
}

fn is_unknown_length_to_http10(cell: &Cell) -> bool {
    let has_body = !matches!(
        cell.shape,
        Shape::Head
            | Shape::Conditional
            | Shape::PostUnsized
            | Shape::HalfClosed
            | Shape::ClientLeaves
            | Shape::ClientLeavesLater
    );
    cell.listener.protocol == Protocol::Http10KeepAlive
        && cell.answerer.length() == Length::Unknown
        && has_body
}

fn is_head_of_file_wrapper(cell: &Cell) -> bool {
    cell.shape == Shape::Head && cell.answerer == Answerer::AppFile
}

fn is_range_of_compressed(cell: &Cell) -> bool {
    cell.shape == Shape::Range && cell.answerer == Answerer::Precompressed
}
