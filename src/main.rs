//! The `pyserve` binary: the allocator; the rest is the library.

use std::process::ExitCode;

/// Header maps, buffers and tasks are allocated for every request: measured with a hello
/// application, glibc's allocator costs the front 7 % of its time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    pyserve::main()
}
