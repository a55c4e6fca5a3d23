//! The listing of a directory without an index, as HTML or JSON (nginx: `autoindex`).
//!
//! It has the names that a request would find: no hidden ones, no links to elsewhere, regular files and
//! directories only. A listing is kept for a second, so that many requests for a large directory cost
//! one look and one copy.

use parking_lot::Mutex;
use std::cmp::Reverse;
use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::fs::{File, Metadata};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use percent_encoding::utf8_percent_encode;
use rustix::fs::{AtFlags, Dir, FileType};
use serde::Serialize;

use super::StaticError;
use super::hidden::is_hidden;
use super::path::{ESCAPED, FilePath, Location};
use crate::os::files::Root;

/// Entries of a listing; the others are left out.
const MOST: usize = 10_000;
/// Names that are read from a directory, hidden ones included.
const MOST_READ: usize = 100_000;
/// Time for which a listing is sent again.
const KEPT: Duration = Duration::from_secs(1);
/// Listings that are kept.
const MOST_KEPT: usize = 64;

/// The form of a listing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Format {
    Html,
    Json,
}

impl Format {
    /// As the query asks (`?format=json`), else as `Accept` does; HTML in doubt.
    pub(super) fn of(query: Option<&str>, headers: &HeaderMap) -> Self {
        let pairs = query.unwrap_or_default().split('&');
        match pairs.filter_map(|pair| pair.strip_prefix("format=")).next() {
            Some("json") => return Self::Json,
            Some("html") => return Self::Html,
            _ => {}
        }
        let quality = |wanted: &str| {
            let fields = headers.get_all(header::ACCEPT).iter();
            let items = fields.filter_map(|field| field.to_str().ok());
            let items = items.flat_map(|field| field.split(','));
            items
                .filter_map(|item| weight(item, wanted))
                .fold(0.0, f32::max)
        };
        match quality("application/json") > quality("text/html") {
            true => Self::Json,
            false => Self::Html,
        }
    }
}

/// The weight of an item of `Accept` (RFC 9110 §12.4.2) that names this type.
fn weight(item: &str, wanted: &str) -> Option<f32> {
    let mut parts = item.split(';').map(str::trim);
    if !parts.next()?.eq_ignore_ascii_case(wanted) {
        return None;
    }
    let weight = parts.find_map(|part| part.strip_prefix("q="));
    Some(weight.map_or(1.0, |weight| weight.parse().unwrap_or(0.0)))
}

/// Listings of the last second.
#[derive(Debug, Default)]
pub(super) struct Listings(Mutex<HashMap<Directory, (Instant, Bytes)>>);

/// Index of the location, path below it, and format.
type Directory = (usize, OsString, Format);

impl Listings {
    pub(super) fn recall(&self, place: usize, relative: &OsStr, format: Format) -> Option<Bytes> {
        let kept = self.0.lock();
        if kept.is_empty() {
            return None;
        }
        let (since, page) = kept.get(&(place, relative.to_owned(), format))?;
        (since.elapsed() < KEPT).then(|| page.clone())
    }

    pub(super) fn keep(&self, place: usize, relative: &OsStr, format: Format, page: &Bytes) {
        let mut kept = self.0.lock();
        if kept.len() >= MOST_KEPT {
            kept.clear();
        }
        let now = Instant::now();
        kept.insert((place, relative.to_owned(), format), (now, page.clone()));
    }
}

/// A directory that was read.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// Directories first, each kind by name.
    entries: Vec<Entry>,
    is_whole: bool,
}

#[derive(Debug, PartialEq, Eq)]
struct Entry {
    name: String,
    is_directory: bool,
    /// In bytes.
    size: u64,
    modified: SystemTime,
}

