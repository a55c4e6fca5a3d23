//! The memory map of this process.

use std::fs;

pub use pyserve_wire::maps::Mapping;

/// All mappings, by address; none without `/proc`.
pub fn read() -> Vec<Mapping> {
    let text = fs::read("/proc/self/maps").unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    text.lines().filter_map(Mapping::parse).collect()
}

/// The mapping that `address` is in.
pub fn find(mappings: &[Mapping], address: u64) -> Option<&Mapping> {
    let after = mappings.partition_point(|mapping| mapping.addresses.start <= address);
    let mapping = mappings.get(after.checked_sub(1)?)?;
    mapping.addresses.contains(&address).then_some(mapping)
}
