//! CPUs that look as idle as a test says, however busy the machine is.
//!
//! The server runs in a mount namespace of its own, where `/proc/stat` is a file that the test
//! writes, and no control group sets a quota.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::server::Pyserve;

/// Writes the file while it lives.
pub struct IdleCpus {
    percent: Arc<AtomicU64>,
    is_over: Arc<AtomicBool>,
    directory: tempfile::TempDir,
}

/// Puts the file in its place, leaves one CPU to the command behind it, and runs that.
const SCRIPT: &str = r#"mount --bind "$0" /proc/stat && { mount -t tmpfs none /sys/fs/cgroup || true; } &&
    exec taskset --cpu-list "$@""#;

impl IdleCpus {
    /// CPUs of which a part is idle, in percent.
    ///
    /// # Errors
    /// Why that is not possible here, in words.
    pub fn new(percent: u64) -> Result<Self, String> {
        let directory = super::temp_dir();
        let path = directory.path().join("stat");
        let file = File::create(&path).expect("a file");
        write(&file, 0);
        let idle = Self {
            percent: Arc::new(AtomicU64::new(percent)),
            is_over: Arc::default(),
            directory,
        };
        let mut command = Command::new("unshare");
        command.args(idle.arguments()).arg("true");
        let tried = command.stdin(Stdio::null()).output();
        let tried = tried.map_err(|error| format!("unshare: {error}"))?;
        if !tried.status.success() {
            return Err(String::from_utf8_lossy(&tried.stderr).trim().to_owned());
        }
        let (percent, is_over) = (Arc::clone(&idle.percent), Arc::clone(&idle.is_over));
        std::thread::spawn(move || {
            let file = OpenOptions::new()
                .write(true)
                .open(path)
                .expect("it is there");
            let (mut idle, mut last) = (Duration::ZERO, Instant::now());
            while !is_over.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(5));
                let passed = last.elapsed();
                last += passed;
                idle += passed * percent.load(Ordering::Relaxed) as u32 / 100;
                write(&file, idle.as_micros() as u64 / 10_000);
            }
        });
        Ok(idle)
    }

    /// From now on so many percent are idle.
    pub fn set(&self, percent: u64) {
        self.percent.store(percent, Ordering::Relaxed);
    }

    /// A server with one CPU, for which further arguments may follow.
    pub fn server(&self) -> Pyserve {
        Pyserve::binary(std::path::Path::new("unshare"))
            .args(self.arguments())
            .args([env!("CARGO_BIN_EXE_pyserve")])
            .quick()
            .without("PYSERVE_WORKERS")
    }

    fn arguments(&self) -> Vec<String> {
        let path: PathBuf = self.directory.path().join("stat");
        let path = path.to_str().expect("UTF-8").to_owned();
        let first = cpus().next().expect("a CPU").to_string();
        let words = ["--mount", "sh", "-c", SCRIPT].map(str::to_owned);
        words.into_iter().chain([path, first]).collect()
    }
}

impl Drop for IdleCpus {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}

/// Numbers of the CPUs that this process may run on.
fn cpus() -> impl Iterator<Item = usize> {
    let cpus = rustix::thread::sched_getaffinity(None).expect("fewer than 1024 CPUs");
    (0..rustix::thread::CpuSet::MAX_CPU).filter(move |cpu| cpus.is_set(*cpu))
}

/// proc_stat(5), with numbers of the same width: a reader never sees a part of one.
fn write(file: &File, ticks: u64) {
    let ticks = 1_000_000 + ticks;
    let lines = cpus().map(|cpu| format!("cpu{cpu} 0 0 0 {ticks:012} 0 0 0 0 0 0\n"));
    let text: String = lines.collect();
    file.write_all_at(text.as_bytes(), 0).expect("room");
}
