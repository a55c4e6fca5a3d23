//! Paths of static files, against the rules written down a second time.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path};

use pyserve::internals::StaticLocation;
use pyserve::internals::static_files::{FilePath, Locations};

/// No path leaves its location, and no way of writing one changes what it reaches.
pub fn run(input: &[u8]) {
    let Ok(raw) = str::from_utf8(input) else {
        return;
    };
    let locations = Locations::new([
        StaticLocation::new("/static", "/srv/static"),
        StaticLocation::new("/static/admin", "/srv/admin"),
        StaticLocation::new("/my files", "/srv/files"),
    ])
    .unwrap();
    let found = locations.find(
        raw,
        pyserve::internals::routing::origin::RequestedOrigin::ANY,
    );
    let path = raw.split('?').next().unwrap();
    let whole = decoded(path);
    if let Some((location, rest)) = found {
        assert!(raw.ends_with(rest));
        let rest = decoded(rest.split('?').next().unwrap());
        if let (Some(whole), Some(rest)) = (&whole, &rest) {
            let expected = [location.prefix().as_bytes(), rest].concat();
            assert_eq!(*whole, expected, "prefix and rest are the path");
            assert!(rest.first().is_none_or(|byte| *byte == b'/'));
        }
    } else if let Some(whole) = &whole {
        let text = String::from_utf8_lossy(whole);
        for prefix in ["/static", "/my files"] {
            let behind = text.strip_prefix(prefix);
            assert!(behind.is_none_or(|rest| !rest.is_empty() && !rest.starts_with('/')));
        }
    }
    for hidden in [false, true] {
        check_file(path, whole.as_deref(), hidden);
    }
}

fn check_file(raw: &str, whole: Option<&[u8]>, hidden: bool) {
    let read = FilePath::decode(raw, hidden).ok();
    let named = whole.and_then(|whole| file(whole, hidden));
    let said = read
        .as_ref()
        .map(|path| (path.relative.clone(), path.is_directory));
    let path = named.as_ref().map(|(path, _)| path.to_string_lossy());
    let last = path.as_ref().and_then(|path| path.rsplit('/').next());
    let last = last.unwrap_or_default().to_ascii_lowercase();
    if !hidden && must_be_hidden(&last) {
        assert_eq!(said, None, "{raw:?}");
    } else if hidden || said.is_some() || !may_be_hidden(&last) {
        assert_eq!(said, named, "{raw:?}, hidden: {hidden}");
    }
    let Some(path) = read else { return };
    let below = Path::new("/srv").join(&path.relative);
    assert!(below.starts_with("/srv"));
    let mut parts = below.components().skip(1);
    assert!(
        parts.all(|part| matches!(part, Component::Normal(_))),
        "{below:?}"
    );
    // Each byte of it, written in the longest way.
    let encoded: String = whole
        .unwrap_or_default()
        .iter()
        .map(|byte| format!("%{byte:02X}"))
        .collect();
    assert_eq!(FilePath::decode(&encoded, hidden).ok(), Some(path));
}

/// RFC 3986 §2.1, once; `None` for a percent sign without two digits.
fn decoded(raw: &str) -> Option<Vec<u8>> {
    let mut parts = raw.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let digits = part
            .get(..2)
            .filter(|two| two.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        bytes.extend_from_slice(&part.as_bytes()[2..]);
    }
    Some(bytes)
}

/// Names of the manual's kinds, also packed.
fn must_be_hidden(name: &str) -> bool {
    let name = name.strip_suffix(".gz").unwrap_or(name);
    let endings = [
        ".py",
        ".pyc",
        ".sqlite3",
        ".db",
        "~",
        ".bak",
        ".orig",
        ".swp",
        ".db-journal",
        "-wal",
    ];
    endings.iter().any(|end| name.ends_with(end))
}

/// Names in which something of those kinds may be seen.
fn may_be_hidden(name: &str) -> bool {
    let words = [
        "py", "so", "sq", "db", "s3", "sl", "duck", "ba", "bk", "ol", "or", "re", "sa", "tm", "te",
        "rp", "dp", "uc", "sw",
    ];
    let mut endings = name.split('.').skip(1);
    let is_known = |end: &str| words.iter().any(|word| end.starts_with(word));
    name.contains(['~', '#', '-']) || name.contains("___jb") || endings.any(is_known)
}

/// The file that a decoded path names, if names such as `.env` are not to be served.
fn file(whole: &[u8], hidden: bool) -> Option<(OsString, bool)> {
    let names = whole.split(|byte| *byte == b'/');
    let names: Vec<&[u8]> = names.filter(|name| !name.is_empty()).collect();
    let is_refused = |name: &&[u8]| match hidden {
        true => *name == b"." || *name == b"..",
        false => name.starts_with(b".") && *name != b".well-known" || *name == b"__pycache__",
    };
    let is_bad = whole.contains(&0) || names.iter().any(is_refused);
    (!is_bad).then(|| {
        let path = OsString::from_vec(names.join(&b'/'));
        (path, whole.ends_with(b"/"))
    })
}
