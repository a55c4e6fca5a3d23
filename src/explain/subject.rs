//! One configuration to explain: settings of a server, or a file by which an image starts.

use super::readers::{Reader, Source};

/// One configuration to explain.
#[derive(Debug)]
pub struct Subject {
    /// The file or command line, for people.
    pub name: String,
    /// Its reader.
    pub kind: Kind,
}

/// The reader of a subject.
#[derive(Debug)]
pub enum Kind {
    /// A reader of a server's settings.
    Settings(&'static Reader, Source),
    /// A file by which an image starts, with its text.
    Image(ImageFile, String),
}

impl Subject {
    /// The server or the kind of file, for people.
    pub fn server(&self) -> &'static str {
        match &self.kind {
            Kind::Settings(reader, _) => reader.server,
            Kind::Image(file, _) => file.name(),
        }
    }
}

/// A file by which an image starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageFile {
    Dockerfile,
    Procfile,
    /// A shell script that starts a server.
    Script,
    /// A file of Compose, with services.
    Compose,
}

impl ImageFile {
    /// The kind for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Dockerfile => "Dockerfile",
            Self::Procfile => "Procfile",
            Self::Script => "entry script",
            Self::Compose => "Compose file",
        }
    }
}
