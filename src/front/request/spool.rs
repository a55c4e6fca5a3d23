//! Reads a request's body to its end before a worker is taken: small ones into memory,
//! larger ones into an unlinked temporary file, so that a slow upload costs no worker and
//! a large one no memory.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::Body as _;
use http_body_util::BodyExt;
use hyper::body::Incoming;

use super::error::Rejection;
use crate::config::LocationSettings;
use crate::front::file_pool::FilePool;
use crate::front::upstream::RequestBody;
use crate::os::temporary;

/// Longest body that stays in memory and travels inside the request's message. Forms and
/// JSON are below it; it fits into a socket buffer of the kernel's default size beside the
/// longest head.
const IN_MEMORY: usize = 64 << 10;
/// How much is collected before it is written to the file: large enough that the hop to
/// the file pool costs little beside it.
const WRITE: usize = 256 << 10;

/// Where and how far bodies are read.
#[derive(Debug, Clone)]
pub struct Spool {
    /// Where files go.
    pub directory: PathBuf,
    /// Who does the writing.
    pub files: FilePool,
}

impl Spool {
    /// Reads `body` to its end.
    ///
    /// # Errors
    /// The [`Rejection`] that the client gets.
    pub async fn read(
        &self,
        mut body: Incoming,
        settings: &LocationSettings,
    ) -> Result<RequestBody, Rejection> {
        let too_large = || Rejection::BodyTooLarge {
            limit: settings.max_body,
        };
        // Before the first byte is read, and so before `100 Continue` is sent.
        if body.size_hint().lower() > settings.max_body {
            return Err(too_large());
        }
        let mut memory = BytesMut::new();
        let mut file = None;
        let mut length = 0;
        while let Some(chunk) = self.chunk(&mut body, settings.body_timeout).await? {
            length += chunk.len() as u64;
            if length > settings.max_body {
                return Err(too_large());
            }
            if memory.is_empty()
                && file.is_none()
                && body.is_end_stream()
                && chunk.len() <= IN_MEMORY
            {
                return Ok(RequestBody::Memory(chunk));
            }
            memory.extend_from_slice(&chunk);
            let limit = if file.is_some() { WRITE } else { IN_MEMORY };
            if memory.len() > limit {
                file = Some(self.write(file, memory.split().freeze()).await?);
            }
        }
        match file {
            None => Ok(RequestBody::Memory(memory.freeze())),
            Some(file) => {
                let file = self.write(Some(file), memory.freeze()).await?;
                Ok(RequestBody::File { file, length })
            }
        }
    }

    /// The next piece of data; trailers are read and dropped (RFC 9110 §6.5.1 lets nobody
    /// merge them into the head).
    async fn chunk(
        &self,
        body: &mut Incoming,
        idle_timeout: Duration,
    ) -> Result<Option<Bytes>, Rejection> {
        loop {
            let frame = tokio::time::timeout(idle_timeout, body.frame())
                .await
                .map_err(|_| Rejection::BodyTimeout {
                    seconds: idle_timeout.as_secs_f32(),
                })?;
            match frame {
                None => return Ok(None),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
                Some(Err(error)) => return Err(Rejection::BodyBroken(error.to_string())),
            }
        }
    }

    async fn write(&self, file: Option<File>, bytes: Bytes) -> Result<File, Rejection> {
        let directory = self.directory.clone();
        let write = move || {
            let mut file = match file {
                Some(file) => file,
                None => temporary::unlinked_file(&directory)?,
            };
            file.write_all(&bytes)?;
            Ok(file)
        };
        let directory = self.directory.display().to_string();
        self.files
            .run(write)
            .await
            .map_err(|error| Rejection::Spool { directory, error })
    }
}
