//! What the integration tests share.
//!
//! [`server`] starts and ends the real binary, [`raw`], [`http2`] and [`handshake`] speak bytes to it, [`curl`] speaks HTTP/2 as strictly as clients do,
//! [`backend`] and [`behind`] are servers behind it, [`nginx`] one beside it, [`pebble`] an authority for certificates, [`probe`] hears what the
//! applications tell from inside, [`others`] what a normal client notices of an attack, [`cost`] what the server pays for it, [`python`] knows the interpreters of this machine,
//! [`tls`] makes certificates, [`over`] runs a test with and without TLS, [`provision`] brings what the machine lacks; [`process_tree`] ends what the tests start; [`versions`] sends one request over each version of HTTP. `slow_disk.py` is a file system. No test sleeps or retries: every wait ends with an
//! event, and [`DEADLINE`] only bounds how long a failing test takes.

pub mod backend;
pub mod behind;
pub mod cost;
pub mod curl;
pub mod handshake;
pub mod hpack;
pub mod http2;
pub mod idle_cpus;
pub mod lines;
pub mod load;
pub mod memory_group;
pub mod nginx;
pub mod others;
pub mod over;
pub mod pebble;
pub mod probe;
pub mod process_tree;
pub mod provision;
pub mod python;
pub mod raw;
pub mod server;
pub mod tls;
pub mod versions;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Longest wait for anything. Far above what a loaded machine needs: passing tests never
/// see it.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// The folder of the test applications.
pub fn apps() -> PathBuf {
    source("tests/apps")
}

/// A path in the source tree.
pub fn source(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Copies a program, in a process of its own: a copy that this process writes cannot be executed
/// (`ETXTBSY`) while a child that another test has just forked holds the descriptor.
pub fn copy_program(from: impl AsRef<Path>, to: impl AsRef<Path>) {
    let copied = std::process::Command::new("cp")
        .arg(from.as_ref())
        .arg(to.as_ref())
        .status();
    assert!(copied.is_ok_and(|status| status.success()), "cp failed");
}

/// A fresh directory that goes away with the returned value.
pub fn temp_dir() -> tempfile::TempDir {
    tempfile::Builder::new()
        .prefix("pyserve-test-")
        .tempdir()
        .expect("a temporary directory")
}

/// Writes `files` (path, text) below `dir`.
pub fn write_files(dir: &Path, files: &[(&str, &str)]) {
    for (path, text) in files {
        let path = dir.join(path);
        std::fs::create_dir_all(path.parent().expect("below a directory")).unwrap();
        std::fs::write(path, text).unwrap();
    }
}

/// Has everything below `dir` look as if it was written an hour ago: what was written a moment
/// ago is not promised to stay.
pub fn age(dir: &Path) {
    let hour_ago = SystemTime::now() - Duration::from_secs(3600);
    for entry in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
        match entry.file_type().unwrap().is_dir() {
            true => age(&entry.path()),
            false => {
                let file = std::fs::File::open(entry.path()).unwrap();
                file.set_modified(hour_ago).unwrap();
            }
        }
    }
}

/// Whether we may become somebody else; says that `what` is skipped if not.
pub fn is_root(what: &str) -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        skipped(what, "only root can become somebody else");
    }
    is_root
}

/// Makes a named pipe.
pub fn make_fifo(path: &Path) {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).expect("a named pipe");
}

/// Says that a check did not take place, past the capture of the test harness.
pub fn skipped(what: &str, because: &str) {
    let line = format!("skipped: {what} because {because}\n");
    // Not `eprintln!`, whose output a passing test never shows.
    let _ = std::io::stderr().lock().write_all(line.as_bytes());
}
