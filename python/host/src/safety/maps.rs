//! The memory map of this process.

use std::fs;

pub use pyserve_wire::maps::Mapping;

/// All mappings, by address; none without `/proc`.
pub fn read() -> Vec<Mapping> {
    let text = fs::read("/proc/self/maps").unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    text.lines().filter_map(Mapping::parse).collect()
}

/// Names memory without a file that this process would share with its children, by its size.
pub fn shared_memory(mappings: &[Mapping]) -> Vec<String> {
    // The kernel's name of a shared mapping without a file.
    let is_shared = |mapping: &&Mapping| {
        mapping.path == "/dev/zero (deleted)" && mapping.is_writable && !mapping.is_code
    };
    let shared = mappings.iter().filter(is_shared);
    let size = |mapping: &Mapping| mapping.addresses.end - mapping.addresses.start;
    let named = |size| format!("{size} bytes of shared memory, as of mmap.mmap(-1, {size})");
    shared.map(size).map(named).collect()
}

/// The mapping that `address` is in.
pub fn find(mappings: &[Mapping], address: u64) -> Option<&Mapping> {
    let after = mappings.partition_point(|mapping| mapping.addresses.start <= address);
    let mapping = mappings.get(after.checked_sub(1)?)?;
    mapping.addresses.contains(&address).then_some(mapping)
}
