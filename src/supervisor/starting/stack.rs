//! Parses the stacks that `faulthandler` writes: finds the place where an import hangs, and a
//! server that the module runs by itself. Pure: text in, text out.

use std::fmt::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Most frames that are shown of a stack.
const MOST_FRAMES: usize = 12;
/// Most characters of a file or a function that are shown.
const MOST_CHARS: usize = 200;
/// Most addresses that are shown.
const MOST_ADDRESSES: usize = 4;

/// Files of servers whose frames are on the stack while a server runs.
const SERVERS: [&str; 28] = [
    "/werkzeug/serving.py",
    "/werkzeug/_reloader.py",
    "/socketserver.py",
    "/http/server.py",
    "/wsgiref/simple_server.py",
    "/django/core/servers/basehttp.py",
    "/django/utils/autoreload.py",
    "/gunicorn/app/base.py",
    "/gunicorn/arbiter.py",
    "/waitress/__init__.py",
    "/waitress/server.py",
    "/waitress/wasyncore.py",
    "/uvicorn/main.py",
    "/uvicorn/server.py",
    "/hypercorn/run.py",
    "/hypercorn/asyncio/run.py",
    "/daphne/server.py",
    "/granian/server.py",
    "/granian/server/common.py",
    "/bottle.py",
    "/cheroot/server.py",
    "/cherrypy/process/wspbus.py",
    "/aiohttp/web.py",
    "/twisted/internet/base.py",
    "/gevent/baseserver.py",
    "/eventlet/wsgi.py",
    "/bjoern.py",
    "/paste/httpserver.py",
];
/// Files of event loops.
const LOOPS: [&str; 6] = [
    "/asyncio/base_events.py",
    "/asyncio/runners.py",
    "/tornado/ioloop.py",
    "/tornado/platform/asyncio.py",
    "/trio/_core/_run.py",
    "/curio/kernel.py",
];

/// One call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    file: String,
    /// Zero if unknown.
    line: u32,
    function: String,
}

/// The stack of the thread that imports, the most recent call first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stack(Vec<Frame>);

impl Stack {
    /// Parses the output of `faulthandler` for all threads. The thread that handled the signal is
    /// the main one, which imports; else the last one in the text.
    pub fn parse(text: &str) -> Self {
        let mut threads: Vec<(bool, Vec<Frame>)> = Vec::new();
        for line in text.lines() {
            if line.starts_with("Current thread 0x") || line.starts_with("Thread 0x") {
                threads.push((line.starts_with('C'), Vec::new()));
            } else if let (Some(frame), Some((_, frames))) = (frame(line), threads.last_mut()) {
                frames.push(frame);
            }
        }
        let current = threads.iter().position(|(is_current, _)| *is_current);
        let importing = current.or(threads.len().checked_sub(1));
        Self(importing.map_or(Vec::new(), |at| threads.swap_remove(at).1))
    }

    /// The application's position, and the call that it waits for: `app.py:12 (in connect() of
    /// socket.py)`. `None` without a frame.
    pub fn place(&self, roots: &Roots) -> Option<String> {
        let at = self.innermost(roots)?;
        let inner = &self.0[0];
        let mut place = roots.name(&self.0[at]);
        if at > 0 {
            let file = Path::new(&inner.file).file_name().unwrap_or_default();
            let (function, file) = (cut(&inner.function), file.to_string_lossy());
            // Writing to a String cannot fail.
            let _ = write!(place, " (in {function}() of {})", cut(&file));
        }
        Some(place)
    }

