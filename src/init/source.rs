//! Reads files of a project as text.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

/// Longest piece of a file that is read.
const LONGEST: u64 = 1 << 20;

/// The beginning of a text file.
pub fn read(path: &Path) -> Option<String> {
    if !path.is_file() {
        return None;
    }
    let mut bytes = Vec::new();
    let file = File::open(path).ok()?;
    file.take(LONGEST).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}
