//! What answers a request, and where.

use std::fmt;

use super::shapes::Shape;

/// One of the things that a location may have behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Answerer {
    FileInMemory,
    FileOnDisk,
    /// A file with a `.gz` neighbour, asked for with `Accept-Encoding: gzip`.
    Precompressed,
    /// The application that pyserve hosts.
    App(Length),
    /// Its `wsgi.file_wrapper`.
    AppFile,
    /// Its `X-Accel-Redirect`.
    AppInternal,
    /// uWSGI, in its own protocol.
    Uwsgi(Length),
    /// gunicorn, over HTTP.
    Gunicorn(Length),
    /// gunicorn, in uWSGI's protocol.
    GunicornUwsgi(Length),
    Waitress(Length),
    /// uvicorn, an ASGI server that speaks the WebSocket protocol as well.
    Uvicorn(Length),
    /// nginx with files, over HTTP.
    Nginx,
    Redirect,
    Respond,
    /// A static location without the file.
    Missing,
}

/// Whether a page says its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Length {
    Known,
    Unknown,
}

impl Answerer {
    pub const ALL: [Self; 21] = [
        Self::FileInMemory,
        Self::FileOnDisk,
        Self::Precompressed,
        Self::App(Length::Known),
        Self::App(Length::Unknown),
        Self::AppFile,
        Self::AppInternal,
        Self::Uwsgi(Length::Known),
        Self::Uwsgi(Length::Unknown),
        Self::Gunicorn(Length::Known),
        Self::Gunicorn(Length::Unknown),
        Self::GunicornUwsgi(Length::Known),
        Self::GunicornUwsgi(Length::Unknown),
        Self::Waitress(Length::Known),
        Self::Waitress(Length::Unknown),
        Self::Uvicorn(Length::Known),
        Self::Uvicorn(Length::Unknown),
        Self::Nginx,
        Self::Redirect,
        Self::Respond,
        Self::Missing,
    ];

    /// The path that it answers. Early answers have a location whose requests are not buffered:
    /// otherwise no application sees a request before its body is complete.
    pub fn path(self, shape: Shape) -> String {
        let page = match self {
            Self::FileInMemory => return "/static/small.bin".to_owned(),
            Self::FileOnDisk => return "/static/large.bin".to_owned(),
            Self::Precompressed => return "/static/style.css".to_owned(),
            Self::Redirect => return "/old".to_owned(),
            Self::Respond => return "/ping".to_owned(),
            Self::Missing => return "/static/missing".to_owned(),
            Self::AppFile => "file",
            Self::AppInternal => "internal",
            Self::Nginx => "large.bin",
            _ if shape == Shape::EarlyAnswer => "unread",
            _ if shape == Shape::NoContent => "nocontent",
            _ if self.length() == Length::Unknown => "streamed",
            _ => "page",
        };
        let location = self.location();
        match shape {
            Shape::EarlyAnswer => format!("/unbuffered/{location}/{page}"),
            _ => format!("/{location}/{page}"),
        }
    }

    /// The location of its pages, for what has pages.
    pub fn location(self) -> &'static str {
        match self {
            Self::Uwsgi(_) => "uwsgi",
            Self::Gunicorn(_) => "gunicorn",
            Self::GunicornUwsgi(_) => "gunicorn-uwsgi",
            Self::Waitress(_) => "waitress",
            Self::Uvicorn(_) => "uvicorn",
            Self::Nginx => "nginx",
            _ => "app",
        }
    }

    /// Whether the length of its pages is known when they begin.
    pub fn length(self) -> Length {
        match self {
            Self::App(length)
            | Self::Uwsgi(length)
            | Self::Gunicorn(length)
            | Self::GunicornUwsgi(length)
            | Self::Waitress(length)
            | Self::Uvicorn(length) => length,
            _ => Length::Known,
        }
    }

    /// Whether it serves files by their names, and nothing but GET and HEAD.
    pub fn is_file(self) -> bool {
        matches!(
            self,
            Self::FileInMemory | Self::FileOnDisk | Self::Precompressed | Self::Nginx
        )
    }

    /// Whether it runs `tests/apps/matrix.py`, hosted or behind us, and the page is its own.
    pub fn is_page(self) -> bool {
        !self.is_file() && !self.is_fixed() && !matches!(self, Self::AppFile | Self::AppInternal)
    }

    /// Whether the answer is the same whatever is asked.
    pub fn is_fixed(self) -> bool {
        matches!(self, Self::Redirect | Self::Respond | Self::Missing)
    }
}

impl fmt::Display for Answerer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::FileInMemory => "file in memory",
            Self::FileOnDisk => "file on disk",
            Self::Precompressed => "precompressed file",
            Self::App(_) => "application",
            Self::AppFile => "application's file",
            Self::AppInternal => "application's X-Accel-Redirect",
            Self::Uwsgi(_) => "uWSGI",
            Self::Gunicorn(_) => "gunicorn",
            Self::GunicornUwsgi(_) => "gunicorn (uwsgi)",
            Self::Waitress(_) => "waitress",
            Self::Uvicorn(_) => "uvicorn",
            Self::Nginx => "nginx",
            Self::Redirect => "redirect",
            Self::Respond => "respond",
            Self::Missing => "no file",
        })?;
        match self.length() {
            Length::Known => Ok(()),
            Length::Unknown => out.write_str(", no length"),
        }
    }
}
