//! The cells that fail today, with the fault that explains them. A fault that is mended must
//! leave this list: a cell that fails for certain and passes fails the test.

use super::Cell;
use super::answerers::Answerer;
use super::shapes::Shape;

/// A fault and the cells that show it.
pub struct Known {
    pub fault: &'static str,
    /// The cells that fail by it for certain. A fault that shows by chance has none.
    pub fails: fn(&Cell) -> bool,
    /// The failures, by cell and aspect, that it explains.
    pub explains: fn(&Cell, &str) -> bool,
}

pub const KNOWN: &[Known] = &[Known {
    fault: "hyper drops the connection of a request that asked for an upgrade and got none, \
                without shutting it down first: nothing lingers, and an unread body resets it",
    fails: by_chance,
    explains: |cell, aspect| {
        cell.shape == Shape::UpgradeExpect && is_unread(cell) && aspect == "connection"
    },
}];

fn by_chance(_: &Cell) -> bool {
    false
}

fn is_unread(cell: &Cell) -> bool {
    let is_file = cell.answerer.is_file() && cell.answerer != Answerer::Nginx;
    is_file || cell.answerer.is_fixed()
}
