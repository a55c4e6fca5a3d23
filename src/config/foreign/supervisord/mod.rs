//! supervisord's configuration: programs that become this server, and others that become companions.
//!
//! 1. [`reader`] gives all options, by the rules of Python's ConfigParser, with `[include]`.
//! 2. [`meaning`] gives each a verdict; the command lines of nginx, uWSGI and gunicorn are read by their
//!    own readers.

mod meaning;
mod programs;
mod reader;

use super::{Reading, Surroundings};
use crate::config::layers::Layer;

pub use programs::{NGINX_FILE, nginx_file, prefix_of, server_of};

/// A command line that starts another server.
#[derive(Debug)]
pub struct Call<'a> {
    /// The server.
    pub server: Server,
    /// The words behind its name.
    pub words: &'a [String],
    /// The directory in which it runs, if the program names one.
    pub directory: Option<&'a str>,
    /// The settings of the programs before it.
    pub layer: &'a Layer,
}

/// The reader of such a command line.
pub type ReadServer<'a> = dyn Fn(&Call<'_>) -> Reading + 'a;

/// A server that this one replaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Server {
    /// nginx.
    Nginx,
    /// uWSGI.
    Uwsgi,
    /// gunicorn.
    Gunicorn,
}

impl Server {
    /// Its name for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::Uwsgi => "uWSGI",
            Self::Gunicorn => "gunicorn",
        }
    }
}

/// Reads the file `name`, and says what becomes of it.
pub fn read(name: &str, around: &Surroundings<'_>, server: &ReadServer<'_>) -> Reading {
    meaning::of(name, reader::read(name, around), around, server)
}

/// True for the text of a file of supervisord.
pub fn is_supervisord(text: &str) -> bool {
    let sections = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix('['));
    let mut names = sections.filter_map(|rest| rest.split_once(']'));
    names.any(|(name, _)| {
        name == "supervisord" || name.starts_with("program:") || name.starts_with("eventlistener:")
    })
}
