//! The log files of this process, which take the place of standard output and standard error.
//!
//! They are opened at the start, before privileges are dropped. SIGUSR1 has them opened again, as a
//! program that rotates logs wants it.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rustix::io::Errno;

use crate::os::log_file::LogFile;
use crate::os::standard::Standard;

/// Names of the log files; each `None` for a standard descriptor.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogFiles {
    /// That of requests; absolute.
    pub access: Option<PathBuf>,
    /// That of everything else; absolute.
    pub diagnostics: Option<PathBuf>,
}

/// A log file that cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot open the log file {path}: {cause}{}", advice(.cause))]
pub struct LogFileError {
    path: String,
    cause: io::Error,
}

fn advice(cause: &io::Error) -> &'static str {
    match Errno::from_io_error(cause) {
        Some(Errno::NOENT) => " (make its directory)",
        // open(2): a FIFO that no process has open for reading.
        Some(Errno::NXIO) => " (a FIFO needs a reader first)",
        Some(Errno::ISDIR) => " (give the path of a file)",
        _ => " (give this user the right to write there)",
    }
}

static ACCESS: OnceLock<LogFile> = OnceLock::new();
static DIAGNOSTICS: OnceLock<LogFile> = OnceLock::new();

/// Opens the files; new ones belong to `owner`. From now on the logs go there.
///
/// # Errors
/// [`LogFileError`] for the first that cannot be opened.
pub fn open(files: &LogFiles, owner: Option<(u32, u32)>) -> Result<(), LogFileError> {
    let opened = |path: &Path| {
        LogFile::open(path, owner).map_err(|cause| LogFileError {
            path: path.display().to_string(),
            cause,
        })
    };
    let access = files.access.as_deref().map(opened).transpose()?;
    let diagnostics = files.diagnostics.as_deref().map(opened).transpose()?;
    if let Some(file) = access {
        let _opened_before = ACCESS.set(file);
    }
    if let Some(file) = diagnostics {
        let _opened_before = DIAGNOSTICS.set(file);
    }
    Ok(())
}

/// Opens all log files again. Returns how many there are, and why one could not be opened.
pub fn reopen() -> (usize, Vec<(PathBuf, io::Error)>) {
    let all: Vec<_> = [&ACCESS, &DIAGNOSTICS]
        .iter()
        .filter_map(|file| file.get())
        .collect();
    let failed = all.iter().filter_map(|file| {
        let error = file.reopen().err()?;
        Some((file.path().to_owned(), error))
    });
    (all.len(), failed.collect())
}

/// The place to which a log is written: its file, or a standard descriptor.
#[derive(Debug, Clone, Copy)]
pub(super) enum Destination {
    Access,
    Diagnostics,
}

impl Destination {
    fn file(self) -> Option<LogFile> {
        match self {
            Self::Access => ACCESS.get().cloned(),
            Self::Diagnostics => DIAGNOSTICS.get().cloned(),
        }
    }

    /// True if colours are wanted there.
    pub(super) fn has_colours(self) -> bool {
        self.file().is_none() && self.standard().has_colours()
    }

    fn standard(self) -> Standard {
        match self {
            Self::Access => Standard::Output,
            Self::Diagnostics => Standard::Error,
        }
    }
}

impl Write for Destination {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.file() {
            Some(mut file) => file.write(bytes),
            None => self.standard().write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