impl Listing {
    /// Reads an open directory, `relative` below the root. Blocks.
    pub(super) fn read(
        root: &Root<'_>,
        relative: &OsStr,
        directory: &File,
        hidden: bool,
    ) -> Result<Self, StaticError> {
        let io_error = |error: rustix::io::Errno| StaticError::Io(error.into());
        let mut listing = Self {
            entries: Vec::new(),
            is_whole: true,
        };
        let mut names = Dir::read_from(directory).map_err(io_error)?;
        for _ in 0..MOST_READ {
            let Some(entry) = names.read() else {
                return Ok(listing.sorted());
            };
            let entry = entry.map_err(io_error)?;
            // The formats have text alone.
            let Ok(name) = entry.file_name().to_str() else {
                continue;
            };
            if matches!(name, "." | "..") {
                continue;
            }
            let Some(found) = found(root, relative, directory, name, hidden) else {
                continue;
            };
            if listing.entries.len() == MOST {
                break;
            }
            listing.entries.push(found);
        }
        listing.is_whole = false;
        Ok(listing.sorted())
    }

    fn sorted(mut self) -> Self {
        self.entries.sort_by(|a, b| {
            (Reverse(a.is_directory), &a.name).cmp(&(Reverse(b.is_directory), &b.name))
        });
        self
    }

    /// The listing in this format; `path` is its decoded path.
    pub(super) fn page(&self, format: Format, path: &str) -> Bytes {
        match format {
            Format::Html => self.html(path).into(),
            Format::Json => self.json().into(),
        }
    }

    fn html(&self, path: &str) -> String {
        let title = escaped(path);
        let mut page = format!(
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Index of {title}</title>\n\
             <style>td{{padding-right:2em}}td:nth-child(3){{text-align:right}}</style></head>\n\
             <body><h1>Index of {title}</h1>\n<table>\n"
        );
        if path != "/" {
            page.push_str("<tr><td><a href=\"../\">../</a></td></tr>\n");
        }
        for entry in &self.entries {
            let slash = if entry.is_directory { "/" } else { "" };
            let time = utc(entry.modified);
            let size = match entry.is_directory {
                true => "-".to_owned(),
                false => entry.size.to_string(),
            };
            // `./`: a name with a colon is no scheme. An ampersand is no character of its own.
            let href = utf8_percent_encode(&entry.name, ESCAPED).to_string();
            let (href, name) = (escaped(&href), escaped(&entry.name));
            let _ = writeln!(
                page,
                "<tr><td><a href=\"./{href}{slash}\">{name}{slash}</a></td><td>{time}</td><td>{size}</td></tr>"
            );
        }
        page.push_str("</table>\n");
        if !self.is_whole {
            page.push_str("<p>The directory has more entries.</p>\n");
        }
        page.push_str("</body></html>\n");
        page
    }

    /// As nginx's `autoindex_format json`.
    fn json(&self) -> String {
        #[derive(Serialize)]
        struct Line<'a> {
            name: &'a str,
            r#type: &'static str,
            mtime: String,
            #[serde(skip_serializing_if = "Option::is_none")]
            size: Option<u64>,
        }
        let line = |entry: &Entry| {
            let line = Line {
                name: &entry.name,
                r#type: if entry.is_directory {
                    "directory"
                } else {
                    "file"
                },
                mtime: httpdate::fmt_http_date(entry.modified),
                size: (!entry.is_directory).then_some(entry.size),
            };
            // A text, a number and words always serialize.
            serde_json::to_string(&line).unwrap_or_default()
        };
        let lines: Vec<_> = self.entries.iter().map(line).collect();
        format!("[\n{}\n]\n", lines.join(",\n"))
    }
}

/// The response with a listing.
pub(super) fn response(format: Format, page: &Bytes) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::OK;
    let headers = response.headers_mut();
    let content_type = match format {
        Format::Html => "text/html; charset=utf-8",
        Format::Json => "application/json",
    };
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(page.len()));
    let mut say = |name: HeaderName, value: &'static str| {
        headers.insert(name, HeaderValue::from_static(value));
    };
    say(header::CONTENT_TYPE, content_type);
    say(header::CACHE_CONTROL, "no-cache");
    say(header::VARY, "Accept");
    say(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    response
}

/// The decoded path of a directory, with a slash at its end.
pub(super) fn shown_path(location: &Location, path: &FilePath) -> String {
    match &*path.relative.to_string_lossy() {
        "" => format!("{}/", location.prefix()),
        relative => format!("{}/{relative}/", location.prefix()),
    }
}

