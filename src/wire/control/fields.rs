//! Encoding of the fields of a control message: a variables block in which numbers are eight bytes
//! and a list is one name several times.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::{FoundFiles, Interpreter, Loaded, MAX_MESSAGE, WHAT, cut_to_end};
use crate::{Malformed, malformed, vars};

/// A message that is being written: its kind, and then fields.
pub(super) struct Writer(Vec<u8>);

impl Writer {
    pub(super) fn new(kind: u8) -> Self {
        Self(vec![kind])
    }

    pub(super) fn text(&mut self, key: &str, value: &str) {
        let value = cut_to_end(value, MAX_MESSAGE);
        vars::push(&mut self.0, key.as_bytes(), value.as_bytes()).expect("cut to fit");
    }

    /// A path, whatever its bytes.
    pub(super) fn path(&mut self, key: &str, path: &Path) {
        // The kernel takes no path of this length.
        let bytes = path.as_os_str().as_bytes();
        let bytes = &bytes[..bytes.len().min(MAX_MESSAGE)];
        vars::push(&mut self.0, key.as_bytes(), bytes).expect("cut to fit");
    }

    pub(super) fn number(&mut self, key: &str, value: u64) {
        vars::push(&mut self.0, key.as_bytes(), &value.to_le_bytes()).expect("eight bytes fit");
    }

    pub(super) fn flag(&mut self, key: &str, value: bool) {
        self.number(key, u64::from(value));
    }

    pub(super) fn interpreter(&mut self, interpreter: &Interpreter) {
        self.text("python_version", &interpreter.version);
        self.text("executable", &interpreter.executable);
        self.text("prefix", &interpreter.prefix);
        self.flag("is_venv", interpreter.is_venv);
    }

    pub(super) fn loaded(&mut self, loaded: &Loaded) {
        self.text("app", &loaded.app);
        self.text("framework", &loaded.framework);
        self.number("import_ms", loaded.import_ms);
        for files in &loaded.files {
            // Neither a path nor a URL contains a NUL.
            let dir = files.dir.as_os_str().as_bytes();
            let row = [files.prefix.as_bytes(), dir, files.source.as_bytes()].join(&0);
            self.path("files", &path(&row));
        }
        for reason in &loaded.shared {
            self.text("shared", reason);
        }
    }

    pub(super) fn done(self) -> Vec<u8> {
        self.0
    }
}

/// The fields of a message that was received.
pub(super) struct Fields<'a>(Vec<(&'a [u8], &'a [u8])>);

impl<'a> Fields<'a> {
    pub(super) fn read(bytes: &'a [u8]) -> Result<(u8, Self), Malformed> {
        let (kind, block) = bytes.split_first().ok_or(malformed(WHAT, "empty"))?;
        let fields = vars::pairs(block).collect::<Result<Vec<_>, _>>()?;
        Ok((*kind, Self(fields)))
    }

    fn all(&self, key: &str) -> impl Iterator<Item = &'a [u8]> {
        self.0
            .iter()
            .filter(move |(name, _)| *name == key.as_bytes())
            .map(|(_, value)| *value)
    }

    pub(super) fn texts(&self, key: &str) -> Vec<String> {
        self.all(key)
            .map(|value| String::from_utf8_lossy(value).into_owned())
            .collect()
    }

    pub(super) fn paths(&self, key: &str) -> Vec<PathBuf> {
        self.all(key).map(path).collect()
    }

    pub(super) fn path(&self, key: &str) -> PathBuf {
        self.paths(key).pop().unwrap_or_default()
    }

    pub(super) fn text(&self, key: &str) -> String {
        self.texts(key).pop().unwrap_or_default()
    }

    pub(super) fn number(&self, key: &str) -> Result<u64, Malformed> {
        let value = self
            .all(key)
            .last()
            .ok_or(malformed(WHAT, "a number is missing"))?;
        let value = value
            .try_into()
            .map_err(|_| malformed(WHAT, "a number is not eight bytes"))?;
        Ok(u64::from_le_bytes(value))
    }

    pub(super) fn flag(&self, key: &str) -> bool {
        self.number(key).is_ok_and(|value| value != 0)
    }

    pub(super) fn interpreter(&self) -> Interpreter {
        Interpreter {
            version: self.text("python_version"),
            executable: self.text("executable"),
            prefix: self.text("prefix"),
            is_venv: self.flag("is_venv"),
        }
    }

    pub(super) fn loaded(&self) -> Result<Loaded, Malformed> {
        Ok(Loaded {
            app: self.text("app"),
            framework: self.text("framework"),
            import_ms: self.number("import_ms")?,
            files: self.all("files").map(found_files).collect(),
            shared: self.texts("shared"),
        })
    }
}

fn found_files(row: &[u8]) -> FoundFiles {
    let mut parts = row.split(|byte| *byte == 0);
    let mut next = || parts.next().unwrap_or_default();
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    FoundFiles {
        prefix: text(next()),
        dir: path(next()),
        source: text(next()),
    }
}

fn path(bytes: &[u8]) -> PathBuf {
    OsStr::from_bytes(bytes).into()
}
