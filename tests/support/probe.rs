//! What applications tell from inside a request, and holding them there.
//!
//! The other end is `tests/apps/probe.py`. Notes are datagrams on one Unix socket, in the
//! order in which they were sent. A held application has connected to another Unix socket
//! and waits for a byte or for the end of the connection, so a test knows that a request
//! is inside the application, and nothing is left waiting when the test is gone.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Instant;

use super::DEADLINE;
use super::lines::Lines;

/// Both sockets of one server.
pub struct Probe {
    dir: tempfile::TempDir,
    /// What the applications noted.
    pub notes: Lines,
    held: Arc<(Mutex<VecDeque<Held>>, Condvar)>,
}

/// An application that waits inside a request; dropping lets it go on.
pub struct Held {
    /// What the application called the place.
    pub place: String,
    stream: UnixStream,
}

impl Probe {
    /// Binds both sockets in a directory of their own.
    pub fn new() -> Self {
        let dir = super::temp_dir();
        let notes = collect_notes(&dir.path().join("notes"));
        let held = collect_held(&dir.path().join("gate"));
        Self { dir, notes, held }
    }

    /// The directory for the environment variable `PROBE`.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A path in the probe's directory, for a test's own files.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Waits until an application is held at `place`.
    pub fn held(&self, place: &str) -> Held {
        let deadline = Instant::now() + DEADLINE;
        let mut queue = self.held.0.lock().unwrap();
        loop {
            if let Some(at) = queue.iter().position(|held| held.place == place) {
                return queue.remove(at).expect("it was found there");
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let places: Vec<_> = queue.iter().map(|held| held.place.clone()).collect();
                drop(queue);
                panic!("no application came to {place:?}; held are {places:?}");
            }
            queue = self.held.1.wait_timeout(queue, left).unwrap().0;
        }
    }
}

impl Held {
    /// Lets the application go on.
    pub fn release(mut self) {
        // Fails if the worker was killed meanwhile, which is what some tests do.
        let _ = self.stream.write_all(b".");
    }
}

fn collect_notes(path: &Path) -> Lines {
    let socket = UnixDatagram::bind(path).expect("a socket for notes");
    let notes = Lines::default();
    let filled = notes.clone();
    std::thread::spawn(move || {
        let mut note = vec![0; 65_536];
        while let Ok(length) = socket.recv(&mut note) {
            filled.push(String::from_utf8_lossy(&note[..length]).into_owned());
        }
    });
    notes
}

fn collect_held(path: &Path) -> Arc<(Mutex<VecDeque<Held>>, Condvar)> {
    let listener = UnixListener::bind(path).expect("a socket for held applications");
    let held = Arc::<(Mutex<VecDeque<Held>>, Condvar)>::default();
    // Weak, so that the applications go on when the test has ended.
    let filled = Arc::downgrade(&held);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(stream) = stream else { break };
            let mut place = String::new();
            let mut reader = BufReader::new(&stream);
            if reader.read_line(&mut place).is_err() {
                continue;
            }
            let place = place.trim_end().to_owned();
            let Some(held) = filled.upgrade() else { break };
            held.0.lock().unwrap().push_back(Held { place, stream });
            held.1.notify_all();
        }
    });
    held
}