/// The entry of a name, if a request finds it: a regular file or a directory. Where a link leads, the
/// root decides, as for a request.
fn found(
    root: &Root<'_>,
    relative: &OsStr,
    directory: &File,
    name: &str,
    hidden: bool,
) -> Option<Entry> {
    let is_refused = |is_last| !hidden && is_hidden(name.as_bytes(), is_last);
    if is_refused(false) {
        return None;
    }
    let stat = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
    let (is_directory, size, modified) = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Symlink => {
            let file = root.open_file(&Path::new(relative).join(name)).ok()?;
            let facts: Metadata = file.metadata().ok()?;
            if !facts.is_dir() && !facts.is_file() {
                return None;
            }
            (facts.is_dir(), facts.len(), facts.modified().ok()?)
        }
        kind @ (FileType::Directory | FileType::RegularFile) => {
            let seconds = Duration::from_secs(u64::try_from(stat.st_mtime).unwrap_or_default());
            let modified = SystemTime::UNIX_EPOCH.checked_add(seconds)?;
            let size = u64::try_from(stat.st_size).unwrap_or_default();
            (kind == FileType::Directory, size, modified)
        }
        _ => return None,
    };
    if !is_directory && is_refused(true) {
        return None;
    }
    Some(Entry {
        name: name.to_owned(),
        is_directory,
        size,
        modified,
    })
}

/// `2026-11-28 13:40`, in UTC.
fn utc(time: SystemTime) -> String {
    let text = crate::observe::timestamp::Timestamp::from(time).rfc_3339();
    text.get(..16).unwrap_or_default().replace('T', " ")
}

/// Text for an element or an attribute; control characters are shown as a replacement character.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            char if char.is_control() => out.push('\u{fffd}'),
            char => out.push(char),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn format(query: Option<&str>, accept: &str) -> Format {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_str(accept).unwrap());
        Format::of(query, &headers)
    }

    #[test]
    fn the_query_then_accept_choose_the_format() {
        for (query, accept, expected) in [
            (None, "*/*", Format::Html),
            (
                None,
                "text/html,application/xhtml+xml,*/*;q=0.8",
                Format::Html,
            ),
            (None, "application/json", Format::Json),
            (None, "application/json, text/plain, */*", Format::Json),
            (None, "application/json;q=0.5, text/html", Format::Html),
            (None, "text/html;q=0.1, Application/JSON", Format::Json),
            (None, "application/json;q=0", Format::Html),
            (Some("format=json"), "text/html", Format::Json),
            (Some("a=b&format=html"), "application/json", Format::Html),
            (Some("format=xml"), "application/json", Format::Json),
        ] {
            assert_eq!(format(query, accept), expected, "{query:?} {accept}");
        }
    }

    proptest! {
        #[test]
        fn no_name_leaves_its_link(name in "[^/\\x00]{1,40}") {
            let listing = Listing {
                entries: vec![Entry {
                    name: name.clone(),
                    is_directory: false,
                    size: 1,
                    modified: SystemTime::UNIX_EPOCH,
                }],
                is_whole: true,
            };
            let page = listing.html("/");
            let line = page.lines().find(|line| line.starts_with("<tr>")).unwrap();
            let inside = line.strip_prefix("<tr><td><a href=\"./").unwrap();
            let (href, rest) = inside.split_once('"').unwrap();
            prop_assert!(!href.contains(['<', '>', '\'']) && !href.chars().any(char::is_control));
            let (text, _) = rest.strip_prefix('>').unwrap().split_once("</a>").unwrap();
            prop_assert!(!text.contains(['<', '>', '"']));
            let unescaped = href.replace("&#39;", "'").replace("&amp;", "&");
            let decoded = percent_encoding::percent_decode_str(&unescaped).decode_utf8().unwrap();
            prop_assert_eq!(&*decoded, &*name);
            let json: serde_json::Value = serde_json::from_str(&listing.json()).unwrap();
            prop_assert_eq!(json[0]["name"].as_str(), Some(&*name));
        }
    }
}