    /// The sentence about a server that the module runs, or may run: `listening` has the addresses
    /// on which the process listens.
    pub fn own_server(&self, roots: &Roots, listening: &[SocketAddr]) -> Option<String> {
        const ADVICE: &str = "put it under `if __name__ == \"__main__\":`";
        let at = self.innermost(roots);
        let inner = &self.0[..at.unwrap_or(self.0.len())];
        let runs = |files: &[&str]| inner.iter().any(|frame| frame.is_of(files));
        let addresses: Vec<_> = listening
            .iter()
            .take(MOST_ADDRESSES)
            .map(SocketAddr::to_string)
            .collect();
        let addresses = addresses.join(", ");
        let place = at.map(|at| {
            let called = at.checked_sub(1).map(|called| self.0[called].call());
            let called = called.map_or(String::new(), |call| format!("{call} "));
            format!("{called}at {}", roots.name(&self.0[at]))
        });
        let kind = match (runs(&SERVERS), runs(&LOOPS), listening.is_empty()) {
            (true, _, _) | (_, true, false) => "starts a server",
            (false, true, true) => "runs an event loop",
            (false, false, true) => return None,
            (false, false, false) => {
                let place = place.map_or(String::new(), |place| format!(" ({place})"));
                return Some(format!(
                    "the module listens on {addresses} at import{place}: if it starts a server of its own there, {ADVICE}"
                ));
            }
        };
        let listens = (!listening.is_empty()).then(|| format!("listening on {addresses}"));
        let details: Vec<_> = place.into_iter().chain(listens).collect();
        let details = details.join(", ");
        Some(format!(
            "the module {kind} of its own at import ({details}); {ADVICE}"
        ))
    }

    /// The calls without those of the import system, the most recent call last, one per line.
    pub fn text(&self) -> String {
        let calls = self.0.iter().filter(|frame| !frame.file.starts_with('<'));
        let calls: Vec<_> = calls.collect();
        let mut text = String::new();
        if calls.len() > MOST_FRAMES {
            text.push_str("\n  ...");
        }
        for frame in calls.into_iter().take(MOST_FRAMES).rev() {
            let (file, function) = (cut(&frame.file), cut(&frame.function));
            // Writing to a String cannot fail.
            let _ = write!(
                text,
                "\n  File \"{file}\", line {}, in {function}",
                frame.line
            );
        }
        text
    }

    /// The innermost frame of the application: below its directories if there is one, else outside
    /// of libraries, else the innermost of all.
    fn innermost(&self, roots: &Roots) -> Option<usize> {
        let find = |is_own: &dyn Fn(&Frame) -> bool| {
            let mut frames = self.0.iter();
            frames.position(|frame| is_own(frame) && !frame.is_of(&SERVERS))
        };
        find(&|frame| roots.below(frame).is_some_and(|below| !is_library(below)))
            .or_else(|| find(&|frame| !is_library(Path::new(&frame.file))))
            .or_else(|| (!self.0.is_empty()).then_some(0))
    }
}

impl Frame {
    fn is_of(&self, files: &[&str]) -> bool {
        files.iter().any(|file| self.file.ends_with(file))
    }

    /// The call as an application writes it.
    fn call(&self) -> String {
        match &*self.function {
            "run" if self.file.ends_with("/flask/app.py") => "app.run()".to_owned(),
            function => format!("{}()", cut(function)),
        }
    }
}

/// Directories of the application.
#[derive(Debug, Clone)]
pub struct Roots(pub Vec<PathBuf>);

/// True for a file of the interpreter or of an installed package.
fn is_library(file: &Path) -> bool {
    let text = file.to_string_lossy();
    let is_standard = |part: &str| {
        let version = part.strip_prefix("python3");
        version.is_some_and(|rest| rest.chars().all(|c| c == '.' || c.is_ascii_digit()))
    };
    let mut parts = text.split('/');
    text.starts_with('<')
        || parts.any(|part| matches!(part, "site-packages" | "dist-packages") || is_standard(part))
}

impl Roots {
    fn below<'a>(&self, frame: &'a Frame) -> Option<&'a Path> {
        let file = Path::new(&frame.file);
        self.0.iter().find_map(|root| file.strip_prefix(root).ok())
    }

    /// `FILE:LINE`, with the file relative to the directory that contains it.
    fn name(&self, frame: &Frame) -> String {
        let file = Path::new(&frame.file);
        let file = self.below(frame).unwrap_or(file).to_string_lossy();
        format!("{}:{}", cut(&file), frame.line)
    }
}

