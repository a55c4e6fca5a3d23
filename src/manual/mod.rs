//! The manual, `src/docs/*.md`, inside the binary: `pyserve help TOPIC` prints a topic, one
//! option or one message code.
//!
//! The files are the source, readable on their own; `options.md` is generated from the table
//! of settings by [`options`]. On a terminal the text goes through a pager.

pub mod options;
mod pager;
mod render;

use std::io;

use crate::config::settings::Setting;
use crate::config::{settings, suggest};
use crate::os::standard::Standard;

/// One file of the manual.
#[derive(Debug, PartialEq, Eq)]
pub struct Topic {
    /// The word behind `pyserve help`, and the name of the file without `.md`.
    pub name: &'static str,
    /// One line for the list of topics.
    pub summary: &'static str,
    /// The file.
    pub text: &'static str,
}

/// The subject of one call of `pyserve help`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Page {
    /// The list of verbs and topics.
    Overview,
    /// A whole topic.
    Topic(&'static Topic),
    /// One option.
    Option(&'static Setting),
    /// The part of a topic below one of its headings.
    Section(&'static str),
}

macro_rules! topics {
    ($($name:literal: $summary:literal,)*) => {
        &[$(Topic {
            name: $name,
            summary: $summary,
            text: include_str!(concat!("../docs/", $name, ".md")),
        }),*]
    };
}

/// The topics, in the order of the list.
pub static TOPICS: &[Topic] = topics! {
    "options": "every option, with its default (generated)",
    "applications": "choosing application and interpreter; the environ; the pyserve module",
    "preload": "import once, fork many: the conditions, and templates that have warmed up",
    "workers": "number of workers, crashes, recycling, scaling",
    "locations": "prefixes and their handlers: applications, upstreams, files, redirects",
    "access": "allowed and denied networks, passwords",
    "static-files": "files, compression, caching, missing and hidden files, X-Accel-Redirect",
    "responses": "header fields of responses, and pages for errors",
    "upstreams": "uWSGI and HTTP servers behind pyserve",
    "protocols": "HTTP/1.1, HTTP/2, listening addresses",
    "bodies": "uploads, buffering of responses, X-Accel headers, compression",
    "limits": "limits for clients, and the memory budget",
    "timeouts": "all timeouts, and requests that hang",
    "tls": "https: certificates, ACME, renewal, redirects, the environ",
    "proxies": "forwarded headers and the PROXY protocol",
    "reload-and-stop": "reloads, upgrades of the binary and graceful stops, step by step",
    "signals": "the effect of each signal",
    "companions": "processes beside the application, and the command before it",
    "monitoring": "verbs, probes, metrics, status",
    "logs": "access log, diagnostics, formats",
    "privileges": "running as another user, access to sockets",
    "systemd": "units, notifications, sockets that systemd binds",
    "images": "containers, Docker, Kubernetes",
    "migrating": "settings of nginx and uWSGI, and their counterparts",
    "troubleshooting": "exit codes and message codes",
};

/// The page that `word` names: a topic, an option in any of its spellings, or a message code.
///
/// # Errors
/// The closest topic or option, if one is close.
pub fn find(word: &str) -> Result<Page, Option<String>> {
    if let Some(topic) = TOPICS.iter().find(|topic| topic.name == word) {
        return Ok(Page::Topic(topic));
    }
    let upper = word.to_ascii_uppercase();
    if upper.starts_with("PS-") {
        let troubleshooting = TOPICS.last().expect("there are topics");
        if let Some(section) = section(troubleshooting.text, &upper) {
            return Ok(Page::Section(section));
        }
    }
    let option = word
        .trim_start_matches('-')
        .replace('-', "_")
        .to_lowercase();
    let option = option.strip_prefix("pyserve_").unwrap_or(&option);
    if let Some(setting) = settings::named(option) {
        return Ok(Page::Option(setting));
    }
    let flags: Vec<_> = settings::all().map(Setting::flag).collect();
    let topics = TOPICS.iter().map(|topic| topic.name);
    let known = topics.chain(flags.iter().map(String::as_str));
    let word = word.trim_start_matches('-');
    Err(suggest::closest(word, known).map(str::to_owned))
}

/// The lines from the heading that begins with `title` to the next heading of its rank.
fn section<'a>(text: &'a str, title: &str) -> Option<&'a str> {
    let mut starts = text.match_indices("\n#").map(|(at, _)| at + 1);
    let is_it = |at: &usize| {
        let heading = text[*at..].trim_start_matches('#').trim_start();
        let rest = heading.strip_prefix(title);
        rest.is_some_and(|rest| !rest.starts_with(|char: char| char.is_ascii_alphanumeric()))
    };
    let start = starts.find(is_it)?;
    let rank = text[start..]
        .bytes()
        .take_while(|byte| *byte == b'#')
        .count();
    let is_next = |at: &usize| text[*at..].bytes().take_while(|byte| *byte == b'#').count() <= rank;
    let end = starts.find(is_next).unwrap_or(text.len());
    Some(text[start..end].trim_end())
}

