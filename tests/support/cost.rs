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

/// Resident memory of the server's own process, in bytes.
pub fn memory(server: &Server) -> u64 {
    let pid = server.pid().as_raw_nonzero();
    let text = std::fs::read_to_string(format!("/proc/{pid}/statm")).unwrap();
    let pages: u64 = text.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

/// By how many MiB that has grown since it was `before` bytes.
pub fn grown(server: &Server, before: u64) -> u64 {
    memory(server).saturating_sub(before) >> 20
}

/// The most resident memory that the server's own process has had, in bytes.
pub fn most_memory(server: &Server) -> u64 {
    let pid = server.pid().as_raw_nonzero();
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
    kilobytes.unwrap().parse::<u64>().unwrap() * 1024
}
