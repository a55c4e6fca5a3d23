//! Bytes that never change, in a memory file: this process reads them like any others, and the
//! kernel sends them without a copy.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::ptr::NonNull;

use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use super::descriptors;
use super::memory::sealed_file;

/// Bytes in a sealed memory file (memfd_create(2)), mapped for reading. The pages go when these are
/// dropped and no socket holds them any more.
#[derive(Debug)]
pub struct SealedBytes {
    file: File,
    start: NonNull<u8>,
    length: usize,
}

impl SealedBytes {
    /// A copy of `bytes`, which takes a descriptor of those for clients.
    ///
    /// # Errors
    /// The error of the system call; `EMFILE` if it has one of the numbers that are not for clients;
    /// `EINVAL` for no bytes.
    pub fn copy_of(name: &str, bytes: &[u8]) -> io::Result<Self> {
        let file = sealed_file(name, bytes)?;
        if !descriptors::is_for_client(&file) {
            return Err(Errno::MFILE.into());
        }
        // SAFETY: a new mapping at an address that the kernel chooses aliases no Rust object. The
        // seals forbid writing and shrinking: its bytes never change, and access cannot fault.
        let start = unsafe {
            mmap(
                std::ptr::null_mut(),
                bytes.len(),
                ProtFlags::READ,
                MapFlags::SHARED | MapFlags::POPULATE,
                &file,
                0,
            )?
        };
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self {
            file: file.into(),
            start,
            length: bytes.len(),
        })
    }

    /// The file, of which the bytes are all.
    pub fn file(&self) -> &File {
        &self.file
    }
}

impl AsRef<[u8]> for SealedBytes {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: the mapping lives as long as `self`, has this length, and nothing can write to it.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.length) }
    }
}

impl Drop for SealedBytes {
    fn drop(&mut self) {
        // SAFETY: start and length are those of the mapping made above; no slice of it outlives
        // `self`.
        let unmapped = unsafe { munmap(self.start.as_ptr().cast(), self.length) };
        debug_assert!(unmapped.is_ok());
    }
}

// SAFETY: memory that nothing changes, and that stays mapped until drop.
unsafe impl Send for SealedBytes {}
// SAFETY: as above.
unsafe impl Sync for SealedBytes {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_are_those_that_were_copied_here_and_in_the_file() {
        let bytes: Vec<u8> = (0..10_000u32).map(|at| (at % 251) as u8).collect();
        let sealed = SealedBytes::copy_of("test", &bytes).unwrap();
        assert_eq!(sealed.as_ref(), bytes);
        let mut read = vec![0; bytes.len() + 1];
        assert_eq!(
            rustix::io::pread(sealed.file(), &mut read, 0).unwrap(),
            bytes.len()
        );
        assert_eq!(read[..bytes.len()], bytes);
        SealedBytes::copy_of("test", b"").unwrap_err();
    }
}