/// The list of topics, one line each, for the help of the command line.
pub fn list() -> String {
    let line = |topic: &Topic| format!("  {:<16} {}\n", topic.name, topic.summary);
    TOPICS.iter().map(line).collect()
}

/// Prints a page: on a terminal in its width through the pager, otherwise as plain text.
///
/// # Errors
/// The kernel's error for standard output.
pub fn show(page: Page, verbs: &str) -> io::Result<()> {
    let source = match page {
        Page::Overview => return pager::show(&overview(verbs)),
        Page::Topic(topic) => topic.text.to_owned(),
        Page::Option(setting) => options::section(setting),
        Page::Section(text) => text.to_owned(),
    };
    let width = Standard::Output.columns().unwrap_or(WIDTH);
    let style = render::Style {
        width: width.min(WIDTH),
        bold: Standard::Output.has_colours(),
    };
    pager::show(&render::render(&source, style))
}

fn overview(verbs: &str) -> String {
    format!(
        "pyserve {}\n\n\
         Usage: pyserve help [VERB|TOPIC|OPTION|CODE]\n\n\
         Verbs:\n{verbs}\n\
         Topics:\n{}\n\
         `pyserve -h` lists the most common options, `pyserve --help` all of them,\n\
         `pyserve help max-body` explains one, `pyserve help PS-101` a message code.\n",
        env!("CARGO_PKG_VERSION"),
        list()
    )
}

/// Columns of the text where the terminal is wider, and where there is none.
const WIDTH: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_options_and_codes_are_found_by_their_names() {
        let check = |word: &str, expected: &str| {
            let found = match find(word) {
                Ok(Page::Topic(topic)) => format!("topic {}", topic.name),
                Ok(Page::Option(setting)) => format!("option {}", setting.name),
                Ok(Page::Section(text)) => text.lines().next().unwrap_or_default().to_owned(),
                Ok(Page::Overview) => "overview".to_owned(),
                Err(Some(close)) => format!("closest {close}"),
                Err(None) => "nothing".to_owned(),
            };
            assert!(found.starts_with(expected), "{word}: {found}");
        };
        check("limits", "topic limits");
        check("upstreams", "topic upstreams");
        check("upstream", "option upstream");
        check("--max-body", "option max_body");
        check("max_body", "option max_body");
        check("PYSERVE_MAX_BODY", "option max_body");
        check("limit", "closest limits");
        check("--max-bdy", "closest max-body");
        check("photography", "nothing");
    }

    #[test]
    fn a_section_ends_at_the_next_heading_of_its_rank() {
        let text = "# T\n\n## One\n\na\n\n### Deep\n\nb\n\n## One more\n\nc\n";
        let check = |title: &str, expected: Option<&str>| {
            assert_eq!(section(text, title), expected, "{title}");
        };
        check("One", Some("## One\n\na\n\n### Deep\n\nb"));
        check("Deep", Some("### Deep\n\nb"));
        check("One more", Some("## One more\n\nc"));
        check("On", None);
    }

    #[test]
    fn each_file_is_a_topic_with_a_title() {
        let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/src/docs");
        let mut files: Vec<_> = std::fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        let mut topics: Vec<_> = TOPICS
            .iter()
            .map(|topic| format!("{}.md", topic.name))
            .collect();
        files.sort();
        topics.sort();
        assert_eq!(files, topics);
        for topic in TOPICS {
            assert!(topic.text.starts_with("# "), "{}", topic.name);
            assert!(topic.summary.len() < 80, "{}", topic.name);
        }
    }
}
