//! Names that are never served: kinds of files that lie beside a website's own and are not for the
//! public. `src/docs/static-files.md` has the same list for users.
//!
//! 1. Names that begin with a dot, except `.well-known` (RFC 8615);
//! 2. Python: sources, byte code, compiled modules;
//! 3. databases in a single file, and the files that a database keeps beside them;
//! 4. backups and temporary files of editors, patches, merges and package managers;
//! 5. any of these with another ending that only states how it is kept: compressed, numbered,
//!    dated.
//!
//! Pure: names in, yes or no out. `os/files.rs` asks for each name that a link leads through, so
//! that no visible link leads to a hidden name.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

/// True if a name in the path of a request is hidden. `is_last`: it is the file's own.
pub(super) fn is_hidden(name: &[u8], is_last: bool) -> bool {
    let is_dotted = name.starts_with(b".") && name != b".well-known";
    is_dotted || name.eq_ignore_ascii_case(b"__pycache__") || is_last && is_private(name)
}

/// True if a name that a link leads through, or to, is hidden. Like [`is_hidden`], except for the
/// directories in which tools that work with links keep the targets of visible names.
pub(super) fn is_hidden_target(name: &OsStr, is_last: bool) -> bool {
    let name = name.as_bytes();
    let is_storage = !is_last && (name == b".pnpm" || name.starts_with(b".."));
    !is_storage && is_hidden(name, is_last)
}

/// Kinds 2 to 5.
fn is_private(name: &[u8]) -> bool {
    // On the stack: this runs for every request for a file. No file has a longer name.
    let mut lower = [0; NAME_MAX];
    let Some(lower) = lower.get_mut(..name.len()) else {
        return false;
    };
    lower.copy_from_slice(name);
    lower.make_ascii_lowercase();
    let mut rest = &*lower;
    loop {
        if has_private_ending(rest) {
            return true;
        }
        let Some((stem, ending)) = split_ending(rest) else {
            return false;
        };
        if !says_how_it_is_kept(ending) {
            return false;
        }
        rest = stem;
    }
}

fn has_private_ending(name: &[u8]) -> bool {
    // Emacs saves `#name#`; office programs lock with `~$name`.
    let is_enclosed = name.len() > 2 && name.starts_with(b"#") && name.ends_with(b"#");
    if name.ends_with(b"~") || name.starts_with(b"~$") || is_enclosed {
        return true;
    }
    // sqlite.org, "Temporary files used by SQLite": beside a database of any name.
    if name.ends_with(b"-wal") || name.ends_with(b"-shm") {
        return true;
    }
    let Some((stem, ending)) = split_ending(name) else {
        return false;
    };
    // `db.sqlite3-mj1a2b3c4d`, `settings.py_old`, `settings.py-20260101`.
    let end = ending
        .iter()
        .position(|byte| !byte.is_ascii_alphanumeric())
        .unwrap_or(ending.len());
    let kind = &ending[..end];
    let has = |kinds: &[&[u8]]| kinds.contains(&kind);
    let is_module = matches!(kind, b"so" | b"pyd")
        && (stem.windows(9).any(|part| part == b".cpython-") || stem.ends_with(b".abi3"));
    // vim's swap files go from .swp backwards; .swf is Flash's. `settings.bak2`.
    let is_swap = matches!(kind, [b's', b'w', b'h'..=b'p']);
    let unnumbered = kind.trim_ascii_end_digits();
    has(PYTHON)
        || has(DATABASES)
        || is_module
        || is_swap
        || BACKUPS.contains(&unnumbered)
        || ending.ends_with(b"-journal")
        || ending.starts_with(b"dpkg-")
        || ending.starts_with(b"ucf-")
        || ending.ends_with(b"___jb_tmp___")
        || ending.ends_with(b"___jb_old___")
}

/// Splits a name at its last dot.
fn split_ending(name: &[u8]) -> Option<(&[u8], &[u8])> {
    let dot = name.iter().rposition(|byte| *byte == b'.')?;
    Some((&name[..dot], &name[dot + 1..]))
}

