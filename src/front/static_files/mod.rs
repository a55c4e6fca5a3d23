//! Serves files from declared directories, without asking Python.
//!
//! 1. `path`: which location, and which file in it, decoded once;
//! 2. `open`: opened beneath the location's directory, race-free; regular files only;
//! 3. `conditional`: does the client's copy still stand?
//! 4. `headers`: type, validators, length;
//! 5. `body`: bytes at once if small, else blocks read as the client takes them.
//!
//! Steps 2 to 5 are one job of the [`FilePool`], so a small file costs one visit to a
//! blocking thread. Which status and page a [`StaticError`] becomes is decided elsewhere.

mod body;
mod conditional;
mod headers;
mod open;
mod path;

use std::io;
use std::path::Path;

use http::{HeaderMap, Method, Response};

use super::file_pool::FilePool;
use body::Payload;
use conditional::{Conditions, Validators, Verdict};
use path::FilePath;

pub use body::{Content, FileBody};
pub use headers::ALLOW;
pub use path::{Location, LocationError, Locations};

/// Why there is no file to send. What the client sees is decided in `front/request`.
#[derive(Debug, thiserror::Error)]
pub enum StaticError {
    /// Nothing there, or nothing that may be served.
    #[error("no such file")]
    NotFound,
    /// The file is there, but may not be read.
    #[error("permission denied")]
    Forbidden,
    /// Neither GET nor HEAD nor OPTIONS; the answer names [`ALLOW`].
    #[error("method not allowed for a file")]
    MethodNotAllowed,
    /// The path cannot be decoded; what is wrong with it.
    #[error("bad path: {0}")]
    BadPath(&'static str),
    /// `If-Match` or `If-Unmodified-Since` does not hold.
    #[error("precondition failed")]
    PreconditionFailed,
    /// A directory with an index, asked for without a slash at its end. The path and query
    /// to go to, encoded as a `Location` field needs it.
    #[error("moved to {0}")]
    RedirectToDirectory(String),
    /// The file system says no, and it is not the client's doing.
    #[error("cannot read a static file: {0}")]
    Io(io::Error),
}

/// Answers a request for `rest`, which [`Locations::find`] left of the path and its query.
///
/// # Errors
/// [`StaticError`] for everything but 200, 204 (to OPTIONS) and 304. A method that cannot
/// be answered touches no file.
pub async fn serve(
    location: &Location,
    rest: &str,
    method: &Method,
    headers: &HeaderMap,
    pool: &FilePool,
) -> Result<Response<Content>, StaticError> {
    let with_body = match *method {
        Method::GET => true,
        Method::HEAD => false,
        Method::OPTIONS => return Ok(headers::options()),
        _ => return Err(StaticError::MethodNotAllowed),
    };
    let (path, query) = match rest.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (rest, None),
    };
    let path = FilePath::decode(path)?;
    let dir = location.dir().to_owned();
    let conditions = Conditions::of(headers);
    let is_found = pool.run({
        let path = path.clone();
        move || respond(&dir, &path, &conditions, with_body)
    });
    match is_found.await? {
        Some(response) => Ok(response.map(|payload| payload.into_content(pool))),
        None => {
            let url = location.directory_url(&path.relative, query);
            Err(StaticError::RedirectToDirectory(url))
        }
    }
}

/// Steps 2 to 5, on a thread that may block. `None`: a directory asked for as a file.
fn respond(
    dir: &Path,
    path: &FilePath,
    conditions: &Conditions,
    with_body: bool,
) -> Result<Option<Response<Payload>>, StaticError> {
    let Some(opened) = open::open(dir, path)? else {
        return Ok(None);
    };
    let validators = Validators::of(&opened.metadata);
    match conditions.evaluate(&validators) {
        Verdict::Send => {}
        Verdict::NotModified => return Ok(Some(headers::not_modified(&validators))),
        Verdict::Failed => return Err(StaticError::PreconditionFailed),
    }
    let length = opened.metadata.len();
    let payload = match with_body {
        true => Payload::read(opened.file, 0, length).map_err(StaticError::Io)?,
        false => Payload::Empty,
    };
    let response = headers::full(&opened.name, &validators, length, payload);
    Ok(Some(response))
}

#[cfg(test)]
mod tests;
