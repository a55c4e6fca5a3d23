//! Reads a file of settings: with a bound, and without waiting for the writer of a named pipe, so
//! that no path in its place makes a reload last for ever or take all memory.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, fcntl_setfl, fstat};

/// Longest file in bytes; a file of settings has some thousands.
const MOST: usize = 4 << 20;

/// The bytes of the file. A pipe is read to its end: shells give one for `--config <(command)`.
///
/// # Errors
/// The error of the system call; `InvalidData` for a file that is too long and for a named pipe
/// without a writer.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    // A pipe without a writer would wait for one (fifo(7)).
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = rustix::fs::open(path, flags, Mode::empty())?;
    fcntl_setfl(&file, OFlags::empty())?;
    let kind = FileType::from_raw_mode(fstat(&file)?.st_mode);
    let mut bytes = Vec::new();
    File::from(file)
        .take(MOST as u64 + 1)
        .read_to_end(&mut bytes)?;
    let problem = if bytes.len() > MOST {
        "longer than 4 MiB, so it is no file of settings"
    } else if kind == FileType::Fifo && bytes.is_empty() {
        "a named pipe to which nothing writes"
    } else {
        return Ok(bytes);
    };
    Err(io::Error::new(io::ErrorKind::InvalidData, problem))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_a_pipe_without_a_writer_nor_an_endless_file_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        std::fs::write(path("file"), "a = 1").unwrap();
        assert_eq!(read(&path("file")).unwrap(), b"a = 1");
        File::create(path("long"))
            .unwrap()
            .set_len(1 << 40)
            .unwrap();
        let error = read(&path("long")).unwrap_err();
        assert!(error.to_string().starts_with("longer than 4 MiB"));
        let kind = FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, path("pipe"), kind, Mode::RUSR, 0).unwrap();
        let error = read(&path("pipe")).unwrap_err();
        assert_eq!(error.to_string(), "a named pipe to which nothing writes");
        assert!(read(dir.path()).is_err(), "a directory");
        let (reader, mut writer) = io::pipe().unwrap();
        io::Write::write_all(&mut writer, b"b = 2").unwrap();
        drop(writer);
        let number = std::os::fd::AsRawFd::as_raw_fd(&reader);
        let inherited = format!("/dev/fd/{number}");
        assert_eq!(read(Path::new(&inherited)).unwrap(), b"b = 2");
        // /dev/zero has no end.
        assert!(read(Path::new("/dev/zero")).is_err());
    }
}