/// `  File "PATH", line 12 in FUNCTION`.
fn frame(line: &str) -> Option<Frame> {
    let (file, rest) = line.strip_prefix("  File \"")?.rsplit_once("\", line ")?;
    let (number, function) = rest.split_once(" in ")?;
    Some(Frame {
        file: file.to_owned(),
        line: number.parse().unwrap_or(0),
        function: function.to_owned(),
    })
}

/// The end of a text that is too long, without control characters.
fn cut(text: &str) -> String {
    let count = text.chars().count();
    let kept = text.chars().skip(count.saturating_sub(MOST_CHARS));
    kept.map(|char| if char.is_control() { '?' } else { char })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FLASK: &str = "\
Thread 0x00007f10 [pool] (most recent call first):
  File \"/usr/lib/python3.11/threading.py\", line 320 in wait

Current thread 0x00007f11 (most recent call first):
  File \"/usr/lib/python3.11/selectors.py\", line 415 in select
  File \"/usr/lib/python3.11/socketserver.py\", line 233 in serve_forever
  File \"/venv/lib/python3.11/site-packages/werkzeug/serving.py\", line 819 in serve_forever
  File \"/venv/lib/python3.11/site-packages/werkzeug/serving.py\", line 1118 in run_simple
  File \"/venv/lib/python3.11/site-packages/flask/app.py\", line 662 in run
  File \"/srv/shop/module.py\", line 12 in <module>
  File \"<frozen importlib._bootstrap>\", line 241 in _call_with_frames_removed
";

    fn roots() -> Roots {
        Roots(vec!["/srv/shop".into()])
    }

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_unguarded_run_is_named_with_its_place_and_address() {
        let stack = Stack::parse(FLASK);
        let sentence = stack.own_server(&roots(), &[address("127.0.0.1:5000")]);
        assert_eq!(
            sentence.unwrap(),
            "the module starts a server of its own at import (app.run() at module.py:12, listening on \
             127.0.0.1:5000); put it under `if __name__ == \"__main__\":`"
        );
        let place = stack.place(&roots()).unwrap();
        assert_eq!(place, "module.py:12 (in select() of selectors.py)");
        assert!(
            stack
                .text()
                .ends_with("selectors.py\", line 415, in select")
        );
        assert!(!stack.text().contains("frozen"));
    }

    #[test]
    fn a_hanging_connection_is_no_server() {
        let text = "Thread 0x1 (most recent call first):\n  \
                    File \"/usr/lib/python3.11/socket.py\", line 833 in create_connection\n  \
                    File \"/srv/shop/lib/db.py\", line 7 in connect\n  \
                    File \"/srv/shop/module.py\", line 3 in <module>\n";
        let stack = Stack::parse(text);
        assert_eq!(
            stack.place(&roots()).unwrap(),
            "lib/db.py:7 (in create_connection() of socket.py)"
        );
        assert_eq!(stack.own_server(&roots(), &[]), None);
        let listens = stack.own_server(&roots(), &[address("[::]:80")]).unwrap();
        assert!(listens.starts_with(
            "the module listens on [::]:80 at import (create_connection() at lib/db.py:7)"
        ));
    }

    #[test]
    fn an_event_loop_without_an_address_is_no_server() {
        let text = "Current thread 0x1 (most recent call first):\n  \
                    File \"/usr/lib/python3.11/asyncio/runners.py\", line 190 in run\n  \
                    File \"/srv/shop/module.py\", line 3 in <module>\n";
        let sentence = Stack::parse(text).own_server(&roots(), &[]).unwrap();
        assert!(sentence.starts_with(
            "the module runs an event loop of its own at import (run() at module.py:3)"
        ));
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic_and_shown_within_bounds(text in "(Thread 0x1|  File \"|\", line | in |\n|\\PC){0,200}") {
            let stack = Stack::parse(&text);
            let shown = format!("{:?}{:?}{}", stack.place(&roots()), stack.own_server(&roots(), &[]), stack.text());
            prop_assert!(shown.len() < 64 * 1024);
            prop_assert!(stack.text().lines().count() <= MOST_FRAMES + 2);
        }
    }
}
