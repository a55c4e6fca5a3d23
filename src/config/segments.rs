//! Beginnings of a path's segments in `[[location]]`: `.git`, or `.` but not `.well-known`.

use super::error::{Invalid, invalid};

/// The beginnings of segments in the paths that a location is for.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Segments {
    /// A segment begins with one of these texts; in lower case. None for every path.
    begin: Vec<String>,
    /// And with none of these.
    except: Vec<String>,
}

impl Segments {
    /// The set that texts as in `.git`, and as in `!.well-known`, describe together.
    ///
    /// # Errors
    /// [`Invalid`] for exceptions alone.
    pub fn of(texts: Vec<String>) -> Result<Self, Invalid> {
        let mut segments = Self::default();
        for text in texts {
            match text.strip_prefix('!') {
                Some(text) => segments.except.push(text.to_owned()),
                None => segments.begin.push(text),
            }
        }
        for list in [&mut segments.begin, &mut segments.except] {
            list.sort();
            list.dedup();
        }
        match segments.begin.is_empty() && !segments.except.is_empty() {
            true => Err(invalid(
                "exceptions and no segment",
                "give what they are exceptions of, as in `.`",
            )),
            false => Ok(segments),
        }
    }

    /// True for every path.
    pub fn are_all(&self) -> bool {
        self.begin.is_empty()
    }

    /// True if both name a text.
    pub fn share(&self, other: &Self) -> bool {
        self.begin.iter().any(|text| other.begin.contains(text))
    }

    /// True for a path that they are for. `has` says whether a text stands, in any case, at the beginning
    /// of the segment that it is asked about; it is asked about one segment after another.
    pub fn cover(&self, mut segments: impl Iterator<Item = impl Fn(&str) -> bool>) -> bool {
        let any = |list: &[String], has: &dyn Fn(&str) -> bool| list.iter().any(|text| has(text));
        self.are_all() || segments.any(|has| any(&self.begin, &has) && !any(&self.except, &has))
    }

    /// True for a decoded path that they are for.
    pub fn are_in(&self, path: &str) -> bool {
        let rests = path.match_indices('/').map(|(at, _)| &path[at + 1..]);
        self.cover(rests.map(|rest| {
            move |text: &str| {
                let begin = rest.as_bytes().get(..text.len());
                begin.is_some_and(|begin| begin.eq_ignore_ascii_case(text.as_bytes()))
            }
        }))
    }

    /// The texts as the setting has them.
    pub fn names(&self) -> Vec<String> {
        let except = self.except.iter().map(|text| format!("!{text}"));
        self.begin.iter().cloned().chain(except).collect()
    }
}

/// Reads the beginning of a segment, behind a `!` for an exception.
///
/// # Errors
/// [`Invalid`] for a text that no segment has.
pub fn segment_beginning(text: &str) -> Result<String, Invalid> {
    let bare = text.strip_prefix('!').unwrap_or(text);
    let is_other = |c: char| "/?#%\\".contains(c) || c.is_control();
    match bare.is_empty() || bare.contains(is_other) {
        true => Err(invalid(
            "not the beginning of a segment",
            "give the first characters behind a slash, decoded, as in `.git`",
        )),
        false => Ok(text.to_ascii_lowercase()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_a_segment_that_begins_so_and_is_no_exception() {
        let texts = [".", "wp-", "!.well-known"].map(str::to_owned);
        let segments = Segments::of(texts.to_vec()).unwrap();
        for (path, expected) in [
            ("/.git", true),
            ("/a/.git/config", true),
            ("/a/WP-admin/", true),
            ("/.well-known/x", false),
            ("/.well-known/.x", true),
            ("/a.b/c", false),
            ("/awp-", false),
            ("/", false),
        ] {
            assert_eq!(segments.are_in(path), expected, "{path}");
        }
        assert!(Segments::default().are_in("/"));
        assert!(Segments::of(vec!["!.a".to_owned()]).is_err());
        for text in ["", "!", "/a", "a/b", "a%2e", "a\\b"] {
            assert!(segment_beginning(text).is_err(), "{text}");
        }
    }
}