/// True if an ending only states how a file is kept: compressed, old, or dated.
fn says_how_it_is_kept(ending: &[u8]) -> bool {
    // Subversion names the revisions of a conflict `.r41` and `.r42`.
    let ending = match ending {
        [b'r', digits @ ..] if !digits.is_empty() => digits,
        ending => ending,
    };
    let is_number = ending.first().is_some_and(u8::is_ascii_digit)
        && ending
            .iter()
            .all(|byte| byte.is_ascii_digit() || matches!(byte, b'-' | b'_' | b't'));
    ending.is_empty() || is_number || PACKED.contains(&ending) || KEPT.contains(&ending)
}

trait TrimDigits {
    fn trim_ascii_end_digits(&self) -> &Self;
}

impl TrimDigits for [u8] {
    fn trim_ascii_end_digits(&self) -> &Self {
        let end = self
            .iter()
            .rposition(|byte| !byte.is_ascii_digit())
            .map_or(0, |at| at + 1);
        &self[..end]
    }
}

/// Length of the longest file name in Linux (`limits.h`).
const NAME_MAX: usize = 255;

const PYTHON: &[&[u8]] = &[
    b"py", b"pyc", b"pyo", b"pyw", b"pyi", b"pyx", b"pxd", b"pyd", b"pyz",
];

const DATABASES: &[&[u8]] = &[
    b"sqlite",
    b"sqlite2",
    b"sqlite3",
    b"sqlitedb",
    b"db",
    b"db3",
    b"s3db",
    b"sl3",
    b"duckdb",
    b"wal",
    b"mdb",
    b"accdb",
    b"laccdb",
    b"fdb",
    b"gdb",
    b"gdbm",
    b"kdb",
    b"kdbx",
    b"rdb",
    b"aof",
    b"ibd",
    b"frm",
    b"myd",
    b"myi",
];

const BACKUPS: &[&[u8]] = &[
    b"bak", b"bk", b"bkp", b"backup", b"old", b"orig", b"rej", b"sav", b"save", b"tmp", b"temp",
    b"rpmsave", b"rpmorig", b"rpmnew",
];

const PACKED: &[&[u8]] = &[
    b"gz", b"br", b"zst", b"xz", b"bz2", b"lz4", b"lzma", b"z", b"zip", b"7z", b"tar", b"tgz",
];

