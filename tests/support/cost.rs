//! What hostile clients may cost, seen from outside the server: descriptors of our own to be
//! many, and the memory of its process.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::server::Server;

/// The kernel keeps as much for this process as it may; each hostile client is a descriptor.
pub fn many_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, raised).expect("up to the hard limit");
}

/// Resident memory of the server's own process without the pages of files, its code, in bytes.
pub fn memory(server: &Server) -> u64 {
    size(server, "RssAnon:") + size(server, "RssShmem:")
}

fn size(server: &Server, field: &str) -> u64 {
    let pid = server.pid().as_raw_nonzero();
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
    kilobytes.unwrap().parse::<u64>().unwrap() * 1024
}

/// By how many MiB that has grown since it was `before` bytes.
pub fn grown(server: &Server, before: u64) -> u64 {
    memory(server).saturating_sub(before) >> 20
}

/// Begins to measure the most resident memory anew; that of now, in bytes.
pub fn reset_most_memory(server: &Server) -> u64 {
    let pid = server.pid().as_raw_nonzero();
    // proc(5), `/proc/pid/clear_refs`.
    std::fs::write(format!("/proc/{pid}/clear_refs"), "5").unwrap();
    most_memory(server)
}

/// The most resident memory that the server's own process has had, with its code, in bytes.
pub fn most_memory(server: &Server) -> u64 {
    size(server, "VmHWM:")
}
