//! A disk that stands still holds up those who read from it, and nobody else: a real file
//! system, `tests/support/slow_disk.py`, whose reads wait until the test lets them go on.

use std::io::{BufRead, BufReader, IoSliceMut, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

use rustix::io::ReadWriteFlags;
use rustix::process::Signal;
use tempfile::TempDir;

use crate::support::lines::Lines;
use crate::support::raw::Connection;
use crate::support::server::{Pyserve, get, post};
use crate::support::{python, skipped, source, temp_dir};

/// Bytes of each file; the same number stands in the script.
const SIZE: usize = 3 << 20;
const KIB: usize = 1024;

/// The file system. Dropping unmounts it.
struct SlowDisk {
    process: Child,
    release: Option<ChildStdin>,
    said: Lines,
    dir: TempDir,
}

impl SlowDisk {
    fn mount() -> Option<Self> {
        let dir = temp_dir();
        let mut process = Command::new(python::default())
            .arg(source("tests/support/slow_disk.py"))
            .arg(dir.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("an interpreter");
        let mut stdout = BufReader::new(process.stdout.take().expect("it is piped"));
        let mut first = String::new();
        stdout.read_line(&mut first).expect("text");
        let complaints = Lines::read_from(process.stderr.take().expect("it is piped"));
        if first.trim() != "mounted" {
            let _refused = process.wait();
            let why = complaints.to_end();
            let why = why.lines().last().unwrap_or("it ended").to_owned();
            skipped(
                "a disk that stands still",
                &format!("there is no FUSE here: {why}"),
            );
            return None;
        }
        Some(Self {
            release: process.stdin.take(),
            process,
            said: Lines::read_from(stdout),
            dir,
        })
    }

    fn go_on(&mut self) {
        let release = self.release.as_mut().expect("it is mounted");
        release.write_all(b"go\n").unwrap();
    }
}

impl Drop for SlowDisk {
    fn drop(&mut self) {
        self.release = None;
        let _gone = self.process.wait();
    }
}

/// What file number `node` of the script holds.
fn content(node: usize) -> Vec<u8> {
    (0..SIZE)
        .map(|at| (at * 31 + at / 4096 + node) as u8)
        .collect()
}

#[test]
fn a_disk_that_stands_still_holds_up_nobody_who_does_not_need_it() {
    let Some(mut disk) = SlowDisk::mount() else {
        return;
    };
    let site = temp_dir();
    std::fs::create_dir(site.path().join("static")).unwrap();
    std::fs::write(site.path().join("static/small.txt"), "small").unwrap();
    std::fs::write(site.path().join("static/large.bin"), vec![b'x'; 900 * KIB]).unwrap();
    let server = Pyserve::app("hello.py")
        .args(["--root"])
        .args([site.path()])
        .args([format!("--static=/slow={}", disk.dir.path().display())])
        .ready();
    let mut stuck: Vec<_> = (0..8).map(|_| server.connect()).collect();
    for client in &mut stuck {
        client.send(get("/slow/stuck.bin"));
    }
    disk.said.wait_for("held");
    let mut others = server.connect();
    for _ in 0..3 {
        assert_eq!(others.exchange(get("/")).status(), 200, "the application");
        assert_eq!(others.exchange(get("/static/small.txt")).text(), "small");
        let large = others.exchange(get("/static/large.bin"));
        assert_eq!(large.body.len(), 900 * KIB);
        let quick = others.exchange(get("/slow/quick.bin"));
        assert!(quick.body == content(2), "the same disk, another file");
    }
    disk.go_on();
    for client in &mut stuck {
        assert!(client.response().body == content(3));
    }
}

#[test]
fn a_disk_that_hangs_leaves_threads_to_other_locations_and_to_uploads() {
    let Some(mut disk) = SlowDisk::mount() else {
        return;
    };
    let site = temp_dir();
    std::fs::create_dir(site.path().join("static")).unwrap();
    for number in 0..8 {
        let path = site.path().join(format!("static/{number}.txt"));
        std::fs::write(path, number.to_string()).unwrap();
    }
    let server = Pyserve::app("echo.py")
        .args(["--root"])
        .args([site.path()])
        .args([format!("--static=/slow={}", disk.dir.path().display())])
        .ready();
    let mut stuck: Vec<_> = (0..40).map(|_| server.connect()).collect();
    for client in &mut stuck {
        client.send(get("/slow/stuck.bin"));
    }
    disk.said.wait_for("held");
    let mut others = server.connect();
    for number in 0..8 {
        let file = others.exchange(get(&format!("/static/{number}.txt")));
        assert_eq!(file.text(), number.to_string(), "from its own disk");
    }
    let body = "x".repeat(300_000);
    let upload = others.exchange(post("/", &body));
    assert_eq!(upload.text().len(), body.len(), "through a spool file");
    disk.go_on();
    for client in &mut stuck {
        assert!(client.response().body == content(3));
    }
}

#[test]
fn a_log_file_whose_disk_hangs_stops_nothing() {
    let Some(mut disk) = SlowDisk::mount() else {
        return;
    };
    let mut server = Pyserve::app("hello.py")
        .args(["--access-log", "json", "--access-log-file"])
        .args([disk.dir.path().join("once.log")])
        .ready();
    server.signal(Signal::USR1);
    disk.said.wait_for("held");
    server.signal(Signal::USR1);
    server.stderr.wait_for("still being opened");
    assert_eq!(server.get("/").status(), 200);
    server.signal(Signal::TERM);
    assert_eq!(server.wait_exit(), 0);
    disk.go_on();
}

/// More requests than there are threads for files wait for the disk. What is in memory needs none of
/// these threads.
#[test]
fn a_large_file_in_memory_is_sent_while_all_threads_for_files_wait() {
    let Some(mut disk) = SlowDisk::mount() else {
        return;
    };
    let site = temp_dir();
    std::fs::create_dir(site.path().join("static")).unwrap();
    let path = site.path().join("static/large.bin");
    std::fs::write(&path, vec![b'x'; 900 * KIB]).unwrap();
    if !says_what_is_in_memory(&path) {
        return skipped(
            "large files beside a slow disk",
            "the file system of the temporary directory does not say what is in memory",
        );
    }
    let socket = site.path().join("socket");
    let _server = Pyserve::new()
        .without("PYSERVE_BIND")
        .args([format!("--bind=unix:{}", socket.display())])
        .args(["--front-threads", "1", "--static-check", "1h", "--root"])
        .args([site.path()])
        .args([format!("--static=/slow={}", disk.dir.path().display())])
        .listening();
    let mut client = Connection::unix(&socket);
    let first = client.exchange(get("/static/large.bin"));
    assert_eq!((first.status(), first.body.len()), (200, 900 * KIB));
    let mut stuck: Vec<_> = (0..40).map(|_| Connection::unix(&socket)).collect();
    for client in &mut stuck {
        client.send(get("/slow/stuck.bin"));
        // The front sends a head right before it asks for the file's bytes.
        client.response_to_head();
    }
    disk.said.wait_for("held");
    client.send(get("/static/large.bin"));
    let head = client.try_head();
    // A failure leaves no server behind that cannot end.
    disk.go_on();
    assert_eq!(head.map(|head| head.status()).ok(), Some(200));
    assert!(client.exactly(900 * KIB).iter().all(|byte| *byte == b'x'));
    for client in &mut stuck {
        assert!(client.exactly(SIZE) == content(3));
    }
}

fn says_what_is_in_memory(path: &Path) -> bool {
    let file = std::fs::File::open(path).unwrap();
    let mut byte = [0];
    let mut into = [IoSliceMut::new(&mut byte)];
    rustix::io::preadv2(&file, &mut into, 0, ReadWriteFlags::NOWAIT).is_ok()
}