/// Endings of copies.
const KEPT: &[&[u8]] = &[
    b"base",
    b"copy",
    b"dev",
    b"disabled",
    b"dist",
    b"dump",
    b"incr",
    b"live",
    b"local",
    b"manifest",
    b"mine",
    b"new",
    b"ours",
    b"prev",
    b"prod",
    b"theirs",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kinds_of_the_manual_are_hidden() {
        for name in [
            // Dotfiles.
            ".env",
            ".git",
            ".htpasswd",
            "..",
            ".",
            "...",
            ".#lock",
            ".settings.py.swp",
            // Python.
            "settings.py",
            "SETTINGS.PY",
            "a.pyc",
            "a.pyo",
            "a.pyw",
            "a.pyi",
            "a.pyx",
            "a.pyd",
            "fast.cpython-313-x86_64-linux-gnu.so",
            "fast.abi3.so",
            "X.PYC",
            "__pycache__",
            "__PYCACHE__",
            // Databases and their side files.
            "db.sqlite3",
            "db.sqlite3-wal",
            "db.sqlite3-shm",
            "db.sqlite3-journal",
            "db.sqlite3-mj1A2B3C4D",
            "app.data-journal",
            "app.db",
            "app.db-journal",
            "database-wal",
            "X.SQLITE",
            "x.duckdb.wal",
            "dump.rdb",
            "data.mdb",
            "appendonly.aof",
            "appendonly.aof.1.incr.aof",
            "appendonly.aof.manifest",
            "Vault.KDBX",
            // Backups.
            "index.html~",
            "settings.py~",
            "a.~1~",
            "#index.html#",
            "~$report.docx",
            "a.bak",
            "a.html.bak",
            "a.BAK",
            "a.bak2",
            "a.bk",
            "a.sav",
            "a.orig",
            "a.rej",
            "a.swp",
            "a.swo",
            "a.swn",
            "a.save",
            "a.save.1",
            "a.old",
            "a.tmp",
            "app.conf.dpkg-old",
            "app.conf.rpmsave",
            "app.ucf-dist",
            "a.js___jb_tmp___",
        ] {
            assert!(is_hidden(name.as_bytes(), true), "{name}");
        }
    }

    #[test]
    fn names_of_several_kinds_are_hidden() {
        for name in [
            "settings.py.gz",
            "settings.py.br",
            "settings.py.zst",
            "settings.py.bak",
            "settings.py.orig",
            "settings.py.1",
            "settings.py.2026-01-01",
            "settings.py_old",
            "settings.py.mine",
            "settings.py.bk",
            "settings.py.r41",
            "settings.py.theirs",
            "settings.py-20260101",
            "x.sqlite3.br",
            "x.sqlite3.tar.gz",
            "x.db.zip",
            "a.bak.gz",
            "a.html~.gz",
            "settings.py.gz.1",
            "settings.py.prod",
            "db.sqlite3.copy",
            "settings.py.",
            "db.sqlite3-wal.gz",
            ".env.gz",
            ".env.bak",
        ] {
            assert!(is_hidden(name.as_bytes(), true), "{name}");
        }
    }

    #[test]
    fn the_manual_shows_every_ending() {
        let manual = include_str!("../../docs/static-files.md");
        for ending in [PYTHON, DATABASES, BACKUPS, PACKED, KEPT].concat() {
            let shown = format!("`.{}`", String::from_utf8_lossy(ending));
            assert!(manual.contains(&shown), "{shown}");
        }
    }

    #[test]
    fn a_website_s_own_names_are_not() {
        for name in [
            ".well-known",
            "index.html",
            "app.3f2a9c71.js",
            "app.js.gz",
            "jquery-3.7.1.min.js",
            "robots.txt",
            "python.svg",
            "py",
            "happy",
            "setup.py.html",
            "highlight.py.js",
            "old.html",
            "backup.html",
            "save.svg",
            "database.json",
            "fotos.tar.gz",
            "release.zip",
            "lib.so",
            "journal",
            "my-journal",
            "wal",
            "c#.html",
            "#hash.png",
            "a~b.png",
            "1.2.3",
            "data.1",
            "data.r41",
            "index.html.mine",
            "app.r",
            "app.manifest",
            "user.db.json",
            "x.swf",
            "x.swq",
            "bak",
            "README",
            "feed.rss",
            "db",
            "tmp",
        ] {
            assert!(!is_hidden(name.as_bytes(), true), "{name}");
        }
        assert!(!is_hidden(&[b'~'; 300], true), "a name that no file has");
        // Of directories, only names that begin with a dot, and Python's own.
        for name in ["v1.bak", "site.py", "backup~", "media.db"] {
            assert!(!is_hidden(name.as_bytes(), false), "{name}");
        }
        assert!(is_hidden(b".git", false) && is_hidden(b"__PyCache__", false));
    }

    #[test]
    fn directories_that_tools_keep_links_targets_in_are_passed_through() {
        let check = |name: &str, is_last| is_hidden_target(OsStr::new(name), is_last);
        // Kubernetes mounts a ConfigMap as links through `..data`; pnpm mounts packages through
        // `.pnpm`.
        for name in ["..data", "..2026_01_01_00_00_00.123", ".pnpm"] {
            assert!(!check(name, false), "{name}");
            assert!(check(name, true), "{name}");
            assert!(is_hidden(name.as_bytes(), false), "{name} in a request");
        }
        assert!(check(".git", false) && check(".env", true) && check("settings.py", true));
        assert!(!check("releases", false) && !check("app.js", true));
    }
}
