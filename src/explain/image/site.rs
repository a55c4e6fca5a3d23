//! The site of nginx before an application: pyserve serves both, so a command leaves to the site what nginx
//! decided for it.

use crate::config::foreign::found;
use crate::config::layers::Layer;
use crate::explain::image::Explained;
use crate::explain::subject::{Kind, Subject};

/// The files of nginx that pass requests to the application.
pub struct Site<'a> {
    /// The name of the first file.
    pub name: &'a str,
    /// The settings of all of them.
    pub layer: Layer,
}

/// Settings about the connections of clients, which were those of nginx. A default of the server behind it says
/// nothing about them.
const OF_CONNECTIONS: &[&str] = &["access_log", "max_body"];
/// Servers that the server behind nginx trusted: nginx itself, which goes away.
const TRUST: [&str; 4] = ["trust", "trust_fields", "trust_header", "trust_hops"];

impl<'a> Site<'a> {
    /// The site among these subjects, if there is one.
    pub fn of(all: &'a [Subject], read: &[Explained]) -> Option<Self> {
        let files = all.iter().zip(read).filter(|(subject, explained)| {
            let is_nginx =
                matches!(&subject.kind, Kind::Settings(reader, _) if reader.flag == "--nginx");
            is_nginx && found::passes_to_application(&explained.reading.layer)
        });
        let mut site: Option<Self> = None;
        for (subject, explained) in files {
            let layer = explained.reading.layer.clone();
            match &mut site {
                Some(site) => site.layer.add(layer),
                None => {
                    site = Some(Self {
                        name: &subject.name,
                        layer,
                    });
                }
            }
        }
        site
    }

    /// True if the site decides about this setting, and a flag of the application's command would override it.
    /// `is_implied`: the command says nothing about it either.
    pub fn decides(&self, setting: &str, is_implied: bool) -> bool {
        self.layer.entry(setting).is_some()
            || TRUST.contains(&setting)
            || is_implied && OF_CONNECTIONS.contains(&setting)
    }
}
