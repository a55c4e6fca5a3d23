//! The memory map of this process, as `/proc/self/maps` lists it.

use std::fs;
use std::ops::Range;

/// One mapping.
pub struct Mapping {
    /// Its addresses.
    pub addresses: Range<u64>,
    /// True if it is executable.
    pub is_code: bool,
    /// The file, or empty.
    pub path: String,
}

/// All mappings, by address; none without `/proc`.
pub fn read() -> Vec<Mapping> {
    let text = fs::read("/proc/self/maps").unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    text.lines().filter_map(parse).collect()
}

/// `7f8e06200000-7f8e06a00000 rw-p 00000000 08:01 1234    /usr/lib/libc.so.6`
fn parse(line: &str) -> Option<Mapping> {
    let mut fields = line.splitn(6, ' ');
    let (start, end) = fields.next()?.split_once('-')?;
    let number = |digits| u64::from_str_radix(digits, 16).ok();
    Some(Mapping {
        addresses: number(start)?..number(end)?,
        is_code: fields.next()?.contains('x'),
        path: fields.nth(3).unwrap_or_default().trim_start().to_owned(),
    })
}

/// The mapping that `address` is in.
pub fn find(mappings: &[Mapping], address: u64) -> Option<&Mapping> {
    let after = mappings.partition_point(|mapping| mapping.addresses.start <= address);
    let mapping = mappings.get(after.checked_sub(1)?)?;
    mapping.addresses.contains(&address).then_some(mapping)
}
